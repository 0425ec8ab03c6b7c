#pragma once
/// A causal language model as a chain of units: embedding, decoder layers, final norm with the head. The unit is what
/// is gathered, used and released together (engine/train/schedule.cpp walks them).

#include <memory>
#include <string>
#include <vector>

#include "engine/formats/lora_options.h"
#include "engine/layers/module.h"
#include "engine/layers/tensor_axis.h"
#include "engine/schema/value.h"
#include "engine/tensor/dtype.h"

namespace ft {

class RouterBalance;

struct ModelOptions {
  bool quantize_nf4 = false;  ///< every linear of the decoder layers; embedding, norms and head stay as in the file
  bool double_quant = true;
  DType compute = DType::f32;         ///< dtype of activations and GEMMs
  const LoraOptions* lora = nullptr;  ///< null: every parameter is trained
  /// Without LoRA: patterns that match a name from its start; the parameters that none matches are frozen. Empty: all
  /// are trained.
  std::vector<std::string> unfrozen{};
  TensorAxis tensor{};  ///< the ranks that share each layer's matrices
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

/// LoRA of a linear that is to begin as the best correction of what quantizing its weight takes away.
struct LowRankStart {
  Parameter *weight, *a, *b;
  double scale;  ///< by which B·A is multiplied
};

class Model {
 public:
  /// Builds the tree from a description without allocating any parameter.
  /// @throws Error(config) for an unknown block, a missing key, or target_modules, modules_to_save or unfrozen
  /// parameters that match nothing.
  Model(const Value& description, const ModelOptions& options);

  std::vector<ModelUnit>& units() { return units_; }
  std::vector<Parameter*> parameters();
  /// Paths of the linears that got LoRA, in order.
  const std::vector<std::string>& adapted() const { return adapted_; }
  /// What LoftQ begins, in order; empty without it.
  const std::vector<LowRankStart>& low_rank_starts() const { return low_rank_starts_; }
  /// The auxiliary loss of layers with experts; null without one.
  RouterBalance* balance() const { return balance_.get(); }
  /// Tokens beyond which a row's angles are others from its first token on (longrope): what is cached no longer fits.
  /// Several where layers rotate differently.
  const std::vector<int64_t>& angle_switches() const { return angle_switches_; }
  int64_t num_layers() const;
  int64_t vocab_size() const { return vocab_size_; }

 private:
  void train_whole(const LoraOptions& lora, const Parameter& embedding);
  void freeze_all_but(const std::vector<std::string>& patterns);

  std::vector<ModelUnit> units_;
  std::vector<std::string> adapted_;
  std::vector<LowRankStart> low_rank_starts_;
  std::vector<int64_t> angle_switches_;
  std::shared_ptr<RouterBalance> balance_;
  int64_t vocab_size_ = 0;
};

}  // namespace ft
