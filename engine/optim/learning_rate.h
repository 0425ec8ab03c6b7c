#pragma once
/// The learning rate as a function of the step: transformers' get_*_schedule_with_warmup formulas. Pure functions, the
/// same on every rank; called by train/ before each optimizer step.

#include <cstdint>

#include "engine/schema/value.h"

namespace ft {

/// The rate of one step of `total`, of which `step` are done (0 for the first, whose rate is 0 under a warm-up, as in
/// transformers).
/// @param schedule null means constant; else, with transformers' function:
///   { kind = "constant", warmup = 0 }                                  get_constant_schedule_with_warmup
///   { kind = "linear", warmup, min_lr_ratio = 0 }                      get_linear_schedule_with_warmup
///   { kind = "cosine", warmup, min_lr_ratio, cycles = 1 }              get_cosine_schedule_with_warmup,
///   …_with_min_lr_…,
///                                                                      get_cosine_with_hard_restarts_…
///   { kind = "inverse_sqrt", warmup, timescale = warmup or 10000 }     get_inverse_sqrt_schedule
///   { kind = "wsd", warmup, decay = 0.1, decay_type = "cosine" | "linear" | "1-sqrt", min_lr_ratio }  get_wsd_schedule
/// warmup and decay below 1 are shares of `total`, rounded up, else numbers of steps.
/// @throws Error(config) for an unknown kind and for values out of range.
double learning_rate(const Value& schedule, double base_lr, int64_t step, int64_t total);

}  // namespace ft
