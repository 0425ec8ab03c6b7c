#pragma once
/// The learning rate as a function of the step: transformers' get_*_schedule_with_warmup formulas. Pure functions, the
/// same on every rank; called by train/ before each optimizer step.

#include <cstdint>

#include "engine/schema/value.h"

namespace ft {

/// The rate of one step of `total`, of which `step` are done (0 for the first, whose rate is 0 under a warm-up, as in
/// transformers).
/// @param schedule { kind = "constant" | "linear" | "cosine", warmup = 0, min_lr_ratio = 0 }; null
///   means constant. warmup below 1 is a share of `total`, rounded up, else a number of steps.
/// @throws Error(config) for an unknown kind, a negative warmup, or min_lr_ratio outside [0, 1].
double learning_rate(const Value& schedule, double base_lr, int64_t step, int64_t total);

}  // namespace ft
