#pragma once
/// What is done to a text before it is cut into words: tokenizer.json's `normalizer`. Used inside engine/text only;
/// const calls may come from many threads.

#include <memory>

#include "engine/schema/value.h"
#include "engine/text/aligned_text.h"

namespace ft {

struct SentencePieces;

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(AlignedText& text) const = 0;
};

/// @param tree tokenizer.json's `normalizer`; null makes one that changes nothing
/// @throws Error(format) naming the part that is not implemented
std::unique_ptr<const Normalizer> parse_normalizer(const Value& tree);

/// NFC, NFD, NFKC and NFKD as `tokenizers` computes them: by utf8proc, but for the characters that its older table does
/// not know.   @param name one of the four   @return null for another name
std::unique_ptr<const Normalizer> unicode_form(const std::string& name);

/// A SentencePiece character map (T5, XLM-R): a Darts trie of replacements, by grapheme.
/// @param charsmap base64   @throws Error(format) for one that is broken
std::unique_ptr<const Normalizer> precompiled_normalizer(const std::string& charsmap);

/// What a tokenizer.model does to its texts.
std::unique_ptr<const Normalizer> sentencepiece_normalizer(std::shared_ptr<const SentencePieces> pieces);

/// The canonical decomposition of each character, marks in order; for BertNormalizer.
void decompose(AlignedText& text);

}  // namespace ft
