#pragma once
/// Log-probabilities of whole sequences, and training on a loss over them: what preference losses such as DPO need
/// (Rafailov et al., 2023). A sequence is a document with targets; a batch's are counted row after row. Called by Run.
/// Rank rule: collective over the ranks that share the model; each has its own sequences.

#include <functional>
#include <vector>

#include "engine/data/batch.h"
#include "engine/train/run.h"
#include "engine/train/sharded_model.h"

namespace ft {

/// Σ log p over each sequence's targets, in fp64.
/// @param adapter false: of the base, as it was before training
/// @throws Error(config) where the base has been trained too, so that it is no reference any more, and where sequences
/// or the vocabulary are split over ranks.
std::vector<double> sequence_log_probs(ShardedModel& model, const Batch& batch, bool adapter);

/// Forward and backward of one micro batch under a loss of the caller's.
/// @param context its loss_scale multiplies the gradient.   @return the loss's value, not scaled.
double train_on_sequences(ShardedModel& model, const Batch& batch, const Context& context,
                          const SequenceLossOf& loss_of);

}  // namespace ft
