#pragma once
/// What a merge writes from: the tensors of the result, where each one's values come from, and the config they go with.
/// A run of ftengine's own is one (merge_source.h), another engine's checkpoint another (foreign_input.h). Used by
/// merge alone; const members are safe from any thread.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/schema/value.h"
#include "engine/tensor/dtype.h"

namespace ft {

/// The two matrices of one linear: A [r, in], B [out, r].
struct LoraPair {
  std::string a, b;
  int64_t rank = 0;
};

/// One tensor of the merged model.
struct MergeTensor {
  std::string name = {};
  std::vector<int64_t> shape = {};
  DType stored = DType::f32;     ///< where it is read
  DType target = DType::f32;     ///< as it is written
  bool from_checkpoint = false;  ///< trained whole; else it is the base's
  std::optional<LoraPair> lora = {};
  bool dequantized = false;  ///< passes through NF4 before LoRA is folded in

  int64_t numel() const;
  uint64_t bytes() const { return static_cast<uint64_t>(numel()) * byte_size(target); }
};

class MergeInput {
 public:
  virtual ~MergeInput() = default;

  const std::vector<MergeTensor>& tensors() const { return tensors_; }
  const Value& config() const { return config_; }  ///< config.json; null where there is none
  float scale() const { return scale_; }           ///< of B·A: alpha/r, or alpha/sqrt(r) with use_rslora
  /// Whether weights that pass through NF4 have their scales quantized, too.
  virtual bool double_quant() const { return true; }

  /// Elements [begin, begin + count) of the flattened tensor, as they are stored.
  virtual void read(const MergeTensor& tensor, int64_t begin, int64_t count, void* out) const = 0;
  /// Elements of one of a LoraPair's matrices, as fp32.
  virtual void read_lora(const std::string& name, int64_t begin, int64_t count, float* out) const = 0;
  /// Files to take along: tokenizer, chat template, generation_config.json.
  virtual std::vector<std::filesystem::path> companions() const = 0;

 protected:
  /// lm_head.weight of a model with tied embeddings: the embedding's weights are the head's.
  bool is_tied_head(const std::string& name) const {
    return name == "lm_head.weight" && config_.get("tie_word_embeddings", false);
  }

  Value config_;
  std::vector<MergeTensor> tensors_;
  float scale_ = 0;
};

/// Factor of B·A that an adapter_config.json asks for.   @throws Error(config)
float lora_scale(const Value& adapter);

}  // namespace ft
