#pragma once
/// A causal language model as a chain of units: embedding, decoder layers, final norm with the head. The unit is what
/// is gathered, used and released together (engine/train/schedule.cpp walks them).

#include <memory>
#include <string>
#include <vector>

#include "engine/layers/module.h"
#include "engine/layers/tensor_axis.h"
#include "engine/schema/value.h"
#include "engine/tensor/dtype.h"

namespace ft {

/// LoRA as PEFT's LoraConfig spells it.
struct LoraOptions {
  int64_t r = 16;
  double alpha = 32;
  double dropout = 0;
  bool use_rslora = false;
  /// "all-linear" (every linear but the head), a regular expression matched against the whole module path, or names of
  /// which one must be the path's end ("q_proj").
  Value target_modules = "all-linear";
};

struct ModelOptions {
  bool quantize_nf4 = false;  ///< every linear of the decoder layers; embedding, norms and head stay as in the file
  bool double_quant = true;
  DType compute = DType::f32;         ///< dtype of activations and GEMMs
  const LoraOptions* lora = nullptr;  ///< null: every parameter is trained
  TensorAxis tensor{};                ///< the ranks that share each layer's matrices
};

struct ModelUnit {
  std::string name;  ///< "model.embed_tokens", "model.layers.3", "lm_head"
  std::unique_ptr<Module> module;
  std::vector<Parameter*> parameters;  ///< owned by this unit
  /// Units whose parameters this one reads too: the head with tied embeddings reads unit 0.
  std::vector<size_t> borrows{};
  bool checkpoint = true;      ///< activation checkpointing applies (not to the head: its backward follows at once)
  bool backward_reads = true;  ///< its backward reads its parameters (the embedding's reads tokens alone)
};

class Model {
 public:
  /// Builds the tree from a description without allocating any parameter.
  /// @throws Error(config) for an unknown block, a missing key, or target_modules that match nothing.
  Model(const Value& description, const ModelOptions& options);

  std::vector<ModelUnit>& units() { return units_; }
  std::vector<Parameter*> parameters();
  /// Paths of the linears that got LoRA, in order.
  const std::vector<std::string>& adapted() const { return adapted_; }
  int64_t num_layers() const;
  int64_t vocab_size() const { return vocab_size_; }

 private:
  std::vector<ModelUnit> units_;
  std::vector<std::string> adapted_;
  int64_t vocab_size_ = 0;
};

}  // namespace ft
