#include "engine/layers/fused_kernels.h"

#include "engine/device/cpu_features.h"

namespace ft {
namespace scalar {
#include "engine/layers/fused_kernels_body.h"
}  // namespace scalar
namespace avx2 {
extern const RowKernels<float> kFp32;
extern const RowKernels<Bf16> kBf16;
extern const RowKernels<Fp16> kFp16;
}  // namespace avx2
namespace avx512 {
extern const RowKernels<float> kFp32;
extern const RowKernels<Bf16> kBf16;
extern const RowKernels<Fp16> kFp16;
}  // namespace avx512

template <>
const RowKernels<float>& row_kernels<float>() {
  switch (cpu_isa()) {
    case Isa::avx512:
      return avx512::kFp32;
    case Isa::avx2:
      return avx2::kFp32;
    case Isa::scalar:
      break;
  }
  return scalar::kKernels<float>;
}

template <>
const RowKernels<Bf16>& row_kernels<Bf16>() {
  switch (cpu_isa()) {
    case Isa::avx512:
      return avx512::kBf16;
    case Isa::avx2:
      return avx2::kBf16;
    case Isa::scalar:
      break;
  }
  return scalar::kKernels<Bf16>;
}

template <>
const RowKernels<Fp16>& row_kernels<Fp16>() {
  switch (cpu_isa()) {
    case Isa::avx512:
      return avx512::kFp16;
    case Isa::avx2:
      return avx2::kFp16;
    case Isa::scalar:
      break;
  }
  return scalar::kKernels<Fp16>;
}

}  // namespace ft
