#pragma once
/// What is put around a text's tokens when special tokens are asked for, and how their offsets are trimmed:
/// tokenizer.json's `post_processor`. Used inside engine/text only.

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

struct PostProcessor {
  std::vector<int32_t> before, behind;
  /// ByteLevel and RobertaProcessing with trim_offsets: offsets leave out the spaces around a token, but for one at the
  /// beginning that add_prefix_space may have put there.
  struct Trim {
    bool add_prefix_space;
  };
  std::vector<Trim> trims;

  /// ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing and Sequences of them, for a single text.
  /// @param tree tokenizer.json's `post_processor`   @throws Error(format) naming the part that is not implemented
  static PostProcessor parse(const Value& tree);
  /// What tokenizer_config.json's add_bos_token and add_eos_token put around the texts of a tokenizer.model.
  static PostProcessor of_marks(std::optional<int32_t> bos, std::optional<int32_t> eos);
};

}  // namespace ft
