#include "engine/formats/json_reader.h"

#include <cctype>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <string>
#include <unordered_map>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr int kMaxDepth = 500;  // deep enough for any file of ours, shallow enough for a thread's stack

bool digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, unsigned code) {
  const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6)), put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12)), put(0x80 | ((code >> 6) & 0x3F)), put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18)), put(0x80 | ((code >> 12) & 0x3F)), put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

}  // namespace

Value JsonReader::read() {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text_.substr(0, kByteOrderMark.size()) == kByteOrderMark) at_ = kByteOrderMark.size();
  skip_space();
  if (at_ == text_.size()) fail("is empty, want JSON");
  Value result = value(0);
  skip_space();
  if (at_ != text_.size()) fail("got " + here() + " after the end of the JSON value");
  return result;
}

Value JsonReader::value(int depth) {
  if (depth > kMaxDepth) fail("is nested deeper than " + std::to_string(kMaxDepth) + " levels");
  const int line = line_;
  switch (peek()) {
    case '{':
      return placed(map(depth), line);
    case '[':
      return placed(list(depth), line);
    case '"':
      return placed(Value(string()), line);
    case '-':
      return placed(text_.substr(at_, 9) == "-Infinity" ? word() : number(), line);
    default:
      return placed(digit(peek()) ? number() : word(), line);
  }
}

Value JsonReader::map(int depth) {
  Value::Map entries;
  ++at_;
  skip_space();
  while (peek() != '}') {
    if (!entries.empty()) {
      expect(',', "or '}' after a value");
      skip_space();
    }
    if (peek() != '"') fail("got " + here() + ", want a key in double quotes");
    std::string key = string();
    skip_space();
    expect(':', "after a key");
    skip_space();
    entries.emplace_back(std::move(key), value(depth + 1));
    skip_space();
  }
  ++at_;
  settle_duplicates(entries);
  return Value(std::move(entries));
}

// Refuses a key that stands twice, or keeps its last value at its first place, as Python does.
void JsonReader::settle_duplicates(Value::Map& map) const {
  std::unordered_map<std::string, size_t> first;
  first.reserve(map.size());
  size_t kept = 0;
  for (size_t i = 0; i < map.size(); ++i) {
    const auto [seen, is_new] = first.try_emplace(map[i].first, kept);
    if (!is_new && options_.refuse_duplicates)
      throw Error(ErrorKind::format, "key '" + map[i].first + "' stands twice")
          .at(options_.origins ? map[i].second.origin.str() : Origin{file_, line_}.str());
    if (!is_new) {
      map[seen->second].second = std::move(map[i].second);
    } else {
      if (kept != i) map[kept] = std::move(map[i]);
      ++kept;
    }
  }
  map.resize(kept);
}

Value JsonReader::list(int depth) {
  Value::List items;
  ++at_;
  skip_space();
  while (peek() != ']') {
    if (!items.empty()) {
      expect(',', "or ']' after a value");
      skip_space();
    }
    items.push_back(value(depth + 1));
    skip_space();
  }
  ++at_;
  return Value(std::move(items));
}

Value JsonReader::number() {
  const size_t begin = at_;
  const auto digits = [&] {
    if (!digit(peek())) fail("got " + here() + ", want a digit");
    while (digit(peek())) ++at_;
  };
  if (peek() == '-') ++at_;
  if (peek() == '0' && at_ + 1 < text_.size() && digit(text_[at_ + 1])) fail("got a number with a leading zero");
  digits();
  bool integer = true;
  if (peek() == '.') ++at_, digits(), integer = false;
  if (peek() == 'e' || peek() == 'E') {
    ++at_, integer = false;
    if (peek() == '+' || peek() == '-') ++at_;
    digits();
  }
  const char *first = text_.data() + begin, *last = text_.data() + at_;
  int64_t whole = 0;
  if (integer && std::from_chars(first, last, whole).ec == std::errc()) return Value(whole);
  double real = 0;
  if (std::from_chars(first, last, real).ec == std::errc::result_out_of_range)
    real = std::strtod(std::string(first, last).c_str(), nullptr);  // ±inf or 0, as Python reads it
  return Value(real);
}

Value JsonReader::word() {
  const size_t begin = at_;
  if (peek() == '-') ++at_;
  while (at_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[at_]))) ++at_;
  const std::string_view got = text_.substr(begin, at_ - begin);
  if (got == "true") return Value(true);
  if (got == "false") return Value(false);
  if (got == "null") return Value();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (got == "NaN") return Value(std::numeric_limits<double>::quiet_NaN());
  if (got == "Infinity") return Value(kInfinity);
  if (got == "-Infinity") return Value(-kInfinity);
  at_ = begin;
  fail("got " + here() + ", want a value");
}

std::string JsonReader::string() {
  std::string out;
  ++at_;
  while (true) {
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' && text_[at_] >= 0x20 && text_[at_] != 0x7F)
      ++at_;
    out.append(text_, begin, at_ - begin);
    if (at_ == text_.size()) fail("ends inside a string");
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '"') break;
    if (c == '\\') {
      escape(out);
    } else if (c == 0x7F) {
      out += text_[at_++];
    } else if (c < 0x20) {
      fail("got a bare control character in a string, want \\n, \\t or \\u00XX");
    } else {
      utf8(out);
    }
  }
  ++at_;
  return out;
}

void JsonReader::escape(std::string& out) {
  ++at_;
  const char c = peek();
  ++at_;
  switch (c) {
    case '"':
    case '\\':
    case '/':
      out += c;
      return;
    case 'b':
      out += '\b';
      return;
    case 'f':
      out += '\f';
      return;
    case 'n':
      out += '\n';
      return;
    case 'r':
      out += '\r';
      return;
    case 't':
      out += '\t';
      return;
    case 'u':
      break;
    default:
      fail(std::string("got the escape \\") + c + ", which JSON does not have");
  }
  unsigned code = hex4();
  if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
    at_ += 2;
    const unsigned low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("got half of a surrogate pair in a string");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  } else if (code >= 0xD800 && code <= 0xDFFF) {
    fail("got half of a surrogate pair in a string");
  }
  append_utf8(out, code);
}

unsigned JsonReader::hex4() {
  unsigned code = 0;
  const std::string_view digits = text_.substr(at_, 4);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
  if (error != std::errc() || digits.size() < 4 || end != digits.data() + 4) fail("got \\u without four hex digits");
  at_ += 4;
  return code;
}

void JsonReader::utf8(std::string& out) {
  const auto byte = [&](size_t i) { return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0u; };
  const unsigned lead = byte(0);
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  unsigned code = lead & (0x7Fu >> length);
  bool valid = lead >= 0xC2 && lead <= 0xF4;
  for (size_t i = 1; i < length; ++i) {
    valid = valid && (byte(i) & 0xC0) == 0x80;
    code = code << 6 | (byte(i) & 0x3F);
  }
  constexpr unsigned kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (!valid || code < kSmallest[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
    fail("is not UTF-8 (byte " + std::to_string(at_) + ")");
  out.append(text_, at_, length);
  at_ += length;
}

void JsonReader::skip_space() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '\n')
      ++line_;
    else if (c != ' ' && c != '\t' && c != '\r')
      return;
    ++at_;
  }
}

void JsonReader::expect(char c, const char* where) {
  if (peek() != c || at_ == text_.size()) fail("got " + here() + ", want '" + c + "' " + where);
  ++at_;
}

Value JsonReader::placed(Value value, int line) const {
  if (options_.origins) value.origin = {file_, line};
  return value;
}

std::string JsonReader::here() const {
  if (at_ >= text_.size()) return "the end of the text";
  const auto c = static_cast<unsigned char>(text_[at_]);
  if (c < 0x20 || c >= 0x7F) return "byte " + std::to_string(c);
  size_t end = at_ + 1;
  while (end < text_.size() && end < at_ + 20 && std::isalnum(static_cast<unsigned char>(text_[end]))) ++end;
  return "'" + std::string(text_.substr(at_, std::isalnum(c) || c == '-' ? end - at_ : 1)) + "'";
}

void JsonReader::fail(const std::string& message) const {
  throw Error(ErrorKind::format, message).at(Origin{file_, line_}.str());
}

}  // namespace ft
