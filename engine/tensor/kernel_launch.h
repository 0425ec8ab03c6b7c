#pragma once
/// How the kernels of the CUDA plugin are launched: on a stream, checked at once. Included by *.cu only. A fault inside
/// a kernel shows at a later call, as CUDA has it; what is checked here is the launch.

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <string>

#include "engine/error/error.h"

namespace ft::device {

/// Where a kernel runs and how wide.
struct Launch {
  const char* op;  ///< named by the error
  dim3 grid, block;
  cudaStream_t stream;
};

/// Blocks that cover `count` units of work, `per_block` each; a kernel's x dimension holds 2^31 − 1.
inline unsigned blocks_for(int64_t count, int64_t per_block) {
  const int64_t blocks = (count + per_block - 1) / per_block;
  FT_CHECK(blocks <= std::numeric_limits<int32_t>::max(), "more blocks than a grid holds");
  return static_cast<unsigned>(blocks);
}

/// Queues kernel(arguments…) and returns before it has run.   @throws Error(internal) for a launch that CUDA refuses.
template <class... P, class... A>
void launch(const Launch& at, void (*kernel)(P...), A... arguments) {
  kernel<<<at.grid, at.block, 0, at.stream>>>(arguments...);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess)
    throw Error(ErrorKind::internal, std::string(at.op) + " on the GPU: " + cudaGetErrorString(status)).key(at.op);
}

}  // namespace ft::device
