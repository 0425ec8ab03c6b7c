// The four normal forms. Text is walked in stretches that normalize by themselves; most stretches are one character
// that cannot change, and cost a table look-up.
#include <utf8proc.h>

#include <algorithm>

#include "engine/error/error.h"
#include "engine/text/normalizer.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

using Change = AlignedText::Change;

/// Characters below U+0300 combine with nothing before them.
constexpr uint32_t kFirstCombining = 0x300;
constexpr uint32_t kFirstDecomposed = 0xA0;
constexpr uint32_t kFirstSyllable = 0xAC00, kLastSyllable = 0xD7A3;

const utf8proc_property_t& property(uint32_t c) { return *utf8proc_get_property(static_cast<utf8proc_int32_t>(c)); }

struct Form {
  bool compatible, composed;

  /// The characters that `c` decomposes into, itself when it does not.
  size_t decompose(uint32_t c, utf8proc_int32_t (&out)[32]) const {
    out[0] = static_cast<utf8proc_int32_t>(c);
    if (c < kFirstDecomposed || unicode::is_late_mark(c) || unicode::is_late_compatible(c)) return 1;
    const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), out, std::size(out),
                                               static_cast<utf8proc_option_t>(options), &boundary);
    FT_CHECK(count > 0 && count <= static_cast<utf8proc_ssize_t>(std::size(out)), "utf8proc cannot decompose");
    return static_cast<size_t>(count);
  }

  bool may_change_alone(uint32_t c) const {
    constexpr uint16_t kNone = UINT16_MAX;
    if (c < (composed && !compatible ? kFirstCombining : kFirstDecomposed)) return false;
    if (!composed && c >= kFirstSyllable && c <= kLastSyllable) return true;
    return property(c).decomp_seqindex != kNone;
  }

  /// Whether normalizing may be done apart on either side of the place before `c`. What moves or composes with a
  /// character before it is a mark, or a Hangul vowel or trailing consonant.
  bool starts_anew(uint32_t c) const {
    if (c < kFirstCombining) return true;
    if (compatible && property(c).decomp_seqindex != UINT16_MAX) {
      utf8proc_int32_t parts[32];
      decompose(c, parts);
      return begins(static_cast<uint32_t>(parts[0]));
    }
    return begins(c);
  }
  static bool begins(uint32_t c) {
    const auto category = property(c).category;
    const bool mark =
        category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
    const bool hangul = (c >= 0x1161 && c <= 0x1175) || (c >= 0x11A8 && c <= 0x11C2);
    return !mark && !hangul;
  }

  /// Moves `at` behind the next stretch that is normalized by itself; says whether it may change.
  bool next_stretch(std::string_view text, size_t& at) const {
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

  std::vector<Change> normalize(std::string_view stretch) const;
};

/// The character that two compose to, or 0.
uint32_t compose_pair(uint32_t first, uint32_t second) {
  utf8proc_int32_t pair[] = {static_cast<utf8proc_int32_t>(first), static_cast<utf8proc_int32_t>(second)};
  const auto count =
      utf8proc_normalize_utf32(pair, 2, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  return count == 1 ? static_cast<uint32_t>(pair[0]) : 0;
}

/// Canonical composition (UAX #15). A composed character takes the place of all that went into it.
std::vector<Change> compose(const std::vector<Change>& parts) {
  constexpr size_t kNoStarter = SIZE_MAX;
  std::vector<Change> out;
  size_t starter = kNoStarter;
  int last_class = -1;  // of the mark before, since the starter; -1: none
  for (const Change& part : parts) {
    const int own = property(part.c).combining_class;
    if (starter != kNoStarter && last_class < own) {
      if (const uint32_t both = compose_pair(out[starter].c, part.c); both != 0) {
        out[starter] = {both, out[starter].change + part.change - 1};
        continue;
      }
    }
    if (own == 0) {
      starter = out.size();
      last_class = -1;
    } else {
      last_class = own;
    }
    out.push_back(part);
  }
  return out;
}

std::vector<Change> Form::normalize(std::string_view stretch) const {
  std::vector<Change> parts;
  for (size_t at = 0; at < stretch.size();) {
    utf8proc_int32_t buffer[32];
    const size_t count = decompose(unicode::next_char(stretch, at), buffer);
    for (size_t i = 0; i < count; ++i) parts.push_back({static_cast<uint32_t>(buffer[i]), i > 0});
  }
  const auto combining_class = [](const Change& part) { return property(part.c).combining_class; };
  for (auto it = parts.begin(); it != parts.end();) {  // marks between two starters, by class
    if (combining_class(*it) == 0) {
      ++it;
      continue;
    }
    const auto end = std::find_if(it, parts.end(), [&](const Change& p) { return combining_class(p) == 0; });
    std::stable_sort(it, end,
                     [&](const Change& a, const Change& b) { return combining_class(a) < combining_class(b); });
    it = end;
  }
  return composed ? compose(parts) : parts;
}

std::string text_of(const std::vector<Change>& changes) {
  std::string out;
  for (const Change& change : changes) unicode::append_utf8(out, change.c);
  return out;
}

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(Form form) : form_(form) {}

  void apply(AlignedText& text) const override {
    const std::string_view in = text.text();
    std::vector<Change> changes;
    size_t copied = 0;
    const auto copy = [&](size_t end) {
      while (copied < end) changes.push_back({unicode::next_char(in, copied), 0});
    };
    bool changed = false;
    for (size_t at = 0; at < in.size();) {
      const size_t from = at;
      if (!form_.next_stretch(in, at)) continue;
      const std::vector<Change> normal = form_.normalize(in.substr(from, at - from));
      if (text_of(normal) == in.substr(from, at - from)) continue;
      changed = true;
      copy(from);
      changes.insert(changes.end(), normal.begin(), normal.end());
      copied = at;
    }
    if (!changed) return;
    copy(in.size());
    text.transform(changes);
  }

 private:
  Form form_;
};

}  // namespace

std::unique_ptr<const Normalizer> unicode_form(const std::string& name) {
  if (name != "NFC" && name != "NFD" && name != "NFKC" && name != "NFKD") return nullptr;
  return std::make_unique<UnicodeForm>(Form{name.find('K') != std::string::npos, name.back() == 'C'});
}

void decompose(AlignedText& text) { UnicodeForm({false, false}).apply(text); }

}  // namespace ft
