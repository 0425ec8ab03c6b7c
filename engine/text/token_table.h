#pragma once
/// The tokens of a model by id and by text, as tokenizer.json spells them. Used inside engine/text only; const calls
/// may come from many threads.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer_file.h"

namespace ft {

class TokenTable {
 public:
  /// Takes the file's vocabulary and its text.   @throws Error(format) for an id that two tokens have
  explicit TokenTable(TokenizerFile& file);

  /// The id of a token, or -1. Of two tokens with the same text the last.
  int32_t find(std::string_view token) const;
  /// The token of an id; empty when there is none.
  std::string_view token(int32_t id) const;
  bool has(int32_t id) const { return id >= 0 && id < size() && of_id_[id].size != kAbsent; }
  int32_t size() const { return static_cast<int32_t>(of_id_.size()); }  ///< highest id + 1
  int32_t count() const { return count_; }                              ///< tokens
  std::string_view str(TokenizerFile::Text t) const { return std::string_view(text_).substr(t.begin, t.size); }

 private:
  static constexpr uint32_t kAbsent = UINT32_MAX;

  std::string text_;
  std::vector<TokenizerFile::Text> of_id_;
  std::vector<int32_t> table_;  ///< hash table of ids by token text, -1 for free
  int32_t count_ = 0;
};

/// A power of two that leaves a hash table of `count` entries half empty.
size_t hash_table_size(size_t count);

}  // namespace ft
