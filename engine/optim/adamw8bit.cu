// 8-bit AdamW (adamw8bit_device.h): a warp a block of 256 elements, eight elements a lane, held in registers from codes
// to codes. Many tensors a launch: LoRA's are hundreds of small ones.

#include <algorithm>

#include "engine/optim/adamw8bit_device.h"
#include "engine/quant/block8.h"
#include "engine/tensor/kernel.cuh"
#include "engine/tensor/kernel_launch.h"

namespace ft::device {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kPerLane = kBlock8 / kWarp;
constexpr int64_t kMostBlocks = 2048;     // each fills its tables once, then goes on: more than any GPU runs at a time
constexpr float kSmallestScale = 1e-12f;  // torchao's floor (engine/quant/block8_loops.h)

// The tensors of one launch, by value: their number keeps the kernel's arguments below 4 KB.
constexpr size_t kTensors = 32;
struct Batch {
  BlockState tensors[kTensors];
  int64_t ends[kTensors];  // blocks of 256 of all tensors up to and with each
  int count;
};

// The number of thresholds ≤ x, of 255 sorted ones.
__device__ uint8_t code_of(const float* thresholds, float x) {
  int code = 0;
  for (int step = 128; step > 0; step /= 2)
    if (thresholds[code + step - 1] <= x) code += step;
  return static_cast<uint8_t>(code);
}

// As integers, magnitudes sort like the floats they are, and NaN comes out on top instead of vanishing.
__device__ float warp_scale(const float* values) {
  unsigned top = 0;
  for (int k = 0; k < kPerLane; ++k) top = max(top, __float_as_uint(values[k]) & 0x7FFFFFFFu);
  const float absmax = __uint_as_float(__reduce_max_sync(0xFFFFFFFFu, top));
  return absmax < kSmallestScale ? kSmallestScale : absmax;
}

__device__ void update_block(const BlockState& tensor, int64_t block, const float* tables) {
  const float *signed_values = tables, *signed_thresholds = tables + 256;
  const float *unsigned_values = tables + 512, *unsigned_thresholds = tables + 768;
  const update::AdamW& s = tensor.step;
  const update::Blocks8& t = tensor.blocks;
  const int64_t first = block * kBlock8 + threadIdx.x % kWarp;
  const float mean_scale = t.mean_scales[block], square_scale = t.square_scales[block];
  // All is read before anything is written, so that the reads wait for memory together.
  float means[kPerLane], squares[kPerLane], grads[kPerLane], masters[kPerLane];
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int64_t i = first + k * kWarp;
    means[k] = squares[k] = 0;
    if (i >= tensor.count) continue;
    grads[k] = t.grad[i];
    masters[k] = t.master[i];
    means[k] = signed_values[t.mean_codes[i]] * mean_scale;
    squares[k] = unsigned_values[t.square_codes[i]] * square_scale;
  }
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int64_t i = first + k * kWarp;
    if (i >= tensor.count) continue;
    const float g = grads[k], m = means[k], v = squares[k];
    means[k] = fmaf(s.weight_1, g - m, m);
    squares[k] = fmaf(s.weight_2, fmaf(g, g, -v), v);
    const float denominator = fmaf(sqrtf(squares[k]), s.inverse_root, s.eps);
    t.master[i] = fmaf(-s.rate, means[k] / denominator, s.keep * masters[k]);
  }
  const float new_mean_scale = warp_scale(means), new_square_scale = warp_scale(squares);
  __syncwarp();  // every lane has read the old scales before lane 0 writes the new
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int64_t i = first + k * kWarp;
    if (i >= tensor.count) continue;
    t.mean_codes[i] = code_of(signed_thresholds, means[k] / new_mean_scale);
    t.square_codes[i] = code_of(unsigned_thresholds, squares[k] / new_square_scale);
  }
  if (threadIdx.x % kWarp == 0) {
    t.mean_scales[block] = new_mean_scale;
    t.square_scales[block] = new_square_scale;
  }
}

__global__ void __launch_bounds__(kThreads) adamw(const __grid_constant__ Batch batch, const float* tables_in) {
  __shared__ float tables[kMapTables];
  for (int i = threadIdx.x; i < kMapTables; i += kThreads) tables[i] = tables_in[i];
  __syncthreads();
  const int64_t all = batch.ends[batch.count - 1];
  int tensor = 0;
  for (int64_t block = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; block < all;
       block += static_cast<int64_t>(gridDim.x) * kWarps) {
    while (block >= batch.ends[tensor]) ++tensor;
    update_block(batch.tensors[tensor], tensor == 0 ? block : block - batch.ends[tensor - 1], tables);
  }
}

}  // namespace

void adamw8bit(std::span<const BlockState> tensors, const float* tables, cudaStream_t stream) {
  for (size_t first = 0; first < tensors.size(); first += kTensors) {
    Batch batch{};
    int64_t blocks = 0;
    for (const BlockState& tensor : tensors.subspan(first, std::min(kTensors, tensors.size() - first))) {
      blocks += (tensor.count + kBlock8 - 1) / kBlock8;
      batch.ends[batch.count] = blocks;
      batch.tensors[batch.count++] = tensor;
    }
    if (blocks == 0) continue;
    const auto grid = static_cast<unsigned>(std::min(kMostBlocks, (blocks + kWarps - 1) / kWarps));
    launch({"ft::adamw8bit_", grid, kThreads, stream}, adamw, batch, tables);
  }
}

}  // namespace ft::device
