#pragma once
/// fp16 and bf16 to and from fp32, rounding to nearest even, free of LibTorch. NaN stays NaN (quiet), infinities and
/// subnormals are kept. The span versions use F16C and AVX2 where the CPU has them, with the same bits.

#include <bit>
#include <cstdint>

#include "engine/tensor/dtype.h"

namespace ft {

/// bf16 bits -> fp32: exact.
constexpr float bf16_to_fp32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

/// fp32 -> bf16 bits.
constexpr uint16_t fp32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

/// fp16 bits -> fp32: exact.
float fp16_to_fp32(uint16_t bits);
/// fp32 -> fp16 bits; beyond 65504 (from 65520 on) infinite.
uint16_t fp32_to_fp16(float value);

/// `count` elements of dtype (f32, f16, bf16) to fp32.   @throws Error(internal) for other dtypes.
void to_fp32(DType dtype, const void* in, int64_t count, float* out);
/// fp32 to `count` elements of dtype (f32, f16, bf16).
void from_fp32(const float* in, int64_t count, DType dtype, void* out);

}  // namespace ft
