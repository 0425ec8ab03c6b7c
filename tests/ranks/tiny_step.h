#pragma once
/// What the tests that train a tiny decoder on several ranks share, whatever drives their steps: how a micro batch is
/// learnt, what is measured of a step, how two trainings are compared, and the jobs that they are given.

#include <vector>

#include "engine/data/batch.h"
#include "engine/optim/optimizer.h"
#include "engine/train/micro_batch.h"
#include "engine/train/sharded_model.h"

namespace ft::test {

/// One micro batch of several rows of one length.
Batch joined(const std::vector<Batch>& rows);

/// What a micro batch is learnt with: one seed of dropout, and its loss divided by the step's tokens on all ranks.
void set_step(MicroBatch& made, int64_t step, double tokens);

/// Norm of the gradients of a step. Collective.
double grad_norm(ShardedModel& model);

/// Copies of this rank's masters and optimizer state.
std::vector<at::Tensor> copied_state(ShardedModel& model, Optimizer& optimizer);

/// Whether there are tensors, and all are alike to the bit.
bool same_bits(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b);

/// Largest relative difference; infinity where there is nothing to compare, or what is found is no number.
double worst(const std::vector<double>& found, const std::vector<double>& want);

Value adamw();
Value adamw8();
Value sgd();  ///< AdamW hides a wrong scale of the gradients; this does not
Value full(Value optimizer);
Value lora(Value optimizer);
Value qlora(Value optimizer);
Value with(Value job, const char* key, Value value);

}  // namespace ft::test
