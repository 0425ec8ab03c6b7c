#pragma once
/// SentencePiece's precompiled character map (sentencepiece, normalizer.cc): a size, a Darts double-array trie of that
/// size, and the replacements, each ended by a zero byte. Used inside engine/text only; const calls may come from many
/// threads. Whatever a damaged map says, no walk leaves it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

class CharsMap {
 public:
  /// What stands for the first `size` bytes of a key; size 0 where no rule begins it.
  struct Match {
    size_t size = 0;
    std::string_view text;
  };

  CharsMap() = default;  ///< without rules
  /// @throws Error(format) for sizes that do not fit, and for replacements that are not UTF-8
  explicit CharsMap(std::string_view bytes);

  bool empty() const { return trie_.empty(); }
  Match shortest(std::string_view key) const;  ///< as `tokenizers` takes it
  Match longest(std::string_view key) const;   ///< as sentencepiece takes it

 private:
  /// A unit of a Darts-clone double array.
  struct Unit {
    uint32_t bits;
    bool has_leaf() const { return bits >> 8 & 1; }
    uint32_t value() const { return bits & 0x7FFFFFFF; }
    uint32_t label() const { return bits & (1u << 31 | 0xFF); }
    uint32_t offset() const { return bits >> 10 << ((bits & 1u << 9) >> 6); }
  };
  /// Calls take(match) for each rule that begins the key, shorter ones first, while it returns true.
  template <typename Take>
  void walk(std::string_view key, const Take& take) const;

  std::vector<Unit> trie_;
  std::string texts_;
};

}  // namespace ft
