#pragma once
/// Going on from a checkpoint, ours or another engine's: which one a plan names, whether it fits, and the optimizer's
/// state. Masters come through WeightSource, the place in the data through Sampler::restore. Called by the run on every
/// rank alike; all of them read the same directory.

#include <filesystem>
#include <memory>
#include <optional>

#include "engine/data/sampler.h"
#include "engine/formats/foreign_checkpoint.h"
#include "engine/optim/optimizer.h"
#include "engine/train/sharded_model.h"

namespace ft {

/// Where a run goes on.
struct ResumePoint {
  std::filesystem::path directory;         ///< of the run; empty: a new one begins, from another engine's checkpoint
  std::unique_ptr<SavedState> checkpoint;  ///< null: the run stopped before its first one, and starts anew
  std::string passed_over = {};            ///< what is there, is not taken, and why; "" when there is no such thing
  ForeignCheckpoint* foreign = nullptr;    ///< the checkpoint, where it is another engine's
};

/// What save.resume of a plan comes to: a checkpoint, a run's newest one, or with "auto" that of save.out if it holds a
/// run. A run that stopped before its first one goes on from where it began, which may be another engine's checkpoint.
/// Nothing where the plan does not resume, or "auto" finds no run yet.
/// @throws Error(config) for a path that is none of these, or "auto" without save.out.
std::optional<ResumePoint> resume_point(const Value& plan);

/// Finds the parameters that a state of transformers' Trainer keeps by numbers, where their order is known; else notes
/// in `passed_over` that it is not taken.
void name_averages(ResumePoint& point, Model& model, const Value& plan);

/// Compares what a checkpoint holds with what the model trains.
/// @throws Error(shape) naming parameters that are missing, unexpected or of another shape; Error(config) for another
/// seed or another number of rows a step, which would change the order of the data, and for averages of another
/// engine's that the plan's optimizer does not keep.
void check_resumable(const SavedState& saved, Model& model, const Value& plan);

/// Whether an optimizer's state is there: another engine's checkpoint may hold the weights alone.
bool holds_optimizer(const SavedState& saved);

/// Fills the optimizer's state and its count of steps.
/// @throws Error(config) when the checkpoint was written by another optimizer.
void load_optimizer(const SavedState& saved, Model& model, Optimizer& optimizer);

/// Goes to the place in the data: another engine's is taken for as many steps in the order of this one.
/// @throws Error(config) for more steps than this run has; Error(format) for a place beyond its end.
void restore_place(const SavedState& saved, Sampler& sampler);

}  // namespace ft
