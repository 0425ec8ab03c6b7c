#pragma once
/// Cuts text into the words that a model works on: tokenizer.json's `pre_tokenizer`, as a list of steps. Used inside
/// engine/text only; const calls may come from many threads.

#include <memory>
#include <vector>

#include "engine/schema/value.h"
#include "engine/text/aligned_text.h"

namespace ft {

/// One step: cuts a piece, and may change it.
class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  /// Appends the parts of `piece`; empty ones are ignored.
  virtual void split(AlignedText piece, std::vector<AlignedText>& out) const = 0;
};

class PreTokenizer {
 public:
  /// @param tree tokenizer.json's `pre_tokenizer`; null leaves pieces whole
  /// @param raw_bytes a ByteLevel at the end leaves the bytes as they are, for a model that reads them so
  /// @throws Error(format) naming the part that is not implemented
  PreTokenizer(const Value& tree, bool raw_bytes);

  /// Whether the last step is ByteLevel.
  static bool ends_in_byte_level(const Value& tree);

  /// Fills `words` with the words of a piece between added tokens.   @param spare memory
  void split(AlignedText piece, std::vector<AlignedText>& words, std::vector<AlignedText>& spare) const;

 private:
  void add(const Value& tree, bool raw_bytes);

  std::vector<std::unique_ptr<const PreTokenizerStep>> steps_;
};

}  // namespace ft
