#pragma once
/// Where a pattern of tokenizer.json occurs in a text, and how a text is cut there: the `pattern` and `behavior` of
/// Split and Replace. Used inside engine/text only; const calls may come from many threads.

#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"
#include "engine/text/aligned_text.h"
#include "engine/text/split_regex.h"
#include "engine/text/unicode.h"

namespace ft {

/// A {"String": …} or {"Regex": …}.
class Finder {
 public:
  /// @throws Error(format) naming what is not implemented
  static Finder parse(const Value& pattern);
  explicit Finder(SplitRegex regex) : regex_(std::move(regex)) {}
  /// The whole text as stretches that match and stretches that do not, in order.
  std::vector<TextMatch> matches(std::string_view text) const;
  /// Calls take(begin, end, is_match) for each of them.
  template <typename Take>
  void each(std::string_view text, const Take& take) const {
    size_t done = 0;
    for (size_t from = 0; from < text.size();) {
      const auto match = regex_.find(text, from);
      if (!match) break;
      if (done < match->begin) take(done, match->begin, false);
      take(match->begin, match->end, true);
      from = done = match->end;
      if (match->begin == match->end) unicode::next_char(text, from);  // the next is not at the same place
    }
    if (done < text.size()) take(done, text.size(), false);
  }

 private:
  SplitRegex regex_;
};

/// The text as stretches of characters for which `is` is true, one by one, and the others.
template <typename Is>
std::vector<TextMatch> matches_of(std::string_view text, const Is& is) {
  std::vector<TextMatch> out;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (!is(unicode::next_char(text, at))) continue;
    if (done < begin) out.push_back({done, begin, false});
    out.push_back({begin, at, true});
    done = at;
  }
  if (done < text.size()) out.push_back({done, text.size(), false});
  return out;
}

enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };
/// @throws Error(format) for a name that is none
SplitBehavior parse_behavior(const Value& tree);
/// What a behavior makes of stretches; where `match` is left true, the stretch is to be dropped (tokenizers,
/// normalizer.rs, NormalizedString::split).
std::vector<TextMatch> apply_behavior(SplitBehavior behavior, std::vector<TextMatch> matches);

}  // namespace ft
