// Oniguruma's spelling of a pattern into PCRE2's: a pass over the text that copies what means the same in both and
// writes classes out as code points.
#include <fmt/format.h>

#include <optional>
#include <vector>

#include "engine/error/error.h"
#include "engine/text/split_regex.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

using unicode::Range;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::format, what + " is not implemented"); }

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  /// An escape stands for one character or for a set of them.
  struct Item {
    bool is_set = false;
    uint32_t literal = 0;
    std::vector<Range> set;
  };

  bool peek(std::string_view text) const { return in_.substr(at_, text.size()) == text; }

  void step() {
    const char c = in_[at_];
    if (c == '\\') {
      const Item item = escape();
      item.is_set ? emit_class(item.set, false) : emit_literal(item.literal);
    } else if (c == '[') {
      character_class();
    } else if (c == '(') {
      group();
    } else if (c == ')') {
      end_group();
    } else if (c == '{') {
      interval();
    } else if (c == '^' || c == '$') {
      refuse(fmt::format("regex anchor '{}'", c));
    } else {
      const size_t from = at_;
      unicode::next_char(in_, at_);
      out_ += in_.substr(from, at_ - from);
    }
  }

  /// Groups that mean the same in both: plain, without capture, case-insensitive, look-ahead and look-behind.
  void group() {
    for (const std::string_view known : {"(?i:", "(?:", "(?!", "(?=", "(?<!", "(?<=", "(?i)", "(?>"}) {
      if (!peek(known)) continue;
      out_ += known;
      at_ += known.size();
      if (known != "(?i)") outer_.push_back(without_case_);
      without_case_ |= known[2] == 'i';
      return;
    }
    if (peek("(?") || peek("(*")) refuse(fmt::format("regex group '{}'", in_.substr(at_, 4)));
    outer_.push_back(without_case_);
    out_ += in_[at_++];
  }

  void end_group() {
    if (!outer_.empty()) {  // PCRE2 refuses one too many
      without_case_ = outer_.back();
      outer_.pop_back();
    }
    out_ += in_[at_++];
  }

  /// {n}, {n,} and {n,m}. Oniguruma also reads {,m}, and a + behind an interval as a second repetition, unlike PCRE2.
  void interval() {
    const size_t close = in_.find('}', at_);
    const std::string_view text = in_.substr(at_, close == std::string_view::npos ? 3 : close - at_ + 1);
    const bool number = text.size() > 2 && text[1] >= '0' && text[1] <= '9';
    if (!number || text.find_first_not_of("0123456789,", 1) != text.size() - 1 || text.back() != '}')
      refuse(fmt::format("regex interval '{}'", text));
    at_ = close + 1;
    if (peek("+")) refuse(fmt::format("regex interval '{}+'", text));
    out_ += text;
  }

  /// A class of classes is worked out here: PCRE2 10.42 has neither && nor a class within a class.
  void character_class() {
    const bool negated = in_.substr(at_).starts_with("[^");
    emit_class(class_set(0), negated);
  }

  /// Reads a class to its end.   @return what it names; for the outermost one that is negated, what it leaves out
  std::vector<Range> class_set(int depth) {
    constexpr int kDeepest = 32;
    const size_t open = at_++;
    const bool negated = peek("^");
    if (negated) ++at_;
    if (negated && depth > 0 && without_case_) refuse("a negated class in a class, regardless of case,");
    if (depth > kDeepest) refuse("regex class of more than 32 classes within each other");
    std::vector<Range> set;
    std::optional<std::vector<Range>> left;  // of the last &&
    const auto settle = [&] {
      if (set.empty()) refuse(fmt::format("regex class '{}'", in_.substr(open)));
      unicode::merge_ranges(set);
      if (left) set = unicode::intersection(*left, set);
    };
    while (at_ < in_.size() && in_[at_] != ']') {
      if (peek("[:")) refuse(fmt::format("regex class '{}',", in_.substr(at_, 10)));
      if (peek("&&")) {
        settle();
        left = std::move(set);
        set.clear();
        at_ += 2;
      } else if (in_[at_] == '[') {
        const std::vector<Range> inner = class_set(depth + 1);
        set.insert(set.end(), inner.begin(), inner.end());
      } else {
        class_range(open, set);
      }
    }
    if (at_ >= in_.size()) refuse(fmt::format("regex class '{}'", in_.substr(open)));
    settle();
    ++at_;
    return negated && depth > 0 ? unicode::complement(set) : set;
  }

  /// One character, a range of them, or an escape that names a set.
  void class_range(size_t open, std::vector<Range>& set) {
    const Item first = class_item();
    if (!first.is_set && peek("-") && at_ + 1 < in_.size() && in_[at_ + 1] != ']') {
      ++at_;
      const Item last = class_item();
      if (last.is_set || last.literal < first.literal)
        refuse(fmt::format("regex range in '{}'", in_.substr(open, at_ - open)));
      set.push_back({first.literal, last.literal});
    } else if (first.is_set) {
      set.insert(set.end(), first.set.begin(), first.set.end());
    } else {
      set.push_back({first.literal, first.literal});
    }
  }

  Item class_item() {
    if (at_ >= in_.size()) refuse("regex class without an end");
    if (in_[at_] == '\\') return escape(true);
    Item item;
    item.literal = unicode::next_char(in_, at_);
    return item;
  }

  Item escape(bool in_class = false) {
    if (at_ + 1 >= in_.size()) refuse("regex escape at the end of a pattern");
    const char c = in_[at_ + 1];
    at_ += 2;
    Item item;
    switch (c) {
      case 'p':
      case 'P':
        return property(c == 'P', in_class);
      case 's':
      case 'S':
        return set_item(unicode::white_space_ranges(), c == 'S');
      case 'd':
      case 'D':
        return set_item(unicode::category_ranges("Nd"), c == 'D');
      case 'w':
      case 'W':
        return set_item(word(in_class), c == 'W');
      case 'n':
        item.literal = '\n';
        return item;
      case 'r':
        item.literal = '\r';
        return item;
      case 't':
        item.literal = '\t';
        return item;
      case 'f':
        item.literal = '\f';
        return item;
      case 'v':
        item.literal = '\v';
        return item;
      case 'x':
        return hex(peek("{") ? 0 : 2);
      case 'u':
        return hex(4);
      default:
        break;
    }
    const bool punctuation = c > ' ' && c < 0x7F && !std::isalnum(static_cast<unsigned char>(c));
    if (!punctuation && c != ' ') refuse(fmt::format("regex escape '\\{}'", c));
    item.literal = static_cast<unsigned char>(c);
    return item;
  }

  /// \w. Inside of a class Oniguruma looks up Latin-1 in another table, to which ² ³ ¹ ¼ ½ ¾ are no words.
  static std::vector<Range> word(bool in_class) {
    const std::vector<Range> ranges = unicode::property_ranges("word");
    if (!in_class) return ranges;
    std::vector<Range> others = unicode::complement(ranges);
    for (const Range& range : {Range{0xB2, 0xB3}, Range{0xB9, 0xB9}, Range{0xBC, 0xBE}}) others.push_back(range);
    unicode::merge_ranges(others);
    return unicode::complement(others);
  }

  static Item set_item(std::vector<Range> set, bool negated) {
    Item item;
    item.is_set = true;
    item.set = negated ? unicode::complement(set) : std::move(set);
    return item;
  }

  /// \p{L}, \p{^L}, \p{Han}.
  Item property(bool negated, bool in_class) {
    const size_t close = in_.find('}', at_);
    if (!peek("{") || close == std::string_view::npos) refuse("regex property without braces");
    std::string_view name = in_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::vector<Range> set = name == "Word" || name == "word" ? word(in_class) : unicode::property_ranges(name);
    if (set.empty()) refuse(fmt::format("regex property '\\p{{{}}}'", name));
    return set_item(std::move(set), negated);
  }

  /// `digits` hexadecimal digits, or with 0 as many as stand in braces.
  Item hex(size_t digits) {
    const bool braces = digits == 0;
    const size_t begin = at_ + (braces ? 1 : 0);
    const size_t end = braces ? in_.find('}', begin) : begin + digits;
    const std::string text(in_.substr(begin, end - begin));
    constexpr size_t kMostDigits = 6;
    if (end > in_.size() || text.empty() || text.size() > kMostDigits ||
        text.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
      refuse(fmt::format("regex escape '{}'", in_.substr(at_ - 2, 8)));
    at_ = end + (braces ? 1 : 0);
    Item item;
    item.literal = static_cast<uint32_t>(std::stoul(text, nullptr, 16));
    return item;
  }

  void emit_literal(uint32_t c) { out_ += fmt::format("\\x{{{:x}}}", c); }

  void emit_class(std::vector<Range> set, bool negated) {
    unicode::merge_ranges(set);
    if (set.empty()) {  // of classes that have nothing in common
      out_ += negated ? "[\\x{0}-\\x{10ffff}]" : "(?!)";
      return;
    }
    out_ += negated ? "[^" : "[";
    for (const Range& r : set) {
      emit_literal(r.first);
      if (r.last == r.first) continue;
      out_ += '-';
      emit_literal(r.last);
    }
    out_ += ']';
  }

  std::string_view in_;
  size_t at_ = 0;
  bool without_case_ = false;  ///< (?i) holds here
  std::vector<bool> outer_;    ///< and did around each open group
  std::string out_;
};

}  // namespace

std::string translate_pattern(std::string_view pattern) { return Translator(pattern).run(); }

std::string literal_pattern(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) out += fmt::format("\\x{{{:x}}}", unicode::next_char(text, at));
  return out;
}

}  // namespace ft
