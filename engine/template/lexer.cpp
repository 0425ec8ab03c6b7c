#include <charconv>
#include <cstdlib>
#include <optional>

#include "engine/template/budget.h"
#include "engine/template/python_text.h"
#include "engine/template/syntax.h"
#include "engine/text/unicode.h"

namespace ft::jinja {
namespace {

using Is = Token::Is;

[[noreturn]] void syntax_error(std::string message) { raise("TemplateSyntaxError", std::move(message)); }

/// Line ends as "\n", and without the last one.
std::string normal_lines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normal_lines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text();
    add(Is::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool starts(std::string_view s) const { return rest().starts_with(s); }
  void add(Is is, std::string text) { tokens_.push_back({is, line_, std::move(text), {}}); }

  void advance(size_t to) {
    for (; at_ < to; ++at_) line_ += source_[at_] == '\n';
  }

  size_t behind_space(size_t at) const {
    while (at < source_.size()) {
      size_t next = at;
      if (!is_space(unicode::next_char(source_, next))) break;
      at = next;
    }
    return at;
  }

  /// Text up to the next tag, and the tag's beginning.
  void text() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) return last_text();
      const char kind = source_[tag + 1];
      if (kind == '{' || kind == '%' || kind == '#') break;
    }
    const char kind = source_[tag + 1];
    size_t inside = tag + 2;
    const char sign =
        inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+') ? source_[inside] : 0;
    if (sign) ++inside;
    data(std::string_view(source_).substr(at_, tag - at_), sign, kind == '{');
    advance(inside);
    starting_ = false;
    if (kind == '#') return comment();
    if (kind == '%' && raw()) return;
    add(kind == '{' ? Is::variable_begin : Is::block_begin, "");
    expression(kind);
  }

  void last_text() {
    add(Is::data, source_.substr(at_));
    at_ = source_.size();
  }

  /// Text before a tag, stripped as the tag asks.
  void data(std::string_view text, char sign, bool variable) {
    if (sign == '-') {
      text = strip(text, Strip::right);
    } else if (sign != '+' && !variable) {
      const size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
      if ((line > 0 || starting_) && strip(text.substr(line), Strip::both).empty()) text = text.substr(0, line);
    }
    if (!text.empty()) add(Is::data, std::string(text));
  }

  /// The end of a tag: "-" takes the white space behind it, "+" nothing, else (of blocks and comments) one line end.
  void close(size_t at, char sign, bool trims) {
    size_t end = at;
    if (sign == '-')
      end = behind_space(at);
    else if (sign != '+' && trims && at < source_.size() && source_[at] == '\n')
      ++end;
    advance(end);
    starting_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (at_ >= source_.size()) return;  // jinja2 takes a template that ends with "{#"
    if (end == std::string::npos) syntax_error("Missing end of comment tag");
    const char sign = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+') ? source_[end - 1] : 0;
    close(end + 2, sign, true);
  }

  /// {% raw %}…{% endraw %}, the beginning of its tag read already.
  bool raw() {
    size_t at = behind_space(at_);
    if (source_.compare(at, 3, "raw") != 0) return false;
    at = behind_space(at + 3);
    const bool strips = at < source_.size() && source_[at] == '-';
    if (source_.compare(at + strips, 2, "%}") != 0) return false;
    close(at + strips + 2, strips ? '-' : 0, false);
    for (size_t tag = at_;; ++tag) {
      if (at_ >= source_.size()) return true;
      tag = source_.find("{%", tag);
      if (tag == std::string::npos) syntax_error("Missing end of raw directive");
      size_t inside = tag + 2;
      const char sign =
          inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+') ? source_[inside] : 0;
      inside = behind_space(inside + (sign != 0));
      if (source_.compare(inside, 6, "endraw") != 0) continue;
      inside = behind_space(inside + 6);
      const char end =
          inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+') ? source_[inside] : 0;
      inside += end != 0;
      if (source_.compare(inside, 2, "%}") != 0) continue;
      data(std::string_view(source_).substr(at_, tag - at_), sign, false);
      advance(tag);
      close(inside + 2, end, true);
      return true;
    }
  }

  void expression(char kind) {
    const std::string_view closing = kind == '{' ? "}}" : "%}";
    open_.clear();
    while (true) {
      if (open_.empty()) {
        const char sign = starts("-") || (kind == '%' && starts("+")) ? source_[at_] : 0;
        if (rest().substr(sign != 0).starts_with(closing)) {
          add(kind == '{' ? Is::variable_end : Is::block_end, "");
          return close(at_ + 2 + (sign != 0), sign, kind == '%');
        }
      }
      if (at_ >= source_.size()) return;  // the parser says what is missing
      const size_t space = behind_space(at_);
      if (space > at_)
        advance(space);
      else if (!number() && !name() && !string())
        sign();
    }
  }

  /// Digits with single underscores between them.
  static size_t digits(std::string_view text, size_t at, const char* allowed = "0123456789") {
    const std::string_view set(allowed);
    size_t end = at;
    while (end < text.size()) {
      if (set.find(text[end]) != set.npos)
        ++end;
      else if (text[end] == '_' && end > at && end + 1 < text.size() && set.find(text[end + 1]) != set.npos)
        ++end;
      else
        break;
    }
    return end;
  }

  std::string without_underscores(size_t begin, size_t end) const {
    std::string out;
    for (size_t i = begin; i < end; ++i)
      if (source_[i] != '_') out += source_[i];
    return out;
  }

  bool number() {
    const std::string_view text = source_;
    const size_t whole = digits(text, at_);
    if (whole == at_) return false;
    size_t end = whole;
    bool real = false;
    if (at_ == 0 || text[at_ - 1] != '.') {
      if (end < text.size() && text[end] == '.' && digits(text, end + 1) > end + 1) {
        real = true;
        end = digits(text, end + 1);
      }
      if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
        size_t exponent = end + 1;
        if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
        if (digits(text, exponent) > exponent) {
          real = true;
          end = digits(text, exponent);
        }
      }
    }
    if (real) {
      const std::string spelled = without_underscores(at_, end);
      add(Is::number, spelled);
      tokens_.back().value = Datum::number(std::strtod(spelled.c_str(), nullptr));
      advance(end);
      return true;
    }
    integer(whole);
    return true;
  }

  void integer(size_t end) {
    const std::string_view text = source_;
    int base = 10;
    size_t begin = at_;
    if (text[at_] == '0' && at_ + 1 < text.size()) {
      const char mark = static_cast<char>(text[at_ + 1] | 0x20);
      const char* set = mark == 'x'   ? "0123456789abcdefABCDEF"
                        : mark == 'o' ? "01234567"
                        : mark == 'b' ? "01"
                                      : nullptr;
      const size_t first = set ? at_ + 2 + (at_ + 2 < text.size() && text[at_ + 2] == '_') : 0;
      if (set && digits(text, first, set) > first) {
        base = mark == 'x' ? 16 : mark == 'o' ? 8 : 2;
        begin = first;
        end = digits(text, first, set);
      } else {  // a zero stands alone: "01" is two numbers
        end = at_;
        while (end < text.size() &&
               (text[end] == '0' || (text[end] == '_' && end + 1 < text.size() && text[end + 1] == '0')))
          ++end;
      }
    }
    const std::string spelled = without_underscores(begin, end);
    int64_t value = 0;
    const auto read = std::from_chars(spelled.data(), spelled.data() + spelled.size(), value, base);
    if (read.ec != std::errc()) syntax_error("integer " + spelled + " has more than 64 bits, which this engine lacks");
    add(Is::integer, spelled);
    tokens_.back().value = Datum::integer(value);
    advance(end);
  }

  bool name() {
    size_t end = at_;
    while (end < source_.size()) {
      size_t next = end;
      if (!is_identifier_char(unicode::next_char(source_, next), end == at_)) break;
      end = next;
    }
    if (end == at_) return false;
    add(Is::name, source_.substr(at_, end - at_));
    advance(end);
    return true;
  }

  bool string() {
    const char quote = source_[at_];
    if (quote != '\'' && quote != '"') return false;
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return false;
    add(Is::string, unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    advance(end + 1);
    return true;
  }

  static uint32_t code_point(std::string_view text, size_t at, size_t count, const char* what) {
    uint32_t c = 0;
    const std::string_view spelled = text.substr(std::min(at, text.size()), count);
    const auto read = std::from_chars(spelled.data(), spelled.data() + spelled.size(), c, 16);
    if (spelled.size() < count || read.ptr != spelled.data() + count) syntax_error(what);
    if (c > unicode::kLastCodePoint) syntax_error("illegal Unicode character");
    if (c >= 0xD800 && c <= 0xDFFF) syntax_error("a lone surrogate in a string, which this engine lacks");
    return c;
  }

  /// Python's "unicode-escape" codec.
  static std::string unescape(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
      if (const size_t plain = kFrom.find(c); plain != kFrom.npos) {
        out += kTo[plain];
      } else if (c == '\n') {
      } else if (c == 'x') {
        unicode::append_utf8(out, code_point(text, i + 1, 2, "truncated \\xXX escape"));
        i += 2;
      } else if (c == 'u' || c == 'U') {
        const size_t count = c == 'u' ? 4 : 8;
        unicode::append_utf8(out, code_point(text, i + 1, count,
                                             c == 'u' ? "truncated \\uXXXX escape" : "truncated \\UXXXXXXXX escape"));
        i += count;
      } else if (c >= '0' && c <= '7') {
        uint32_t value = 0;
        size_t count = 0;
        for (; count < 3 && i + count < text.size() && text[i + count] >= '0' && text[i + count] <= '7'; ++count)
          value = value * 8 + static_cast<uint32_t>(text[i + count] - '0');
        unicode::append_utf8(out, value);
        i += count - 1;
      } else if (c == 'N') {
        syntax_error("\\N{…} in a string, which this engine lacks");
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  void sign() {
    static constexpr std::string_view kSigns[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                  "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                  ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view s : kSigns) {
      if (!starts(s)) continue;
      balance(s[0]);
      add(Is::sign, std::string(s));
      return advance(at_ + s.size());
    }
    size_t end = at_;
    unicode::next_char(source_, end);
    syntax_error("unexpected char " + repr(std::string_view(source_).substr(at_, end - at_)) + " at " +
                 std::to_string(count_chars(std::string_view(source_).substr(0, at_))));
  }

  void balance(char c) {
    static constexpr std::string_view kOpen = "{([", kClose = "})]";
    if (const size_t i = kOpen.find(c); i != kOpen.npos) open_ += kClose[i];
    if (kClose.find(c) == kClose.npos) return;
    if (open_.empty()) syntax_error(std::string("unexpected '") + c + "'");
    if (open_.back() != c) syntax_error(std::string("unexpected '") + c + "', expected '" + open_.back() + "'");
    open_.pop_back();
  }

  std::string source_;
  std::vector<Token> tokens_;
  std::string open_;  // the brackets that wait to be closed
  size_t at_ = 0;
  int line_ = 1;
  bool starting_ = true;  // at the beginning of a line, or of the text
};

}  // namespace

std::vector<Token> lex(std::string_view source) { return Lexer(source).run(); }

}  // namespace ft::jinja
