#pragma once
/// The kernels as plain loops that the compiler turns into vectors of the including file's instruction set. In an
/// unnamed namespace and without the standard library: each including file must keep its own copy.

#include <cstdint>

#include "engine/quant/block8_kernels.h"

namespace ft::block8 {
namespace {

constexpr float kSmallestScale = 1e-12f;  // torchao's floor

inline int32_t bits_of(float value) {
  int32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// As integers, magnitudes sort like the floats they are, and NaN comes out on top instead of vanishing.
inline float block_scale(const float* x, int64_t count) {
  int32_t top = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t magnitude = bits_of(x[i]) & 0x7FFFFFFF;
    top = magnitude > top ? magnitude : top;
  }
  float absmax;
  __builtin_memcpy(&absmax, &top, sizeof(absmax));
  return absmax < kSmallestScale ? kSmallestScale : absmax;
}

inline float quantize(const MapTables& map, const float* __restrict x, int64_t count, uint8_t* __restrict codes) {
  const CodeTable& table = map.codes;
  const float scale = block_scale(x, count);
  const int32_t* __restrict entries = table.entries;
  const int32_t shift = table.shift, negative = table.negative, below = (1 << shift) - 1;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t bits = bits_of(x[i] / scale);
    int32_t magnitude = bits & 0x7FFFFFFF;
    magnitude = magnitude < kLowest ? kLowest : magnitude;
    magnitude = magnitude > kOne ? kOne : magnitude;
    const int32_t offset = magnitude - kLowest, sign = bits >> 31;
    const int32_t entry = entries[(offset >> shift) + (sign & negative)];
    const int32_t beyond = (offset & below) > (entry >> 8) ? 1 : 0;
    codes[i] = static_cast<uint8_t>((entry & 255) + ((beyond ^ sign) - sign));
  }
  return scale;
}

inline void dequantize(const MapTables& map, const uint8_t* __restrict codes, float scale, int64_t count,
                       float* __restrict out) {
  const float* __restrict values = map.values;
  for (int64_t i = 0; i < count; ++i) out[i] = values[codes[i]] * scale;
}

}  // namespace
}  // namespace ft::block8
