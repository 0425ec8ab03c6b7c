#pragma once
/// Which of a model's units share a shard, and so are gathered, used and released together. Called by ShardedModel;
/// pure arithmetic, the same on every rank.

#include <cstddef>
#include <vector>

#include "engine/layers/model.h"
#include "engine/schema/value.h"

namespace ft {

/// Reads auto_wrap_policy of a plan's `parallel` block, in accelerate's names:
///   TRANSFORMER_BASED_WRAP (the default): each of the model's own layers by itself, and the embedding, and the head;
///   SIZE_BASED_WRAP: units are joined until they hold at least min_num_params parameters;
///   NO_WRAP: everything is one.
/// @return by unit its shard, ascending from 0 without gaps.
/// @throws Error(config) for another policy.
std::vector<size_t> wrap_units(const Value& parallel, Model& model);

}  // namespace ft
