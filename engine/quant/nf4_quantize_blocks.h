#pragma once
/// The quantising kernel as plain loops that the compiler turns into vectors of the including file's instruction set.
/// In an unnamed namespace and without the standard library: each including file must keep its own copy.

#include <cstdint>

#include "engine/quant/nf4.h"

namespace ft::nf4 {
namespace {

struct Midpoints {
  float at[15];
};

constexpr Midpoints midpoints() {
  Midpoints m{};
  for (int i = 0; i < 15; ++i) m.at[i] = (kCodebook[i] + kCodebook[i + 1]) / 2.0f;
  return m;
}

// As integers, magnitudes sort like the floats they are, and NaN comes out on top instead of vanishing.
inline float block_absmax(const float* x) {
  uint32_t top = 0;
  for (int i = 0; i < kBlock; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof(bits));
    bits &= 0x7FFFFFFFu;
    top = bits > top ? bits : top;
  }
  float absmax;
  __builtin_memcpy(&absmax, &top, sizeof(absmax));
  return absmax;
}

inline void pack_codes(const float* scaled, uint8_t* codes) {
  constexpr Midpoints kMidpoints = midpoints();
  int32_t code[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    int32_t below = 0;
    for (int t = 0; t < 15; ++t) below += scaled[i] > kMidpoints.at[t] ? 1 : 0;
    code[i] = below;
  }
  for (int k = 0; k < kBlock / 2; ++k) codes[k] = static_cast<uint8_t>(code[2 * k] << 4 | code[2 * k + 1]);
}

// bitsandbytes' floor under absmax where it is divided by (backends/default/ops.py).
constexpr float kSmallestAbsmax = 1e-38f;

inline void quantize_blocks(const float* x, int64_t blocks, uint8_t* codes, float* absmax) {
  for (int64_t b = 0; b < blocks; ++b) {
    absmax[b] = block_absmax(x + b * kBlock);
    const float inverse = 1.0f / (absmax[b] < kSmallestAbsmax ? kSmallestAbsmax : absmax[b]);
    float scaled[kBlock];
    for (int i = 0; i < kBlock; ++i) scaled[i] = x[b * kBlock + i] * inverse;
    pack_codes(scaled, codes + b * (kBlock / 2));
  }
}

}  // namespace
}  // namespace ft::nf4
