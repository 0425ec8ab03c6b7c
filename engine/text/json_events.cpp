#include "engine/text/json_events.h"

#include <algorithm>

#include "engine/error/error.h"

namespace ft {

bool JsonEvents::number_unsigned(uint64_t v) {
  return v <= static_cast<uint64_t>(INT64_MAX) ? put(Value(static_cast<int64_t>(v)))
                                               : put(Value(static_cast<double>(v)));
}

bool JsonEvents::key(std::string& name) {
  stack_.back().key = std::move(name);
  return true;
}

bool JsonEvents::put(Value value) {
  value.origin = origin_;
  if (stack_.empty()) {
    result = std::move(value);
  } else if (Frame& top = stack_.back(); top.value.is_list()) {
    top.value.as_list().push_back(std::move(value));
  } else {
    top.value.set(top.key, std::move(value));
  }
  return true;
}

bool JsonEvents::open(Value value) {
  constexpr size_t kDeepest = 256;  // values are freed recursively: a hostile file must not exhaust the stack
  if (stack_.size() >= kDeepest) {
    error = "more than 256 lists and maps inside each other";
    return false;
  }
  value.origin = origin_;
  stack_.push_back({std::move(value), {}});
  return true;
}

bool JsonEvents::close() {
  Value value = std::move(stack_.back().value);
  stack_.pop_back();
  return put(std::move(value));
}

bool JsonEvents::parse_error(size_t position, const std::string&, const nlohmann::json::exception& fault) {
  error_position = position;
  error = fault.what();
  const size_t tag = error.find("] ");  // "[json.exception.parse_error.101] parse error at line 1, column 5: …"
  if (tag != std::string::npos) error.erase(0, tag + 2);
  const size_t place = error.find(": ");
  if (error.starts_with("parse error at") && place != std::string::npos) error.erase(0, place + 2);
  return false;
}

void throw_json_error(const JsonEvents& events, std::string_view text, const Origin& origin) {
  Origin at = origin;
  const size_t position = std::min(events.error_position > 0 ? events.error_position - 1 : 0, text.size());
  at.line = std::max(origin.line, 1) + static_cast<int>(std::count(text.begin(), text.begin() + position, '\n'));
  throw Error(ErrorKind::format, "not valid JSON: " + events.error).at(at.str());
}

}  // namespace ft
