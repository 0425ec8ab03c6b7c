// Softmax cross-entropy (cross_entropy_device.h), a block a row: one pass finds the largest logit and the sum of the
// exponentials together, a second one writes the gradient. Bound by memory: a row of 150,000 logits exceeds the caches.

#include <limits>

#include "engine/layers/cross_entropy_device.h"
#include "engine/tensor/kernel.cuh"
#include "engine/tensor/kernel_launch.h"

namespace ft::device {
namespace {

constexpr const char* kOp = "ft::linear_cross_entropy";
constexpr int kThreads = 512;
constexpr float kLowest = -3.402823466e38f;  // not −∞, from which nothing can be subtracted

// Σ exp(logits) as sum·e^max over what a thread has seen.
struct Partial {
  float max, sum;
};

__device__ Partial merge(Partial a, Partial b) {
  const float max = fmaxf(a.max, b.max);
  return {max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
}

// The whole row's, the same bits on every thread: `merge` gives the same whichever side is which.
__device__ Partial merge_block(Partial own) {
  __shared__ Partial of_warp[kThreads / kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2)
    own = merge(own, {__shfl_xor_sync(0xFFFFFFFFu, own.max, step), __shfl_xor_sync(0xFFFFFFFFu, own.sum, step)});
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = own;
  __syncthreads();
  own = of_warp[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) own = merge(own, of_warp[warp]);
  return own;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    row_losses(T* logits, const int64_t* targets, int vocab, float scale, double* nll) {
  const int64_t row = blockIdx.x;
  logits += row * vocab;
  const int target = static_cast<int>(targets[row]);
  // Read by every thread before the first barrier: afterwards it may be overwritten.
  const float at_target = to_float(logits[target]);

  Partial own{kLowest, 0.f};
  for (int i = threadIdx.x * N; i < vocab; i += kThreads * N) {
    const Pack<T, N> values = load_pack<N>(logits + i);
    Partial pack{kLowest, 0.f};
    for (int k = 0; k < N; ++k) pack.max = fmaxf(pack.max, to_float(values.at[k]));
    for (int k = 0; k < N; ++k) pack.sum += expf(to_float(values.at[k]) - pack.max);
    own = merge(own, pack);
  }
  const Partial all = merge_block(own);
  if (threadIdx.x == 0)
    nll[row] = static_cast<double>(all.max) + log(static_cast<double>(all.sum)) - static_cast<double>(at_target);
  if (scale == 0) return;

  const float factor = scale / all.sum;
  for (int i = threadIdx.x * N; i < vocab; i += kThreads * N) {
    Pack<T, N> values = load_pack<N>(logits + i);
    for (int k = 0; k < N; ++k) {
      const float softmax = expf(to_float(values.at[k]) - all.max) * factor;
      store_float(i + k == target ? softmax - scale : softmax, values.at[k]);
    }
    store_pack<N>(values, logits + i);
  }
}

}  // namespace

void cross_entropy(const LogitRows& rows, void* logits, float scale, double* nll, cudaStream_t stream) {
  if (rows.rows * rows.vocab == 0) return;
  FT_CHECK(rows.vocab < std::numeric_limits<int32_t>::max() / 2, "cross_entropy: a vocabulary of fewer tokens");
  with_float_type(rows.dtype, kOp, [&]<class T>(T*) {
    constexpr int N = kWidest<T>;
    auto* data = static_cast<T*>(logits);
    launch({kOp, blocks_for(rows.rows, 1), kThreads, stream},
           packs<N>(rows.vocab, data) ? row_losses<T, N> : row_losses<T, 1>, data, rows.targets,
           static_cast<int>(rows.vocab), scale, nll);
  });
}

}  // namespace ft::device
