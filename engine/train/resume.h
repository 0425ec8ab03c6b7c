#pragma once
/// Going on from a checkpoint: which one a plan names, whether it fits, and the optimizer's state. Masters come through
/// WeightSource, the place in the data through Sampler::restore. Called by the run on every rank alike; all of them
/// read the same directory.

#include <filesystem>
#include <memory>
#include <optional>

#include "engine/formats/checkpoint.h"
#include "engine/optim/optimizer.h"
#include "engine/train/sharded_model.h"

namespace ft {

/// Where a run goes on.
struct ResumePoint {
  std::filesystem::path directory;         ///< of the run
  std::unique_ptr<Checkpoint> checkpoint;  ///< null: the run stopped before its first one, and starts anew
  std::string passed_over = {};            ///< why newer checkpoints are not taken; "" when there are none
};

/// What save.resume of a plan comes to: a checkpoint, a run's newest one, or with "auto" that of save.out if it holds a
/// run. Nothing where the plan does not resume, or "auto" finds no run yet.
/// @throws Error(config) for a path that is neither, or "auto" without save.out.
std::optional<ResumePoint> resume_point(const Value& plan);

/// Compares what a checkpoint holds with what the model trains.
/// @throws Error(shape) naming parameters that are missing, unexpected or of another shape; Error(config) for another
/// seed or another number of rows a step, which would change the order of the data.
void check_resumable(const Checkpoint& checkpoint, Model& model, const Value& plan);

/// Fills the optimizer's state and its count of steps.
/// @throws Error(config) when the checkpoint was written by another optimizer.
void load_optimizer(const Checkpoint& checkpoint, Model& model, Optimizer& optimizer);

}  // namespace ft
