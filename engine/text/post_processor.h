#pragma once
/// What is put around a text's tokens, or a pair's, when special tokens are asked for, and how their offsets are
/// trimmed: tokenizer.json's `post_processor`. Used inside engine/text only.

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

struct PostProcessor {
  /// A text's tokens, or ids of special ones.
  struct Part {
    static constexpr int kSpecial = -1;
    int text = kSpecial;  ///< 0 or 1: of the text, or of the one it is paired with
    std::vector<int32_t> ids{};
  };
  using Parts = std::vector<Part>;
  /// ByteLevel and RobertaProcessing with trim_offsets: offsets leave out the spaces around a token, but for one at the
  /// beginning that add_prefix_space may have put there.
  struct Trim {
    bool add_prefix_space;
  };

  std::vector<int32_t> before, behind;         ///< around a single text
  Parts pair{{0}, {1}}, plain_pair{{0}, {1}};  ///< of two texts, with special tokens and without
  std::vector<Trim> trims;

  /// ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing and Sequences of them.
  /// @param tree tokenizer.json's `post_processor`   @throws Error(format) naming the part that is not implemented
  static PostProcessor parse(const Value& tree);
  /// What tokenizer_config.json's add_bos_token and add_eos_token put around the texts of a tokenizer.model.
  static PostProcessor of_marks(std::optional<int32_t> bos, std::optional<int32_t> eos);
};

}  // namespace ft
