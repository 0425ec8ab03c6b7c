#pragma once
/// Cuts text into the words that BPE works on: a list of Split and Digits steps that ends in ByteLevel. Used inside
/// engine/text only; const calls may come from many threads, a Scratch each.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"
#include "engine/text/split_regex.h"

namespace ft {

class PreTokenizer {
 public:
  /// A word's bytes. bytes[i] is byte begin + i of the piece; a first byte that add_prefix_space put there is at begin
  /// - 1.
  struct Word {
    std::string_view bytes;
    int64_t begin;
  };
  /// One thread's memory. Words point into the piece, or into `prefixed`.
  struct Scratch {
    RegexScratch regex;
    std::vector<Word> words;
    std::deque<std::string> prefixed;
  };

  /// @param tree tokenizer.json's `pre_tokenizer`   @throws Error(format) naming the part that is not implemented
  static PreTokenizer parse(const Value& tree);

  /// Fills scratch.words with the words of a piece between added tokens.
  void split(std::string_view piece, Scratch& scratch) const;

 private:
  enum class Behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };
  struct Span {
    size_t begin, end;
    bool match;
  };
  struct Step {
    std::optional<SplitRegex> regex;  ///< absent: Digits
    Behavior behavior = Behavior::isolated;
    bool invert = false;
  };

  static Behavior parse_behavior(const Value& tree);
  static std::vector<Span> apply(Behavior behavior, const std::vector<Span>& spans);
  void add_step(const Value& tree, bool last);
  void add_byte_level(const Value& tree);
  void add_split(const Value& tree);
  void add_digits(const Value& tree);
  std::vector<Span> matches(const Step& step, std::string_view text, RegexScratch& scratch) const;
  void byte_level(std::string_view piece, size_t begin, size_t end, Scratch& scratch) const;

  std::vector<Step> steps_;
  std::optional<SplitRegex> byte_level_regex_;
  bool add_prefix_space_ = false;
};

}  // namespace ft
