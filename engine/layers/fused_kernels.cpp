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
  return for_isa(scalar::kKernels<float>, avx2::kFp32, avx512::kFp32);
}

template <>
const RowKernels<Bf16>& row_kernels<Bf16>() {
  return for_isa(scalar::kKernels<Bf16>, avx2::kBf16, avx512::kBf16);
}

template <>
const RowKernels<Fp16>& row_kernels<Fp16>() {
  return for_isa(scalar::kKernels<Fp16>, avx2::kFp16, avx512::kFp16);
}

}  // namespace ft
