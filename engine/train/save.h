#pragma once
/// What of a training state is saved: every rank its own pieces. CheckpointSaver writes them, behind the training or
/// while it waits.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <vector>

#include "engine/formats/checkpoint.h"
#include "engine/optim/optimizer.h"
#include "engine/train/sharded_model.h"

namespace ft {

/// How a checkpoint's tensors lie in files: each rank's pieces in its own, or whole ones in a single file.
enum class StateDict { sharded, full };

/// This rank's trainable pieces, with views of their masters and gradients, in the order of units and ranges. Vectors
/// (norms, biases) are left out of weight decay, as transformers' Trainer does.
std::vector<OptimizerPiece> optimizer_pieces(ShardedModel& model);

/// What a rank writes of a training state: a piece's record, and where its bytes lie.
struct SavedPiece {
  Piece piece;
  at::Tensor value;
};

/// This rank's masters and optimizer state, as views of the tensors that training uses; nothing where another rank
/// saves the same.   @param optimizer null: masters alone
std::vector<SavedPiece> saved_pieces(ShardedModel& model, Optimizer* optimizer);

/// Writes `directory` (…/checkpoint-<step>) and waits: masters, optimizer state, and `header` in the manifest. Does
/// nothing when a whole checkpoint stands there. Collective.
/// @throws Error(io) naming the rank that could not write.
void save_checkpoint(const std::filesystem::path& directory, ShardedModel& model, Optimizer& optimizer,
                     const Value& header, StateDict kind = StateDict::sharded);

}  // namespace ft
