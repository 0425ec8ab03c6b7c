#pragma once
/// AdamW with 8-bit state on a GPU: the kernel of adamw8bit.cu, called by adamw8bit_cuda.cpp (CUDA plugin only). The
/// reference is adamw8bit.cpp, whose bits it gives: the same operations in the same order, fused where it fuses.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "engine/optim/update_kernels.h"

namespace ft::device {

/// One tensor, its state (all on the device) and its constants.
struct BlockState {
  update::AdamW step;
  update::Blocks8 blocks;
  int64_t count = 0;
};

/// The dynamic maps on the device, one after another: values and thresholds of the signed one, then of the unsigned
/// one (engine/quant/dynamic_map.h).
inline constexpr int64_t kMapTables = 4 * 256;

/// Steps every tensor; queued on `stream`, which must keep `tables` (fp32 [kMapTables]) until then.
/// @throws Error(internal) for a launch that CUDA refuses.
void adamw8bit(std::span<const BlockState> tensors, const float* tables, cudaStream_t stream);

}  // namespace ft::device
