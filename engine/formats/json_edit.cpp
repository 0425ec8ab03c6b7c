#include "engine/formats/json_edit.h"

#include <algorithm>

#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {

JsonEdit::JsonEdit(std::string text, std::string file) : text_(std::move(text)), file_(std::move(file)) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text_.starts_with(kByteOrderMark)) text_.erase(0, kByteOrderMark.size());
  find("");  // a walk over all entries
}

void JsonEdit::fail() const { throw Error(ErrorKind::format, "is not a JSON object").at(file_); }

size_t JsonEdit::skip_space(size_t at) const { return std::min(text_.find_first_not_of(" \t\r\n", at), text_.size()); }

/// @param at of the opening quote   @return behind the closing one
size_t JsonEdit::skip_string(size_t at) const {
  for (++at; at < text_.size() && text_[at] != '"'; ++at) at += text_[at] == '\\';
  if (at >= text_.size()) fail();
  return at + 1;
}

// Looks at brackets and strings alone: who reads the value sees to the rest.
size_t JsonEdit::skip_value(size_t at) const {
  int depth = 0;
  while (at < text_.size()) {
    const char c = text_[at];
    if (depth == 0 && (c == ',' || c == '}' || c == ']')) return at;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    at = c == '"' ? skip_string(at) : at + 1;
  }
  fail();
}

std::optional<JsonEdit::Range> JsonEdit::find(std::string_view key) const {
  std::optional<Range> found;
  size_t at = skip_space(0);
  if (at >= text_.size() || text_[at] != '{') fail();
  at = skip_space(at + 1);
  while (at < text_.size() && text_[at] != '}') {
    if (text_[at] != '"') fail();
    const size_t end = skip_string(at);
    const bool wanted = parse_json(std::string_view(text_).substr(at, end - at), file_) == Value(std::string(key));
    at = skip_space(end);
    if (at >= text_.size() || text_[at] != ':') fail();
    const size_t begin = skip_space(at + 1);
    at = skip_value(begin);
    if (wanted) found = Range{begin, text_.find_last_not_of(" \t\r\n", at - 1) + 1};
    if (text_[at] == ',') at = skip_space(at + 1);
  }
  if (at >= text_.size()) fail();
  return found;
}

Value JsonEdit::get(std::string_view key) const {
  const auto range = find(key);
  if (!range) return {};
  return parse_json(std::string_view(text_).substr(range->begin, range->end - range->begin), file_);
}

void JsonEdit::set(std::string_view key, const Value& value) {
  std::string written;
  for (const char c : write_json(value, 2)) written += c == '\n' ? "\n  " : std::string(1, c);
  if (const auto range = find(key)) {
    text_.replace(range->begin, range->end - range->begin, written);
    return;
  }
  const size_t close = text_.rfind('}');
  const size_t last = text_.find_last_not_of(" \t\r\n", close - 1);
  text_.replace(last + 1, close - last - 1,
                std::string(text_[last] == '{' ? "" : ",") + "\n  " + write_json(Value(std::string(key))) + ": " +
                    written + "\n");
}

}  // namespace ft
