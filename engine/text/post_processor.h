#pragma once
/// What is put around a text's tokens when special tokens are asked for. Used inside engine/text only.

#include <cstdint>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

struct PostProcessor {
  std::vector<int32_t> before, behind;

  /// ByteLevel, TemplateProcessing, RobertaProcessing and Sequences of them, for a single text.
  /// @param tree tokenizer.json's `post_processor`   @throws Error(format) naming the part that is not implemented
  static PostProcessor parse(const Value& tree);
};

}  // namespace ft
