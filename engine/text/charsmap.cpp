#include "engine/text/charsmap.h"

#include <cstring>

#include "engine/error/error.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::format, what).key("precompiled_charsmap"); }

}  // namespace

CharsMap::CharsMap(std::string_view bytes) {
  uint32_t size = 0;
  if (bytes.size() < sizeof size) refuse("is too short");
  std::memcpy(&size, bytes.data(), sizeof size);
  if (size == 0 || size > bytes.size() - sizeof size || size % sizeof(Unit) != 0)
    refuse("states a trie of " + std::to_string(size) + " bytes and has " + std::to_string(bytes.size()));
  trie_.resize(size / sizeof(Unit));
  std::memcpy(trie_.data(), bytes.data() + sizeof size, size);
  texts_ = bytes.substr(sizeof size + size);
  if (unicode::find_invalid(texts_) != std::string::npos) refuse("has replacements that are not UTF-8");
}

template <typename Take>
void CharsMap::walk(std::string_view key, const Take& take) const {
  if (trie_.empty()) return;
  size_t at = trie_[0].offset();
  for (size_t i = 0; i < key.size(); ++i) {
    const auto c = static_cast<unsigned char>(key[i]);
    at ^= c;
    if (c == 0 || at >= trie_.size() || trie_[at].label() != c) return;
    const bool leaf = trie_[at].has_leaf();
    at ^= trie_[at].offset();
    if (!leaf) continue;
    const size_t index = at < trie_.size() ? trie_[at].value() : texts_.size();
    if (index >= texts_.size()) return;
    if (!take(Match{i + 1, std::string_view(texts_).substr(index, texts_.find('\0', index) - index)})) return;
  }
}

CharsMap::Match CharsMap::shortest(std::string_view key) const {
  Match out;
  walk(key, [&](const Match& match) {
    out = match;
    return false;
  });
  return out;
}

CharsMap::Match CharsMap::longest(std::string_view key) const {
  Match out;
  const auto within = [](std::string_view text, size_t at) {  // a character; a sound map has rules for whole ones only
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  walk(key, [&](const Match& match) {
    if (!within(key, match.size) && !within(match.text, 0)) out = match;
    return true;
  });
  return out;
}

}  // namespace ft
