#include "engine/text/find.h"

#include <algorithm>

#include "engine/error/error.h"

namespace ft {

Finder Finder::parse(const Value& pattern) {
  try {
    if (const Value* regex = pattern.find("Regex")) return Finder(SplitRegex(translate_pattern(regex->as_string())));
    if (const Value* text = pattern.find("String"); text && !text->as_string().empty())
      return Finder(SplitRegex(literal_pattern(text->as_string())));
  } catch (Error& error) {
    throw error.key("pattern");
  }
  throw Error(ErrorKind::format, "a pattern of " + describe(pattern) + " is not implemented").key("pattern");
}

std::vector<TextMatch> Finder::matches(std::string_view text) const {
  std::vector<TextMatch> out;
  each(text, [&](size_t begin, size_t end, bool match) { out.push_back({begin, end, match}); });
  return out;
}

SplitBehavior parse_behavior(const Value& tree) {
  std::string name;
  for (const char c : tree.as_string())  // "MergedWithNext" in Split, "merged_with_next" in some older files
    if (c != '_') name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (name == "isolated") return SplitBehavior::isolated;
  if (name == "removed") return SplitBehavior::removed;
  if (name == "mergedwithprevious") return SplitBehavior::merged_with_previous;
  if (name == "mergedwithnext") return SplitBehavior::merged_with_next;
  if (name == "contiguous") return SplitBehavior::contiguous;
  throw Error(ErrorKind::format, "the behavior " + tree.as_string() + " is not implemented").key("behavior");
}

namespace {

/// Joins each stretch to the one before it where `joins(match, previous)`.
template <typename Joins>
std::vector<TextMatch> joined(const std::vector<TextMatch>& matches, const Joins& joins) {
  std::vector<TextMatch> out;
  bool previous = false;
  for (const TextMatch& m : matches) {
    if (!out.empty() && joins(m.match, previous)) {
      out.back().begin = std::min(out.back().begin, m.begin);  // walked backwards it grows to the front
      out.back().end = std::max(out.back().end, m.end);
    } else {
      out.push_back({m.begin, m.end, false});
    }
    previous = m.match;
  }
  return out;
}

}  // namespace

std::vector<TextMatch> apply_behavior(SplitBehavior behavior, std::vector<TextMatch> matches) {
  const auto after_other = [](bool match, bool previous) { return match && !previous; };
  switch (behavior) {
    case SplitBehavior::removed:
      return matches;
    case SplitBehavior::isolated:
      for (TextMatch& m : matches) m.match = false;
      return matches;
    case SplitBehavior::contiguous:
      return joined(matches, [](bool match, bool previous) { return match == previous; });
    case SplitBehavior::merged_with_previous:
      return joined(matches, after_other);
    case SplitBehavior::merged_with_next:
      break;
  }
  std::reverse(matches.begin(), matches.end());
  matches = joined(matches, after_other);
  std::reverse(matches.begin(), matches.end());
  return matches;
}

}  // namespace ft
