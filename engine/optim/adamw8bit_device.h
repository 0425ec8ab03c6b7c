#pragma once
/// AdamW with 8-bit state on a GPU: the kernel of adamw8bit.cu, called by adamw8bit_cuda.cpp (CUDA plugin only). The
/// reference is adamw8bit.cpp, whose bits it gives: every operation rounded by itself, in the same order.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

namespace ft::device {

/// One tensor and its state, all on the device; a scale for 256 elements.
struct BlockState {
  float* master = nullptr;
  const float* grad = nullptr;
  uint8_t *mean_codes = nullptr, *square_codes = nullptr;
  float *mean_scales = nullptr, *square_scales = nullptr;
  int64_t count = 0;
  float lr = 0;
  float decay = 0;  ///< lr · weight_decay
};

/// What all tensors of a step share, in fp32 as update::AdamW has it.
struct AdamWStep {
  float weight_1;           ///< 1 − β1
  float weight_2;           ///< 1 − β2
  float correction_1;       ///< 1 − β1^t
  float root_correction_2;  ///< sqrt(1 − β2^t)
  float eps;
};

/// The dynamic maps on the device, one after another: values and thresholds of the signed one, then of the unsigned
/// one (engine/quant/dynamic_map.h).
inline constexpr int64_t kMapTables = 4 * 256;

/// Steps every tensor; queued on `stream`, which must keep `tables` (fp32 [kMapTables]) until then.
/// @throws Error(internal) for a launch that CUDA refuses.
void adamw8bit(std::span<const BlockState> tensors, const AdamWStep& step, const float* tables, cudaStream_t stream);

}  // namespace ft::device
