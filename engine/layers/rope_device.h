#pragma once
/// Rotary positions on a GPU: the kernel of rope.cu, called by fused_cuda.cpp (CUDA plugin only). The reference is
/// fused_kernels_body.h, whose bits it gives.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "engine/tensor/dtype.h"

namespace ft::device {

/// Dense [tokens, heads, 2·half], with a position a token; all on the device.
struct RopeTokens {
  DType dtype = DType::f32;  ///< f32, bf16 or f16
  int64_t tokens = 0, heads = 0, half = 0;
  const float *cos = nullptr, *sin = nullptr;  ///< [.., half]
  const int64_t* positions = nullptr;          ///< [tokens], rows of the tables
};

/// Rotates the pairs (i, i + half) of x by their position's angle, or back with `inverse`; queued on `stream`.
/// @throws Error(internal) for another dtype or a launch that CUDA refuses.
void rope(const RopeTokens& tokens, bool inverse, const void* x, void* y, cudaStream_t stream);

}  // namespace ft::device
