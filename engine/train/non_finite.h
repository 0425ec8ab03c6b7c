#pragma once
/// Where a step that came out infinite or as no number began. Called by the run when the global gradient norm, which
/// every rank has alike, says that it did. Collective.

#include <string>
#include <vector>

#include "engine/data/batch.h"
#include "engine/layers/module.h"
#include "engine/train/sharded_model.h"

namespace ft {

/// Runs the forward of a window once more and looks at each unit's output, then at the gradients that stand.
/// @param context of the window's training: seed, step, training; a batch's own part is filled in here.
/// @return the first unit of all ranks, as text that every rank gets: "model.layers.3 is the first unit whose output is
/// not finite (rank 1, micro batch 2)".
std::string find_non_finite(ShardedModel& model, const std::vector<Batch>& window, const Context& context);

}  // namespace ft
