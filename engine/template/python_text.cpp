#include "engine/template/python_text.h"

#include <utf8proc.h>

#include <charconv>
#include <cmath>

#include "engine/template/case_tables.h"
#include "engine/text/unicode.h"

namespace ft::jinja {
namespace {

using unicode::append_utf8;
using unicode::next_char;
using unicode::previous_char;

bool is_line_end(uint32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

utf8proc_category_t category(uint32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
bool is_upper(uint32_t c) { return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0; }
bool is_lower(uint32_t c) { return utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0; }
bool is_titlecase(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
bool is_cased(uint32_t c) { return is_upper(c) || is_lower(c) || is_titlecase(c); }

/// Unicode's Case_Ignorable, as far as a final sigma needs it.
bool is_case_ignorable(uint32_t c) {
  const auto kind = category(c);
  return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xB7 || c == 0x2019 ||
         kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_CF ||
         kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_SK;
}

void append_special(std::string& out, uint32_t c, const SpecialCase* table, size_t size, uint32_t simple) {
  for (size_t i = 0; i < size; ++i)
    if (table[i].from == c) {
      for (const uint32_t to : table[i].to)
        if (to != 0) append_utf8(out, to);
      return;
    }
  append_utf8(out, simple);
}

void append_upper(std::string& out, uint32_t c) {
  if (c < 0x80)
    out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  else
    append_special(out, c, kSpecialUpper, kNumSpecialUpper,
                   static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

void append_title(std::string& out, uint32_t c) {
  append_special(out, c, kSpecialTitle, kNumSpecialTitle,
                 static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

bool is_final_sigma(std::string_view text, size_t begin, size_t end) {
  bool before = false, after = false;
  for (size_t at = begin; at > 0;) {
    const uint32_t c = previous_char(text, at);
    if (is_case_ignorable(c)) continue;
    before = is_cased(c);
    break;
  }
  for (size_t at = end; at < text.size();) {
    const uint32_t c = next_char(text, at);
    if (is_case_ignorable(c)) continue;
    after = is_cased(c);
    break;
  }
  return before && !after;
}

void append_lower(std::string& out, std::string_view text, size_t begin, size_t end, uint32_t c) {
  constexpr uint32_t kSigma = 0x3A3, kFinalSigma = 0x3C2, kDottedI = 0x130;
  if (c < 0x80)
    out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  else if (c == kDottedI)
    out += "i\xCC\x87";
  else if (c == kSigma && is_final_sigma(text, begin, end))
    append_utf8(out, kFinalSigma);
  else
    append_utf8(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

}  // namespace

bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_printable(uint32_t c) {
  if (c < 0x7F) return c >= 0x20;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_identifier_char(uint32_t c, bool first) {
  if (c < 0x80) return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (!first && c >= '0' && c <= '9');
  const auto kind = category(c);
  if (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO) return true;
  if (kind == UTF8PROC_CATEGORY_NL) return true;
  return !first && (kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC || kind == UTF8PROC_CATEGORY_ND ||
                    kind == UTF8PROC_CATEGORY_PC);
}

int64_t count_chars(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (c & 0xC0) != 0x80;
  return count;
}

std::vector<size_t> char_starts(std::string_view text) {
  std::vector<size_t> starts;
  starts.reserve(text.size() + 1);
  for (size_t i = 0; i < text.size(); ++i)
    if ((text[i] & 0xC0) != 0x80) starts.push_back(i);
  starts.push_back(text.size());
  return starts;
}

std::string_view strip(std::string_view text, Strip side, const std::string_view* chars) {
  const auto goes = [&](uint32_t c) {
    if (!chars) return is_space(c);
    for (size_t at = 0; at < chars->size();)
      if (next_char(*chars, at) == c) return true;
    return false;
  };
  size_t begin = 0, end = text.size();
  if (static_cast<int>(side) & static_cast<int>(Strip::left))
    while (begin < end) {
      size_t next = begin;
      if (!goes(next_char(text, next))) break;
      begin = next;
    }
  if (static_cast<int>(side) & static_cast<int>(Strip::right))
    while (end > begin) {
      size_t before = end;
      if (!goes(previous_char(text, before))) break;
      end = before;
    }
  return text.substr(begin, end - begin);
}

std::string upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) append_upper(out, next_char(text, at));
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t c = next_char(text, at);
    append_lower(out, text, begin, at, c);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t c = next_char(text, at);
    if (begin == 0)
      append_title(out, c);
    else
      append_lower(out, text, begin, at, c);
  }
  return out;
}

std::string title(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t c = next_char(text, at);
    if (in_word)
      append_lower(out, text, begin, at, c);
    else
      append_title(out, c);
    in_word = is_cased(c);
  }
  return out;
}

std::string swapcase(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t c = next_char(text, at);
    if (is_upper(c))
      append_lower(out, text, begin, at, c);
    else if (is_lower(c))
      append_upper(out, c);
    else
      append_utf8(out, c);
  }
  return out;
}

std::vector<std::string_view> split_space(std::string_view text, int64_t most) {
  std::vector<std::string_view> parts;
  text = strip(text, Strip::left);
  while (!text.empty()) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(strip(text, Strip::right));
      break;
    }
    size_t end = 0;
    for (size_t at = 0; at < text.size(); end = at)
      if (is_space(next_char(text, at))) break;
    parts.push_back(text.substr(0, end));
    text = strip(text.substr(end), Strip::left);
  }
  return parts;
}

std::vector<std::string_view> rsplit_space(std::string_view text, int64_t most) {
  std::vector<std::string_view> parts;
  text = strip(text, Strip::right);
  while (!text.empty()) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(strip(text, Strip::left));
      break;
    }
    size_t begin = text.size();
    for (size_t at = text.size(); at > 0; begin = at)
      if (is_space(previous_char(text, at))) break;
    parts.push_back(text.substr(begin));
    text = strip(text.substr(0, begin), Strip::right);
  }
  return {parts.rbegin(), parts.rend()};
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator, int64_t most) {
  std::vector<std::string_view> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = text.find(separator);
    if (at == std::string_view::npos) break;
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<std::string_view> rsplit_at(std::string_view text, std::string_view separator, int64_t most) {
  std::vector<std::string_view> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = text.rfind(separator);
    if (at == std::string_view::npos) break;
    parts.push_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts.push_back(text);
  return {parts.rbegin(), parts.rend()};
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const uint32_t c = next_char(text, at);
    if (!is_line_end(c)) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t most) {
  std::string out;
  if (from.empty()) {  // between all characters, and at both ends
    for (size_t at = 0; most != 0; --most) {
      out += to;
      if (at >= text.size()) return out;
      append_utf8(out, next_char(text, at));
      if (most == 1) return out.append(text.substr(at));
    }
    return std::string(text);
  }
  for (; most != 0; --most) {
    const size_t at = text.find(from);
    if (at == std::string_view::npos) break;
    out.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  return out.append(text);
}

std::string repr(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  const bool doubled = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = doubled ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const uint32_t c = next_char(text, at);
    if (c == static_cast<uint32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c)) {
      append_utf8(out, c);
    } else {
      const int digits = c <= 0xFF ? 2 : c <= 0xFFFF ? 4 : 8;
      out += digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
      for (int i = digits - 1; i >= 0; --i) out += kHex[(c >> (4 * i)) & 0xF];
    }
  }
  return out += quote;
}

std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, number, std::chars_format::scientific).ptr;
  std::string_view shortest(text, static_cast<size_t>(end - text));
  std::string out;
  if (shortest.front() == '-') {
    out = "-";
    shortest.remove_prefix(1);
  }
  const size_t e = shortest.find('e');
  int exponent = 0;
  const std::string_view power = shortest.substr(e + (shortest[e + 1] == '+' ? 2 : 1));
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  std::string digits(shortest.substr(0, 1));
  if (e > 1) digits += shortest.substr(2, e - 2);
  constexpr int kLeast = -4, kMost = 16;  // float_repr_style 'short': an exponent outside [-4, 16)
  const auto size = static_cast<int>(digits.size());
  if (exponent < kLeast || exponent >= kMost) {
    out += digits[0];
    if (size > 1) out += "." + digits.substr(1);
    out += exponent < 0 ? "e-" : "e+";
    const std::string magnitude = std::to_string(std::abs(exponent));
    return out += magnitude.size() < 2 ? "0" + magnitude : magnitude;
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (size <= exponent + 1) return out + digits + std::string(static_cast<size_t>(exponent + 1 - size), '0') + ".0";
  return out + digits.substr(0, static_cast<size_t>(exponent) + 1) + "." +
         digits.substr(static_cast<size_t>(exponent) + 1);
}

bool is_all(std::string_view text, std::string_view what) {
  if (what == "upper" || what == "lower") {  // no character of the other case, and one of this
    bool any = false;
    for (size_t at = 0; at < text.size();) {
      const uint32_t c = next_char(text, at);
      const bool right = what == "upper" ? is_upper(c) : is_lower(c);
      if (!right && is_cased(c)) return false;
      any |= right;
    }
    return any;
  }
  for (size_t at = 0; at < text.size();) {
    const uint32_t c = next_char(text, at);
    const auto kind = category(c);
    const bool letter = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
    const bool decimal = kind == UTF8PROC_CATEGORY_ND;
    const bool number = decimal || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
    const bool right = what == "alpha"     ? letter
                       : what == "space"   ? is_space(c)
                       : what == "numeric" ? number
                       : what == "alnum"   ? letter || number
                                           : decimal;
    if (!right) return false;
  }
  return !text.empty();
}

}  // namespace ft::jinja
