#include "engine/text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "engine/error/error.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

/// Characters below U+0300 are in NFC as they stand and combine with nothing before them.
constexpr uint32_t kFirstCombining = 0x300;

/// Whether normalizing may be done apart on either side of the place before `c`. What composes with a character before
/// it is a mark, or a Hangul vowel or trailing consonant.
bool starts_anew(uint32_t c) {
  if (c < kFirstCombining) return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  const bool mark =
      category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
  const bool hangul = (c >= 0x1161 && c <= 0x1175) || (c >= 0x11A8 && c <= 0x11C2);
  return !mark && !hangul;
}

bool may_change_alone(uint32_t c) {
  constexpr uint16_t kNone = UINT16_MAX;
  return c >= kFirstCombining && utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->decomp_seqindex != kNone;
}

std::string compose(std::string_view text) {
  utf8proc_uint8_t* out = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> guard(out, std::free);
  FT_CHECK(size >= 0, std::string("utf8proc: ") + utf8proc_errmsg(size));
  return std::string(reinterpret_cast<const char*>(out), static_cast<size_t>(size));
}

/// Moves `at` behind the next stretch that is normalized by itself; says whether it may change.
bool next_stretch(std::string_view text, size_t& at) {
  const uint32_t first = unicode::next_char(text, at);
  if (unicode::is_late_mark(first)) return false;
  bool several = false;
  while (at < text.size()) {
    size_t behind = at;
    const uint32_t c = unicode::next_char(text, behind);
    if (starts_anew(c) || unicode::is_late_mark(c)) break;
    several = true;
    at = behind;
  }
  return several || may_change_alone(first);
}

}  // namespace

NormalizedText normalize_nfc(std::string_view text) {
  NormalizedText out;
  out.text.reserve(text.size());
  size_t copied = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    if (!next_stretch(text, at)) continue;
    const std::string_view old = text.substr(from, at - from);
    const std::string composed = compose(old);
    if (composed == old) continue;
    out.text.append(text, copied, from - copied);
    const auto begin = static_cast<uint32_t>(out.text.size());
    out.text += composed;
    out.changes.push_back(
        {begin, static_cast<uint32_t>(out.text.size()), static_cast<uint32_t>(from), static_cast<uint32_t>(at)});
    copied = at;
  }
  out.text.append(text, copied);
  return out;
}

uint32_t NormalizedText::source_begin(uint32_t at) const {
  const auto it = std::upper_bound(changes.begin(), changes.end(), at,
                                   [](uint32_t value, const Change& c) { return value < c.begin; });
  if (it == changes.begin()) return at;
  const Change& before = *(it - 1);
  return at < before.end ? before.from : before.to + (at - before.end);
}

uint32_t NormalizedText::source_end(uint32_t at) const {
  const auto it = std::upper_bound(changes.begin(), changes.end(), at,
                                   [](uint32_t value, const Change& c) { return value <= c.begin; });
  if (it == changes.begin()) return at;
  const Change& before = *(it - 1);
  return at <= before.end ? before.to : before.to + (at - before.end);
}

}  // namespace ft
