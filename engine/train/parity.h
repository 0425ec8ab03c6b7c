#pragma once
/// A model against values that a reference implementation stored: its loss, logits and gradients on the same tokens.
/// For `ftengine parity`, which tells whether an architecture that somebody stated computes what it should. One
/// process.

#include <optional>
#include <string>
#include <vector>

#include "engine/formats/safetensors.h"
#include "engine/train/sharded_model.h"

namespace ft {

struct Parity {
  struct Gradient {
    std::string name;
    double distance = 0;  ///< |got - want| / |want|, in norm
  };
  double loss = 0, want_loss = 0;    ///< mean nll of the tokens that follow
  std::optional<double> logits;      ///< largest absolute difference; absent where none are stored
  std::vector<Gradient> gradients;   ///< of the parameters that the reference has one of, in the model's order
  std::vector<std::string> missing;  ///< parameters that it has none of
};

/// Runs the model forward and backward on the reference's tokens, each row one document.
/// @param values tensors `tokens` int64 [B, T], `loss` (of one element), and optional: `logits` [B, T, V], `grad.NAME`
/// for each parameter.   @throws Error(format) for what is missing, of another shape, or nobody's gradient
Parity measure_parity(ShardedModel& model, const SafetensorsFile& values);

}  // namespace ft
