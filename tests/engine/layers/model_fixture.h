#pragma once
/// What the tests of this folder share: descriptions as stdlib/ft/models/*.lua make them, weights by the formula of
/// tests/golden/models.py, and a forward and backward over the units with autograd alone.

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "engine/layers/model.h"

namespace ft::testing {

/// The description that llama.lua and qwen3.lua make of a config.json.
Value describe_model(const Value& config);

/// In [centre - scale, centre + scale] by (seed, name, flat index), as the golden script draws it.
at::Tensor formula(const std::string& name, at::IntArrayRef shape, double scale, double centre = 0);

struct Batch {
  at::Tensor tokens;
  Context context;
};
/// The golden script's batch: one document a row, positions from 0, its targets.
Batch golden_batch(int64_t rows, int64_t tokens, int64_t vocab);
/// A context over rows of documents of these lengths, positions restarting.
Context packed_context(const std::vector<std::vector<int64_t>>& documents);

/// Gives every parameter the golden script's value in `dtype` (fp32 ones for trainable), NF4 ones quantized from it.
void fill(Model& model, at::ScalarType frozen_dtype = at::kFloat, at::ScalarType trainable_dtype = at::kFloat);

/// Forward through all units.
at::Tensor forward(Model& model, const Batch& batch);
struct Gradients {
  double loss = 0;
  std::map<std::string, at::Tensor> of;  ///< by parameter name; trainable ones only
};
Gradients backward(Model& model, const Batch& batch);

}  // namespace ft::testing
