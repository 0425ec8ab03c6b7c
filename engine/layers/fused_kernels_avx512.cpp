#include "engine/layers/fused_kernels.h"

namespace ft::avx512 {
#include "engine/layers/fused_kernels_body.h"

extern const RowKernels<float> kFp32;
extern const RowKernels<Bf16> kBf16;
extern const RowKernels<Fp16> kFp16;
const RowKernels<float> kFp32 = kKernels<float>;
const RowKernels<Bf16> kBf16 = kKernels<Bf16>;
const RowKernels<Fp16> kFp16 = kKernels<Fp16>;
}  // namespace ft::avx512
