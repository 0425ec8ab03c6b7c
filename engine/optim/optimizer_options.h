#pragma once
/// The numbers of a resolved plan's `optimizer` block, checked. Read by build_optimizer and optimizer_state_bytes.

#include <string>

#include "engine/schema/value.h"

namespace ft {

enum class OptimizerKind { adamw, sgd, lion, adafactor, muon };

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  bool quantized = false;  ///< 8-bit state
};
struct SgdOptions {
  double momentum = 0;
  bool nesterov = false;
};
struct LionOptions {
  double beta1 = 0.9, beta2 = 0.99;
};
struct AdafactorOptions {
  double eps_square = 1e-30, eps_scale = 1e-3, clip_threshold = 1, decay_rate = -0.8;
  double beta1 = 0;  ///< 0: no first average
  bool scale_parameter = false;
};
struct MuonOptions {
  double momentum = 0.95, eps = 1e-7;
  bool nesterov = true;
  int64_t ns_steps = 5;
  bool match_rms_adamw = true;  ///< else "original"
  double adamw_lr_scale = 1;    ///< of what AdamW updates, times lr
};

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adamw;
  double lr = 0;            ///< the peak rate, 0 where the block states none
  double weight_decay = 0;  ///< of parameters that no group names
  AdamWOptions adamw{};     ///< of Muon too: embeddings, head and vectors
  SgdOptions sgd{};
  LionOptions lion{};
  AdafactorOptions adafactor{};
  MuonOptions muon{};
};

/// @throws Error(config) for an unknown kind and for values out of range, with the place in the recipe.
OptimizerOptions optimizer_options(const Value& description);

/// Refuses the value of optimizer.<key>, or what lies at `path` in it.
[[noreturn]] void refuse_option(const Value& block, const std::string& key, const std::string& wanted,
                                const std::string& path = {});

}  // namespace ft
