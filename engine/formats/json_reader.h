#pragma once
/// The parser behind parse_json; nothing else includes it. One use, one thread.

#include <string>
#include <string_view>

#include "engine/formats/json.h"
#include "engine/schema/value.h"

namespace ft {

class JsonReader {
 public:
  JsonReader(std::string_view text, const std::string& file, const JsonOptions& options)
      : text_(text), file_(file), options_(options), line_(options.first_line) {}

  Value read();

 private:
  Value value(int depth);
  Value map(int depth);
  Value list(int depth);
  Value number();
  Value word();
  std::string string();
  void escape(std::string& out);
  unsigned hex4();
  void utf8(std::string& out);
  void settle_duplicates(Value::Map& map) const;

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space();
  void expect(char c, const char* where);
  Value placed(Value value, int line) const;
  [[noreturn]] void fail(const std::string& message) const;
  std::string here() const;

  std::string_view text_;
  const std::string& file_;
  const JsonOptions& options_;
  size_t at_ = 0;
  int line_;
};

}  // namespace ft
