#pragma once
/// LoRA as PEFT's LoraConfig spells it: what a plan's adapter table, or an adapter_config.json, asks for. A plain
/// value; read by the layers, which build it, and by merge, which folds it.

#include <cstdint>

#include "engine/schema/value.h"

namespace ft {

struct LoraOptions {
  int64_t r = 16;
  double alpha = 32;
  double dropout = 0;
  bool use_rslora = false;
  /// "all-linear" (every linear but the head), a regular expression matched against the whole module path, or names of
  /// which one must be the path's end ("q_proj").
  Value target_modules = "all-linear";
  bool use_dora = false;   ///< a magnitude for each row beside its direction (Liu et al., "DoRA", 2024)
  bool lora_bias = false;  ///< lora_B has a bias
  /// A and B begin as the best correction of what NF4 takes away (init_lora_weights = "loftq"): the adapter goes with
  /// the weights that it is trained on, the quantized ones.
  bool loftq = false;
  bool ensure_weight_tying = false;  ///< what is trained of tied embeddings is trained for the head as well
  Value exclude_modules{};           ///< as target_modules: what these match has none
  Value layers_to_transform{};       ///< a layer's index or a list of them; null: all
  Value layers_pattern{};            ///< names of the list of layers that the indices count in; null: the first list
  Value rank_pattern{};              ///< map from a pattern for the end of a module's path to its r
  Value alpha_pattern{};             ///< the same for alpha
  Value modules_to_save{};           ///< names of modules of the base that are trained whole

  /// @param adapter a plan's adapter table; keys that are absent have their defaults
  static LoraOptions read(const Value& adapter);
};

/// Whether an entry of a configuration asks for anything: not null, false, or empty.
bool asks_for_something(const Value& value);

}  // namespace ft
