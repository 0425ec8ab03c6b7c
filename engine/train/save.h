#pragma once
/// Writes a training state as a sharded checkpoint: every rank its own pieces, then one manifest. Called by the run.
/// Collective; a rank that cannot write its shard makes every rank throw the same error, and leaves no checkpoint.

#include <filesystem>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/train/sharded_model.h"

namespace ft {

/// This rank's trainable pieces, with views of their masters and gradients, in the order of units and ranges. Vectors
/// (norms, biases) are left out of weight decay, as transformers' Trainer does.
std::vector<OptimizerPiece> optimizer_pieces(ShardedModel& model);

/// Writes `directory` (…/checkpoint-<step>): masters, optimizer state, and `header` in the manifest. Does nothing when
/// a whole checkpoint stands there.
/// @throws Error(io) naming the rank that could not write.
void save_checkpoint(const std::filesystem::path& directory, ShardedModel& model, Optimizer& optimizer,
                     const Value& header);

}  // namespace ft
