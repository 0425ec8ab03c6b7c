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
    const float mean = __builtin_fmaf(s.weight_1, g[i] - m[i], m[i]);
    const float square = __builtin_fmaf(s.weight_2, __builtin_fmaf(g[i], g[i], -v[i]), v[i]);
    const float denominator = __builtin_fmaf(__builtin_sqrtf(square), s.inverse_root, s.eps);
    m[i] = mean;
    v[i] = square;
    p[i] = __builtin_fmaf(-s.rate, mean / denominator, s.keep * p[i]);
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
