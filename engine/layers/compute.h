#pragma once
/// Which dtype to compute in, and the few checks and casts that every layer makes on its way there. Parameters are
/// stored in one dtype and used in another: layers cast at the GEMM, and keep no cast copy.

#include <ATen/core/Tensor.h>

#include <string_view>

#include "engine/tensor/dtype.h"

namespace ft {

/// What compute = "auto" means on this machine: bf16 where the processor multiplies it natively (AVX512-BF16 or
/// AMX-BF16), else fp32. Read from the processor's flags, never measured, so that two runs agree.
DType fast_compute_dtype();

/// @throws Error(internal) naming `owner` when the tensor's storage has been released (its unit is not gathered).
void check_gathered(const at::Tensor& tensor, std::string_view owner);

/// The tensor in `dtype`; itself where it has it already.
at::Tensor in_dtype(const at::Tensor& tensor, at::ScalarType dtype);

}  // namespace ft
