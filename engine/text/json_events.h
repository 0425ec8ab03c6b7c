#pragma once
/// What nlohmann's event parser needs to build an ft::Value, for json.cpp and for readers that take a part of the
/// events themselves. Not included by other folders: nlohmann's header is heavy.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit JsonEvents(Origin origin) : origin_(std::move(origin)) {}

  bool null() override { return put(Value()); }
  bool boolean(bool v) override { return put(Value(v)); }
  bool number_integer(int64_t v) override { return put(Value(v)); }
  bool number_unsigned(uint64_t v) override;
  bool number_float(double v, const std::string&) override { return put(Value(v)); }
  bool string(std::string& v) override { return put(Value(std::move(v))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool key(std::string& name) override;
  bool start_object(size_t) override { return open(Value(Value::Map())); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(Value(Value::List())); }
  bool end_array() override { return close(); }
  bool parse_error(size_t position, const std::string& last, const nlohmann::json::exception& error) override;

  /// Parses; false after a fault.
  bool run(std::string_view text) { return nlohmann::json::sax_parse(text.begin(), text.end(), this); }
  size_t depth() const { return stack_.size(); }
  Value result;
  size_t error_position = 0;  ///< byte, 1-based
  std::string error;

 private:
  bool put(Value value);
  bool open(Value value);
  bool close();

  struct Frame {
    Value value;
    std::string key;
  };
  std::vector<Frame> stack_;
  Origin origin_;
};

/// Throws Error(format) for `events`' fault in `text`, at its line.
[[noreturn]] void throw_json_error(const JsonEvents& events, std::string_view text, const Origin& origin);

}  // namespace ft
