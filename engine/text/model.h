#pragma once
/// What turns a word into tokens: tokenizer.json's `model`. Used inside engine/text only. Const calls may come from
/// many threads, a WordCache each.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"
#include "engine/text/token_table.h"
#include "engine/text/tokenizer_file.h"

namespace ft {

/// A token of a word and the bytes of the word it covers.
struct Symbol {
  int32_t id;
  uint32_t begin, end;
};

/// Words and their symbols, forgotten all at once when it is full.
class WordCache {
 public:
  WordCache();
  /// The symbols of a word seen before, or false.
  bool find(std::string_view word, const Symbol*& symbols, size_t& count) const;
  void insert(std::string_view word, const Symbol* symbols, size_t count);

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t key = 0, key_size = 0, symbols = 0, count = 0;  // count 0: empty
  };
  std::vector<Slot> slots_;
  std::string keys_;
  std::vector<Symbol> symbols_;
  size_t used_ = 0;
};

class Model {
 public:
  virtual ~Model() = default;
  /// The symbols of a word, from the cache where it has them; valid until the next call with the same cache.
  void encode(std::string_view word, WordCache& cache, std::vector<Symbol>& out) const;
  const TokenTable& tokens() const { return tokens_; }

 protected:
  explicit Model(TokenizerFile& file) : tokens_(file) {}
  /// Appends a word's symbols.   @throws Error(format) where the model has no token for a text and no unknown token
  virtual void encode_word(std::string_view word, std::vector<Symbol>& out) const = 0;

  TokenTable tokens_;
};

/// @param raw_bytes words are bytes, not their spelling; only where reads_raw_bytes() says so
/// @throws Error(format) naming what is not implemented: "model: dropout"
std::unique_ptr<const Model> parse_model(TokenizerFile& file, bool raw_bytes);
/// Whether the model is a byte-level BPE that takes words as bytes.
bool reads_raw_bytes(const Value& model);

// The kinds.
std::unique_ptr<const Model> parse_bpe(TokenizerFile& file, bool raw_bytes);
std::unique_ptr<const Model> parse_unigram(TokenizerFile& file);
std::unique_ptr<const Model> parse_word_piece(TokenizerFile& file);
std::unique_ptr<const Model> parse_word_level(TokenizerFile& file);
std::unique_ptr<const Model> parse_sentencepiece(TokenizerFile& file);  ///< of a tokenizer.model

/// The byte that a piece like <0x0A> stands for, or -1.
int byte_of_piece(std::string_view piece);

/// True for an entry that is present and switched on: true, a number other than 0, text that is not empty.
bool is_on(const Value& tree, const char* key);

}  // namespace ft
