#pragma once
/// The kernels as plain loops that the compiler turns into vectors of the including file's instruction set. In an
/// unnamed namespace and without the standard library: each including file must keep its own copy.

#include <cstdint>

#include "engine/optim/update_kernels.h"

namespace ft::update {
namespace {

inline void adamw(const AdamW& step, const float* __restrict g, float* __restrict p, float* __restrict m,
                  float* __restrict v, int64_t count) {
  const AdamW s = step;
  for (int64_t i = 0; i < count; ++i) {
    const float decayed = p[i] - s.decay * p[i];
    const float mean = m[i] + s.weight_1 * (g[i] - m[i]);
    const float square = v[i] + s.weight_2 * (g[i] * g[i] - v[i]);
    const float denominator = __builtin_sqrtf(square) / s.root_correction_2 + s.eps;
    m[i] = mean;
    v[i] = square;
    p[i] = decayed - s.lr * (mean / s.correction_1) / denominator;
  }
}

inline void sgd_momentum(float lr, float momentum, const float* __restrict g, float* __restrict p, float* __restrict b,
                         int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    b[i] = momentum * b[i] + g[i];
    p[i] -= lr * b[i];
  }
}

inline void sgd(float lr, const float* __restrict g, float* __restrict p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] -= lr * g[i];
}

}  // namespace
}  // namespace ft::update
