#pragma once
/// Single entries of a JSON object changed in its text: all else keeps its bytes, numbers that Value could not hold
/// included. For files of other tools that are written again (tokenizer.json, generation_config.json). One thread.

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "engine/schema/value.h"

namespace ft {

class JsonEdit {
 public:
  /// @param text a JSON object   @param file named in messages   @throws Error(format) for text that is none
  JsonEdit(std::string text, std::string file);

  /// The entry's value, or null where there is none; of one that stands twice the last.
  Value get(std::string_view key) const;
  /// Puts a value in the place of the entry's, or appends the entry.
  void set(std::string_view key, const Value& value);
  const std::string& text() const { return text_; }

 private:
  struct Range {
    size_t begin = 0, end = 0;
  };
  std::optional<Range> find(std::string_view key) const;
  size_t skip_space(size_t at) const;
  size_t skip_value(size_t at) const;
  size_t skip_string(size_t at) const;
  [[noreturn]] void fail() const;

  std::string text_, file_;
};

}  // namespace ft
