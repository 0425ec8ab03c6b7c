#pragma once
/// What a merge writes from: the tensors of the result, where each one's values come from, and the config they go with.
/// A run of ftengine's own is one (merge_source.h), another engine's checkpoint another (foreign_input.h). Used by
/// merge alone; const members are safe from any thread.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"
#include "engine/tensor/dtype.h"

namespace ft {

/// What is folded into one weight: scale·B·A, with A [r, in] and B [out, r].
struct LoraPair {
  std::string a, b;
  int64_t rank = 0;
  float scale = 0;             ///< alpha/r, or alpha/sqrt(r) with use_rslora
  bool of_embedding = false;   ///< of a table [tokens, features]: A [r, tokens], B [features, r]; it adds (B·A)ᵀ
  std::string magnitude = {};  ///< DoRA's, [out]: a row keeps its direction and has this length; empty: none
};

/// What lora_bias adds to a bias: scale · the vector of this name.
struct LoraBias {
  std::string name;
  float scale = 0;
};

/// One tensor of the merged model.
struct MergeTensor {
  std::string name = {};
  std::vector<int64_t> shape = {};
  DType stored = DType::f32;     ///< where it is read
  DType target = DType::f32;     ///< as it is written
  bool from_checkpoint = false;  ///< trained whole; else it is the base's
  std::optional<LoraPair> lora = {};
  std::optional<LoraBias> added_bias = {};
  bool dequantized = false;  ///< passes through NF4 before LoRA is folded in

  int64_t numel() const;
  uint64_t bytes() const { return static_cast<uint64_t>(numel()) * byte_size(target); }
};

/// Whether transformers ties the head of this model type to the embedding where its config does not say.
inline bool ties_by_default(std::string_view model_type) {
  for (const std::string_view tied : {"cohere", "gemma2", "gemma3_text", "smollm3"})
    if (model_type == tied) return true;
  return false;
}

class MergeInput {
 public:
  virtual ~MergeInput() = default;

  const std::vector<MergeTensor>& tensors() const { return tensors_; }
  const Value& config() const { return config_; }  ///< config.json; null where there is none
  /// Whether weights that pass through NF4 have their scales quantized, too.
  virtual bool double_quant() const { return true; }

  /// Elements [begin, begin + count) of the flattened tensor, as they are stored.
  virtual void read(const MergeTensor& tensor, int64_t begin, int64_t count, void* out) const = 0;
  /// Elements of one of an adapter's tensors, as fp32.
  virtual void read_lora(const std::string& name, int64_t begin, int64_t count, float* out) const = 0;
  /// Files to take along: tokenizer, chat template, generation_config.json.
  virtual std::vector<std::filesystem::path> companions() const = 0;

 protected:
  /// lm_head.weight of a model with tied embeddings: the embedding's weights are the head's.
  bool is_tied_head(const std::string& name) const {
    return name == "lm_head.weight" &&
           config_.get("tie_word_embeddings", ties_by_default(config_.get("model_type", "")));
  }

  Value config_;
  std::vector<MergeTensor> tensors_;
};

}  // namespace ft
