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

inline void sgd_momentum(const Sgd& step, const float* __restrict g, float* __restrict p, float* __restrict b,
                         int64_t count) {
  const Sgd s = step;
  if (s.nesterov) {
    for (int64_t i = 0; i < count; ++i) {
      const float direction = g[i] + s.weight_decay * p[i];
      b[i] = s.momentum * b[i] + direction;
      p[i] -= s.lr * (direction + s.momentum * b[i]);
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    b[i] = s.momentum * b[i] + (g[i] + s.weight_decay * p[i]);
    p[i] -= s.lr * b[i];
  }
}

inline void sgd(const Sgd& step, const float* __restrict g, float* __restrict p, int64_t count) {
  const Sgd s = step;
  for (int64_t i = 0; i < count; ++i) p[i] -= s.lr * (g[i] + s.weight_decay * p[i]);
}

inline void lion(const Lion& step, const float* __restrict g, float* __restrict p, float* __restrict m, int64_t count) {
  const Lion s = step;
  for (int64_t i = 0; i < count; ++i) {
    const float rise = g[i] - m[i];
    const float direction = __builtin_fmaf(s.weight_1, rise, m[i]);
    const float up = direction > 0 ? s.lr : 0.0f, down = direction < 0 ? s.lr : 0.0f;
    m[i] = __builtin_fmaf(s.weight_2, rise, m[i]);
    p[i] = s.keep * p[i] - (up - down);
  }
}

}  // namespace
}  // namespace ft::update
