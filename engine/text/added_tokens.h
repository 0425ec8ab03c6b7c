#pragma once
/// Tokens that are found in the text before anything else looks at it: <|im_end|> and the like. Used inside engine/text
/// only; const calls may come from many threads.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/byte_trie.h"

namespace ft {

/// An entry of tokenizer.json's added_tokens.
struct AddedToken {
  static constexpr int32_t kNoId = -2;  ///< of one that a file names and none lists

  int32_t id = 0;
  std::string content;
  bool single_word = false;  ///< not beside a word character
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space behind it
  bool normalized = false;   ///< looked for after the normalizer, not before
  bool special = false;
};

/// Bytes [begin, end) of a text; `id` is the added token there (AddedToken::kNoId for one without), or kPlain.
struct TextSpan {
  static constexpr int32_t kPlain = -1;
  size_t begin, end;
  int32_t id;
};

/// Finds a set of added tokens: leftmost, then longest, not overlapping (the Aho-Corasick set-up of `tokenizers`,
/// added_vocabulary.rs).
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  /// @param patterns what to look for, for each token: its content, normalized where the token is
  AddedTokenMatcher(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  /// Cuts `text` at the tokens; plain spans are not empty.   @param text valid UTF-8
  void split(std::string_view text, std::vector<TextSpan>& spans) const;

 private:
  int32_t longest_at(std::string_view text, size_t at, size_t& end) const;

  std::vector<AddedToken> tokens_;
  ByteTrie trie_;
  bool first_[256] = {};
};

}  // namespace ft
