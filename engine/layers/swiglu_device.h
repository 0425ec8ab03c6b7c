#pragma once
/// SwiGLU on a GPU: the kernels of swiglu.cu, called by fused_cuda.cpp (CUDA plugin only). The reference is
/// fused_kernels_body.h; the exponential is CUDA's own, 2 ulp.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "engine/tensor/dtype.h"

namespace ft::device {

/// `count` values of one dtype (f32, bf16 or f16), dense, on the device.
struct SwigluInputs {
  DType dtype = DType::f32;
  int64_t count = 0;
  const void *gate = nullptr, *up = nullptr;
};

/// y = silu(gate)·up; queued on `stream`.   @throws Error(internal) for another dtype or a launch that CUDA refuses.
void swiglu(const SwigluInputs& in, void* y, cudaStream_t stream);

/// Gradients of gate and up, silu computed again.
void swiglu_backward(const SwigluInputs& in, const void* gy, void* ggate, void* gup, cudaStream_t stream);

}  // namespace ft::device
