#pragma once
/// The sum of squares that clipping needs. Called for a unit at a time by squares_of_gradients (tensor_sums.h); any
/// thread; not collective.

#include <ATen/core/Tensor.h>

namespace ft {

/// Σ x² in fp64, without a copy of x in fp64. On the CPU in fixed chunks, added in order: the same bits on any number
/// of threads.   @param gradient 1-D fp32 contiguous
double sum_of_squares(const at::Tensor& gradient);

}  // namespace ft
