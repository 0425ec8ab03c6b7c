#pragma once
/// Dropout by a hash of (token's key, feature) on a GPU: the kernels of dropout.cu, called by fused_cuda.cpp (CUDA
/// plugin only). The reference is fused_kernels_body.h, whose bits they give: the same features fall whatever the
/// device.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "engine/tensor/dtype.h"

namespace ft::device {

/// Rows of `width` features, a key each, dense, all on the device.
struct DropoutRows {
  DType dtype = DType::f32;       ///< of x and y: f32, bf16 or f16
  const int64_t* keys = nullptr;  ///< [rows]
  int64_t rows = 0;
  int64_t width = 0;
  double p = 0;  ///< in [0, 1)
};

/// y = dropout(x), or y += dropout(x) with `add`; queued on `stream`.
/// @throws Error(internal) for another dtype or a launch that CUDA refuses.
void dropout(const DropoutRows& rows, const void* x, void* y, bool add, cudaStream_t stream);

}  // namespace ft::device
