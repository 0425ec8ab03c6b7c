#pragma once
/// tokenizer.json as read: a small tree, and the vocabulary and merges beside it, which are too many for one (Llama 3
/// has 400,000 of them, and each would be a node). Used inside engine/text only.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

struct SentencePieces;

struct TokenizerFile {
  /// A stretch of `text`.
  struct Text {
    uint32_t begin, size;
  };
  struct VocabEntry {
    Text token;
    int32_t id;
  };
  struct Merge {
    Text left, right;
  };

  Value tree;  ///< everything but model.vocab and model.merges
  std::string text;
  std::vector<VocabEntry> vocab;
  std::vector<double> scores;  ///< of vocab, where it is a list (Unigram); ids are its places
  std::vector<Merge> merges;
  bool has_merges = false;                       ///< model.merges is a list
  bool has_vocab_map = false;                    ///< model.vocab is a map of token to id (Unigram has a list)
  std::shared_ptr<const SentencePieces> pieces;  ///< of a tokenizer.model; null for a tokenizer.json

  std::string_view str(Text t) const { return std::string_view(text).substr(t.begin, t.size); }
};

/// @throws Error(io), Error(format) with file:line
TokenizerFile read_tokenizer_file(const std::filesystem::path& file);

}  // namespace ft
