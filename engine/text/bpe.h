#pragma once
/// Byte-pair encoding of single words, with a cache of words seen. Used inside engine/text only. A BpeModel's const
/// calls may come from many threads, a WordCache each.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer_file.h"

namespace ft {

/// A token of a word and the bytes of the word it covers; they lie one after the other unless a byte had no token.
struct BpeSymbol {
  int32_t id;
  uint32_t begin, end;
};

/// Words and their symbols, forgotten all at once when it is full.
class WordCache {
 public:
  WordCache();
  /// The symbols of a word seen before, or false.
  bool find(std::string_view word, const BpeSymbol*& symbols, size_t& count) const;
  void insert(std::string_view word, const BpeSymbol* symbols, size_t count);

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t key = 0, key_size = 0, symbols = 0, count = 0;  // count 0: empty
  };
  std::vector<Slot> slots_;
  std::string keys_;
  std::vector<BpeSymbol> symbols_;
  size_t used_ = 0;
};

class BpeModel {
 public:
  struct Options {
    bool ignore_merges = false;  ///< a word that is a token is that token, whatever the merges say (Llama 3)
    bool fuse_unk = false;       ///< unknown bytes in a row become one unknown token
    int32_t unk_id = -1;         ///< -1: a byte without a token vanishes, as in `tokenizers`
  };

  /// Takes the file's vocabulary and merges.   @throws Error(format) for a merge whose parts or result are no tokens
  BpeModel(TokenizerFile& file, Options options);

  /// The id of a token as the file spells it, or -1.
  int32_t find(std::string_view token) const;
  /// The token of an id as the file spells it; empty when there is none.
  std::string_view token(int32_t id) const;
  bool has(int32_t id) const { return id >= 0 && id < size() && of_id_[id].size != kAbsent; }
  int32_t size() const { return static_cast<int32_t>(of_id_.size()); }  ///< highest id + 1
  int32_t count() const { return count_; }                              ///< tokens
  void set_unk(int32_t id) { options_.unk_id = id; }

  /// Appends a word's symbols.   @param word raw bytes
  void encode(std::string_view word, WordCache& cache, std::vector<BpeSymbol>& out) const;

 private:
  static constexpr uint32_t kAbsent = UINT32_MAX;
  struct MergeSlot {
    uint64_t pair = UINT64_MAX;
    uint32_t rank = 0;
    int32_t id = 0;
  };
  struct Merged {
    uint32_t rank;
    int32_t id;
  };
  void add_merge(uint32_t rank, TokenizerFile::Merge merge);
  Merged merged(int32_t left, int32_t right) const;
  void initial(std::string_view word, std::vector<BpeSymbol>& symbols) const;
  void merge_short(std::vector<BpeSymbol>& symbols) const;
  void merge_long(std::vector<BpeSymbol>& symbols) const;
  void encode_uncached(std::string_view word, std::vector<BpeSymbol>& symbols) const;

  Options options_;
  std::string text_;
  std::vector<TokenizerFile::Text> of_id_;
  std::vector<int32_t> table_;  ///< hash table of ids by token text, -1 for free
  std::vector<MergeSlot> merges_;
  int32_t of_byte_[256];
  int32_t count_ = 0;
};

}  // namespace ft
