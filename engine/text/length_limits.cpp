#include "engine/text/length_limits.h"

#include <algorithm>

#include "engine/error/error.h"

namespace ft {
namespace {

bool is_left(const Value& tree) {
  const std::string direction = tree.get("direction", "Right");
  if (direction == "Left" || direction == "Right") return direction == "Left";
  throw Error(ErrorKind::format, "direction " + direction + " is not implemented");
}

[[noreturn]] void refuse(const char* what) { throw Error(ErrorKind::format, what).key("truncation"); }

}  // namespace

LengthLimits::LengthLimits(const Value& truncation, const Value& padding) {
  if (!truncation.is_null()) {
    most_ = static_cast<size_t>(std::max<int64_t>(truncation.at("max_length").as_integer(), 0));
    cut_left_ = is_left(truncation);
    const std::string strategy = truncation.get("strategy", "LongestFirst");
    if (strategy == "OnlyFirst")
      strategy_ = Strategy::only_first;
    else if (strategy == "OnlySecond")
      strategy_ = Strategy::only_second;
    else if (strategy != "LongestFirst")
      throw Error(ErrorKind::format, "strategy " + strategy + " is not implemented").key("truncation");
  }
  if (padding.is_null()) return;
  pad_id_ = static_cast<int32_t>(padding.at("pad_id").as_integer());
  pad_left_ = is_left(padding);
  multiple_ = static_cast<size_t>(std::max<int64_t>(padding.get("pad_to_multiple_of", 0), 0));
  const Value& strategy = padding.at("strategy");  // "BatchLongest", of one text its own length, or {"Fixed": n}
  constexpr int64_t kMostPadding = 1 << 24;
  if (const Value* fixed = strategy.find("Fixed")) {
    if (fixed->as_integer() < 0 || fixed->as_integer() > kMostPadding)
      throw Error(ErrorKind::format, "strategy " + describe(strategy) + " is not implemented").key("padding");
    least_ = static_cast<size_t>(fixed->as_integer());
  } else if (!strategy.is_string() || strategy.as_string() != "BatchLongest") {
    throw Error(ErrorKind::format, "strategy " + describe(strategy) + " is not implemented").key("padding");
  }
}

std::pair<size_t, size_t> LengthLimits::kept(size_t first, std::optional<size_t> second, size_t added) const {
  const size_t total = first + second.value_or(0);
  if (!most_) return {first, second.value_or(0)};
  if (*most_ < added) refuse("max_length leaves no room for the special tokens");
  const size_t room = *most_ - added;
  if (total <= room) return {first, second.value_or(0)};
  if (room == 0) return {0, 0};
  if (strategy_ == Strategy::longest_first) {
    if (!second) return {room, 0};
    // The shorter one stays whole where it can; else both get half, the odd one for the longer.
    const size_t shorter = std::min(first, *second);
    size_t less = shorter, more = shorter > room ? shorter : std::max(shorter, room - shorter);
    if (less + more > room) less = room / 2, more = room - room / 2;
    return first > *second ? std::pair(more, less) : std::pair(less, more);
  }
  const bool cuts_first = strategy_ == Strategy::only_first;
  if (!cuts_first && !second) refuse("OnlySecond takes from a pair of texts, and there is one text");
  const size_t target = cuts_first ? first : *second, excess = total - room;
  if (target <= excess) refuse("the text to cut is too short for max_length");
  return cuts_first ? std::pair(first - excess, second.value_or(0)) : std::pair(first, *second - excess);
}

void LengthLimits::pad(std::vector<int32_t>& ids) const {
  if (!pad_id_) return;
  size_t size = least_ == 0 ? ids.size() : least_;
  if (multiple_ > 0 && size % multiple_ > 0) size += multiple_ - size % multiple_;
  if (ids.size() < size) ids.insert(pad_left_ ? ids.begin() : ids.end(), size - ids.size(), *pad_id_);
}

}  // namespace ft
