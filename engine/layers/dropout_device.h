#pragma once
/// Dropout by a hash of (token's key, feature) on a GPU: the kernels of dropout.cu, called by ops_cuda.cpp (CUDA plugin
/// only). The reference is fused_kernels_body.h, whose bits they give: the same features fall whatever the device.

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ft::device {

/// Rows of `width` features, a key each, dense, all on the device.
struct DropoutRows {
  const int64_t* keys = nullptr;  ///< [rows]
  int64_t rows = 0;
  int64_t width = 0;
  double p = 0;       ///< in [0, 1)
  bool bf16 = false;  ///< else fp32: of x and y
};

/// y = dropout(x), or y += dropout(x) with `add`; queued on `stream`.
/// @throws Error(internal) for a launch that CUDA refuses.
void dropout(const DropoutRows& rows, const void* x, void* y, bool add, cudaStream_t stream);

}  // namespace ft::device
