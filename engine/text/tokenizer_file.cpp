#include "engine/text/tokenizer_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

/// Walks the file's text to model.vocab and model.merges, takes them, and leaves the rest of it to parse_json.
class Scanner {
 public:
  Scanner(std::string_view text, std::string file, TokenizerFile& out) : in_(text), file_(std::move(file)), out_(out) {}

  /// The text with `null` where the vocabulary and the merges stood, its lines numbered as before.
  std::string run() {
    each_entry([&](const std::string& key) {
      if (key != "model" || peek() != '{') return skip_value();
      each_entry([&](const std::string& part) {
        const size_t begin = at_;
        if (part == "vocab" && peek() == '{') {
          read_vocab();
        } else if (part == "vocab" && peek() == '[') {
          read_scored_vocab();
        } else if (part == "merges" && peek() == '[') {
          read_merges();
        } else {
          return skip_value();
        }
        cut(begin);
      });
    });
    return rest_.append(in_, copied_);
  }

 private:
  using Text = TokenizerFile::Text;

  [[noreturn]] void fail(const std::string& what) const {
    const auto line =
        1 + std::count(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(std::min(at_, in_.size())), '\n');
    throw Error(ErrorKind::format, "has " + what).at(Origin{file_, static_cast<int>(line)}.str());
  }

  char peek() const { return at_ < in_.size() ? in_[at_] : '\0'; }

  void skip_space() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\t' || peek() == '\r') ++at_;
  }

  void expect(char c) {
    skip_space();
    if (peek() != c) fail(std::string("no '") + c + "' where JSON wants one");
    ++at_;
    skip_space();
  }

  /// Reads the brackets and commas of a map or list; `item` reads what stands between.
  template <typename Item>
  void each(char open, char close, const Item& item) {
    expect(open);
    for (bool first = true; peek() != close; first = false) {
      if (!first) expect(',');
      item();
      skip_space();
    }
    ++at_;
  }

  template <typename Entry>
  void each_entry(const Entry& entry) {
    each('{', '}', [&] {
      std::string key;
      string(key);
      expect(':');
      entry(key);
    });
  }

  /// To the end of any value: looks at brackets and strings only, parse_json sees to the rest.
  void skip_value() {
    int depth = 0;
    for (; at_ < in_.size(); ++at_) {
      const char c = in_[at_];
      if (c == '"') {
        for (++at_; at_ < in_.size() && in_[at_] != '"'; ++at_) at_ += in_[at_] == '\\';
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (c == ',' && depth == 0) {
        return;
      } else if ((c == '}' || c == ']') && --depth <= 0) {
        at_ += depth == 0;  // below 0 it closes what the value stands in
        return;
      }
    }
    at_ = std::min(at_, in_.size());
  }

  /// Replaces what was read since `begin`.
  void cut(size_t begin) {
    rest_.append(in_, copied_, begin - copied_);
    rest_ += "null";
    rest_.append(static_cast<size_t>(std::count(in_.begin() + static_cast<std::ptrdiff_t>(begin),
                                                in_.begin() + static_cast<std::ptrdiff_t>(at_), '\n')),
                 '\n');
    copied_ = at_;
  }

  void read_vocab() {
    out_.has_vocab_map = true;
    each('{', '}', [&] {
      const Text token = string_text("model.vocab");
      expect(':');
      out_.vocab.push_back({token, id()});
    });
  }

  void read_scored_vocab() {
    each('[', ']', [&] {
      expect('[');
      const Text token = string_text("model.vocab");
      expect(',');
      const size_t end = in_.find_first_not_of("+-.eE0123456789", at_);
      double score = 0;
      const char* begin = in_.data() + at_;
      const auto read = std::from_chars(begin, in_.data() + std::min(end, in_.size()), score);
      if (read.ec != std::errc() || read.ptr == begin || !std::isfinite(score))
        fail("a score that is not a number in model.vocab");
      at_ += static_cast<size_t>(read.ptr - begin);
      expect(']');
      out_.vocab.push_back({token, static_cast<int32_t>(out_.vocab.size())});
      out_.scores.push_back(score);
    });
  }

  int32_t id() {
    constexpr int64_t kMostIds = 1 << 24;  // ids index arrays; the largest vocabularies known have 2^18
    int64_t value = 0;
    const size_t begin = at_;
    for (; peek() >= '0' && peek() <= '9'; ++at_) value = std::min(value * 10 + (peek() - '0'), kMostIds);
    skip_space();
    if (at_ == begin || (peek() != ',' && peek() != '}')) fail("an id that is not a whole number in model.vocab");
    if (value >= kMostIds) fail("an id that is too large in model.vocab");
    return static_cast<int32_t>(value);
  }

  void read_merges() {
    out_.has_merges = true;
    each('[', ']', [&] { peek() == '[' ? read_pair() : read_joined(); });
  }

  void read_pair() {
    std::vector<Text> pair;
    each('[', ']', [&] { pair.push_back(string_text("model.merges")); });
    if (pair.size() != 2) fail("a merge that is not two tokens in model.merges");
    out_.merges.push_back({pair[0], pair[1]});
  }

  void read_joined() {
    const Text whole = string_text("model.merges");
    const std::string_view both = out_.str(whole);
    const size_t space = both.find(' ');
    if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos)
      fail("a merge that is not two tokens, '" + std::string(both) + "', in model.merges");
    const auto left = static_cast<uint32_t>(space);
    out_.merges.push_back({{whole.begin, left}, {whole.begin + left + 1, whole.size - left - 1}});
  }

  /// Reads a string to the end of the file's own text.
  Text string_text(const char* part) {
    if (peek() != '"') fail(std::string("something that is not a string in ") + part);
    const size_t begin = out_.text.size();
    string(out_.text);
    return {static_cast<uint32_t>(begin), static_cast<uint32_t>(out_.text.size() - begin)};
  }

  /// Appends a JSON string.
  void string(std::string& out) {
    if (peek() != '"') fail("no '\"' where JSON wants one");
    ++at_;
    while (true) {
      const size_t begin = at_;
      while (at_ < in_.size() && in_[at_] != '"' && in_[at_] != '\\') ++at_;
      out.append(in_, begin, at_ - begin);
      if (at_ == in_.size()) fail("a string without an end");
      if (in_[at_++] == '"') return;
      escape(out);
    }
  }

  void escape(std::string& out) {
    constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char c = peek();
    ++at_;
    if (c == 'u') return unicode::append_utf8(out, code_point());
    const size_t letter = kLetters.find(c);
    if (c == '\0' || letter == std::string_view::npos) fail("an unknown escape in a string");
    out += kMeanings[letter];
  }

  uint32_t code_point() {
    const uint32_t unit = hex4();
    if (unit < 0xD800 || unit > 0xDFFF) return unit;
    const bool pair = unit < 0xDC00 && in_.substr(at_, 2) == "\\u";
    at_ += pair ? 2 : 0;
    const uint32_t low = pair ? hex4() : 0;
    if (low < 0xDC00 || low > 0xDFFF) fail("half of a surrogate pair in a string");
    return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
  }

  uint32_t hex4() {
    const std::string digits(in_.substr(std::min(at_, in_.size()), 4));
    if (digits.size() != 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
      fail("an escape without four digits in a string");
    at_ += 4;
    return static_cast<uint32_t>(std::stoul(digits, nullptr, 16));
  }

  std::string_view in_;
  std::string file_;
  TokenizerFile& out_;
  std::string rest_;
  size_t at_ = 0, copied_ = 0;
};

}  // namespace

TokenizerFile read_tokenizer_file(const std::filesystem::path& file) {
  const std::string content = read_text(file);
  if (content.size() > std::numeric_limits<uint32_t>::max())
    throw Error(ErrorKind::format, "is larger than 4 GiB").at(file.string());
  if (const size_t bad = unicode::find_invalid(content); bad != std::string::npos)
    throw Error(ErrorKind::format, "is not UTF-8 at byte " + std::to_string(bad)).at(file.string());
  std::string_view text = content;
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (const size_t first = text.find_first_not_of(" \t\r\n"); first == std::string_view::npos || text[first] != '{')
    throw Error(ErrorKind::format, "is not a JSON object").at(file.string());
  TokenizerFile out;
  out.text.reserve(text.size() / 2);
  out.tree = parse_json(Scanner(text, file.string(), out).run(), file.string());
  if (const Value* version = out.tree.find("version"); version && !version->is_null() && *version != Value("1.0"))
    throw Error(ErrorKind::format, "version is " + describe(*version) + ", want '1.0'").at(file.string());
  return out;
}

}  // namespace ft
