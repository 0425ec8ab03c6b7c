#pragma once
/// RMSNorm on a GPU: the kernels of rms_norm.cu, called by fused_cuda.cpp (CUDA plugin only). The reference is
/// fused_kernels_body.h; sums are made in another order, by threads and warps, the same on every run.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "engine/tensor/dtype.h"

namespace ft::device {

/// Dense rows of `width` values, all on the device.
struct NormRows {
  DType dtype = DType::f32;         ///< of x, y and their gradients: f32, bf16 or f16
  DType weight_dtype = DType::f32;  ///< that dtype, or f32
  int64_t rows = 0, width = 0;
  const void* x = nullptr;
  const void* weight = nullptr;  ///< [width]
  float* rstd = nullptr;         ///< [rows]: written by the forward, read by the backward
};

/// y = x·rstd·weight with rstd = 1/sqrt(mean(x²) + eps); queued on `stream`, as all below.
/// @throws Error(internal) for another dtype or a launch that CUDA refuses.
void rms_norm(const NormRows& rows, float eps, void* y, cudaStream_t stream);

/// gx = rstd·(gy·w − xhat·mean(gy·w·xhat)), xhat = x·rstd.
void rms_norm_input_gradient(const NormRows& rows, const void* gy, void* gx, cudaStream_t stream);

/// Parts that the weight's gradient Σ gy·xhat is summed in: a function of the number of rows alone.
int64_t rms_norm_parts(int64_t rows);

/// @param parts fp32 [rms_norm_parts, width], written whole; their sum over the first dim is the gradient.
void rms_norm_weight_gradient(const NormRows& rows, const void* gy, float* parts, cudaStream_t stream);

}  // namespace ft::device
