#include "engine/tensor/half.h"

#include <cstring>
#include <string>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"
#include "engine/tensor/half_kernels.h"

namespace ft {
namespace {

template <class In, class Out>
using Convert = Out (*)(In);

template <class In, class Out>
void each(const void* in, int64_t count, void* out, Convert<In, Out> convert) {
  for (int64_t i = 0; i < count; ++i) static_cast<Out*>(out)[i] = convert(static_cast<const In*>(in)[i]);
}

[[noreturn]] void refuse(DType dtype) {
  throw Error(ErrorKind::internal, std::string("got ") + to_string(dtype) + ", want fp32, fp16 or bf16");
}

}  // namespace

float fp16_to_fp32(uint16_t bits) {
  const uint32_t sign = (uint32_t{bits} & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu, mantissa = bits & 0x3FFu;
  if (exponent == 0x1Fu) {
    const uint32_t quiet = mantissa ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7F800000u | quiet | (mantissa << 13));
  }
  if (exponent == 0) {  // zero or subnormal: mantissa · 2^-24, exact in fp32
    const uint32_t magnitude = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f);
    return std::bit_cast<float>(sign | magnitude);
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

uint16_t fp32_to_fp16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // 65520, halfway past the largest
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the value in units of 2^-24, rounded to even
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xFFFu + odd) >> 13));
}

void to_fp32(DType dtype, const void* in, int64_t count, float* out) {
  const bool vector = cpu_isa() != Isa::scalar;
  switch (dtype) {
    case DType::f32:
      if (count > 0) std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::f16:
      if (vector) return avx2::fp16_to_fp32(static_cast<const uint16_t*>(in), count, out);
      return each<uint16_t, float>(in, count, out, fp16_to_fp32);
    case DType::bf16:
      if (vector) return avx2::bf16_to_fp32(static_cast<const uint16_t*>(in), count, out);
      return each<uint16_t, float>(in, count, out, bf16_to_fp32);
    default:
      refuse(dtype);
  }
}

void from_fp32(const float* in, int64_t count, DType dtype, void* out) {
  const bool vector = cpu_isa() != Isa::scalar;
  switch (dtype) {
    case DType::f32:
      if (count > 0) std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::f16:
      if (vector) return avx2::fp32_to_fp16(in, count, static_cast<uint16_t*>(out));
      return each<float, uint16_t>(in, count, out, fp32_to_fp16);
    case DType::bf16:
      if (vector) return avx2::fp32_to_bf16(in, count, static_cast<uint16_t*>(out));
      return each<float, uint16_t>(in, count, out, fp32_to_bf16);
    default:
      refuse(dtype);
  }
}

}  // namespace ft
