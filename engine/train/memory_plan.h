#pragma once
/// What a run will take, before anything is allocated: the plan's model is laid out on an imagined rank
/// (engine/parallel/imagined.h) and a step is walked there by the schedule that a run uses, so that a change to the
/// engine changes the plan. No weights are read, only the headers of their files where there are any. Called for
/// `ftengine plan` by lua/bind/wrap_model.cpp. Thread rule: one thread, one plan at a time. Not collective.

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/data/batch.h"
#include "engine/parallel/imagined.h"
#include "engine/schema/value.h"
#include "engine/train/sharded_model.h"

namespace ft {

struct EvaluateOptions;
struct Split;
class TokenRows;

struct MemoryPlanInputs {
  Value plan;             ///< the resolved plan, parallel.mesh filled in
  int ranks = 1;          ///< of the whole run
  bool gpu = false;       ///< ranks compute on GPUs, whatever this machine has
  Batch train, evaluate;  ///< the largest micro batch of each, of whole rows; evaluate.rows 0: nothing is evaluated
};

struct MemoryPlan {
  ParameterCounts counts;
  DType compute = DType::f32;
  std::vector<DType> frozen;  ///< dtypes in which frozen weights stand, NF4 aside
  /// Where things stand in a training step. On a CPU, whose device and home are one memory, at the moment when both
  /// together hold the most; on a GPU by place, each at its own.
  ImaginedMemory::Holding training{};
  /// What stands there between steps: weights, gradients that keep their memory, optimizer.
  ImaginedMemory::Holding standing{};
  /// By which an evaluation's peak is above what stands: its activations, loss and gathered units.
  int64_t evaluation = 0;
  /// By which LoRA's start by LoftQ is above what stands, of the host's memory.
  int64_t starting = 0;
  /// By which activation checkpointing would lower the peak; 0 where it is on.
  int64_t checkpointing_saves = 0;
  /// That one rank receives in a step, and copies to and from where its ranges live.
  Traffic traffic;
  int64_t bytes_to_device = 0, bytes_to_home = 0;
  int64_t checkpoint = 0;  ///< bytes of one, of all ranks
  int64_t merged = 0;      ///< of the merged model in the dtypes of the base
  int64_t floor = 0;  ///< anonymous memory beside tensors: what this process has before the plan, and what steps add
};

/// @throws Error(config) as a run's start would for a layout or a model that cannot be had.
MemoryPlan plan_memory(const MemoryPlanInputs& inputs);

/// By which the peak of evaluating by answers (Run::evaluate with `generate`) is above what stands.
int64_t plan_answers(const MemoryPlanInputs& inputs, const TokenRows& rows, const EvaluateOptions& options);

/// A micro batch of `rows` rows of the split that hold the most tokens: none takes more.
Batch heaviest_batch(const Split& split, int64_t rows, int64_t multiple);
/// The same where there is no data to look at: rows of one document of `length` tokens, all of them learned.
Batch assumed_batch(int64_t rows, int64_t length);

}  // namespace ft
