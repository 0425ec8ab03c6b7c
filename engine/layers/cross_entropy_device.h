#pragma once
/// Softmax cross-entropy of rows of logits on a GPU: the kernel of cross_entropy.cu, called by
/// linear_cross_entropy_cuda.cpp (CUDA plugin only). The reference is fused_kernels_body.h.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "engine/tensor/dtype.h"

namespace ft::device {

/// Dense [rows, vocab] with a target a row in [0, vocab), all on the device.
struct LogitRows {
  DType dtype = DType::f32;  ///< f32, bf16 or f16
  int64_t rows = 0, vocab = 0;
  const int64_t* targets = nullptr;
};

/// nll[r] = log Σ exp(logits) − logits[target]. With `scale` ≠ 0 the logits become scale·(softmax − onehot(target)), in
/// place. Queued on `stream`.   @throws Error(internal) for another dtype or a launch that CUDA refuses.
void cross_entropy(const LogitRows& rows, void* logits, float scale, double* nll, cudaStream_t stream);

}  // namespace ft::device
