// SentencePiece's precompiled character map as `tokenizers` applies it: by grapheme.
#include <utf8proc.h>

#include <array>

#include "engine/error/error.h"
#include "engine/text/charsmap.h"
#include "engine/text/normalizer.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

std::string decode_base64(std::string_view text) {
  std::array<int, 256> values;
  values.fill(-1);
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kLetters.size(); ++i) values[static_cast<unsigned char>(kLetters[i])] = static_cast<int>(i);
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const int value = values[static_cast<unsigned char>(c)];
    if (value < 0) throw Error(ErrorKind::format, "is not base64").key("precompiled_charsmap");
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out += static_cast<char>(bits >> held & 0xFF);
    }
  }
  return out;
}

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(const std::string& charsmap) : map_(decode_base64(charsmap)) {}

  void apply(AlignedText& text) const override {
    const std::string_view in = text.text();
    std::vector<AlignedText::Change> changes;
    bool changed = false;
    for (size_t at = 0; at < in.size();) {
      const std::string_view grapheme = in.substr(at, grapheme_size(in, at));
      at += grapheme.size();
      constexpr size_t kLongest = 6;  // `tokenizers` looks up shorter graphemes whole, longer ones by character
      if (grapheme.size() < kLongest && replace(grapheme, changes)) {
        changed = true;
        continue;
      }
      for (size_t i = 0; i < grapheme.size();) {
        const size_t begin = i;
        const uint32_t c = unicode::next_char(grapheme, i);
        if (replace(grapheme.substr(begin, i - begin), changes)) {
          changed = true;
        } else {
          changes.push_back({c, 0});
        }
      }
    }
    if (changed) text.transform(changes);
  }

 private:
  static size_t grapheme_size(std::string_view text, size_t begin) {
    size_t at = begin;
    auto last = static_cast<utf8proc_int32_t>(unicode::next_char(text, at));
    utf8proc_int32_t state = 0;
    while (at < text.size()) {
      size_t behind = at;
      const auto c = static_cast<utf8proc_int32_t>(unicode::next_char(text, behind));
      if (utf8proc_grapheme_break_stateful(last, c, &state)) break;
      last = c;
      at = behind;
    }
    return at - begin;
  }

  /// Appends what stands for `part`: the replacement of its shortest prefix that has one, as `tokenizers` does.
  bool replace(std::string_view part, std::vector<AlignedText::Change>& changes) const {
    const CharsMap::Match match = map_.shortest(part);
    if (match.size == 0) return false;
    const std::vector<uint32_t> fresh = characters(match.text);
    const auto difference = static_cast<int64_t>(fresh.size()) - static_cast<int64_t>(characters(part).size());
    for (const uint32_t c : fresh) changes.push_back({c, 0});
    if (difference > 0) {  // over all that is there so far, as in `tokenizers`
      const size_t added = std::min(changes.size(), static_cast<size_t>(difference));
      for (size_t i = changes.size() - added; i < changes.size(); ++i) changes[i].change = 1;
    } else if (difference < 0 && !changes.empty()) {
      changes.back().change += static_cast<int32_t>(difference);
    }
    return true;
  }

  CharsMap map_;
};

}  // namespace

std::unique_ptr<const Normalizer> precompiled_normalizer(const std::string& charsmap) {
  return std::make_unique<Precompiled>(charsmap);
}

}  // namespace ft
