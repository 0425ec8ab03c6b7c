// Counter-based dropout (dropout_device.h), a block a row.

#include <limits>

#include "engine/layers/dropout_device.h"
#include "engine/tensor/kernel.cuh"
#include "engine/tensor/kernel_launch.h"

namespace ft::device {
namespace {

constexpr const char* kOp = "ft::counter_dropout";
constexpr int kThreads = 256;

// As scramble and keeps in fused_kernels_body.h.
__device__ uint32_t scramble(uint32_t h) {
  h = (h ^ (h >> 16)) * 0x7FEB352Du;
  h = (h ^ (h >> 15)) * 0x846CA68Bu;
  return h ^ (h >> 16);
}

__device__ bool keeps(uint64_t key, int feature, uint32_t threshold) {
  const auto low = static_cast<uint32_t>(key), high = static_cast<uint32_t>(key >> 32);
  const uint32_t counter = static_cast<uint32_t>(feature) * 0x9E3779B9u;
  return scramble(scramble(low + counter) ^ high) >= threshold;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    drop(const T* x, const int64_t* keys, int width, uint32_t threshold, float keep_scale, bool add, T* y) {
  const int64_t row = blockIdx.x;
  const auto key = static_cast<uint64_t>(keys[row]);
  x += row * width;
  y += row * width;
  for (int i = threadIdx.x * N; i < width; i += kThreads * N) {
    const Pack<T, N> values = load_pack<N>(x + i);
    Pack<T, N> out;
    if (add) out = load_pack<N>(y + i);
    for (int k = 0; k < N; ++k) {
      const float kept = keeps(key, i + k, threshold) ? to_float(values.at[k]) * keep_scale : 0.f;
      store_float(add ? to_float(out.at[k]) + kept : kept, out.at[k]);
    }
    store_pack<N>(out, y + i);
  }
}

}  // namespace

void dropout(const DropoutRows& rows, const void* x, void* y, bool add, cudaStream_t stream) {
  if (rows.rows * rows.width == 0) return;
  FT_CHECK(rows.width < std::numeric_limits<int32_t>::max() / 2, "dropout: rows of fewer elements");
  with_float_type(rows.dtype, kOp, [&]<class T>(T*) {
    constexpr int N = kWidest<T>;
    const auto* from = static_cast<const T*>(x);
    auto* to = static_cast<T*>(y);
    launch({kOp, blocks_for(rows.rows, 1), kThreads, stream}, packs<N>(rows.width, from, to) ? drop<T, N> : drop<T, 1>,
           from, rows.keys, static_cast<int>(rows.width), static_cast<uint32_t>(rows.p * 4294967296.0),
           static_cast<float>(1 / (1 - rows.p)), add, to);
  });
}

}  // namespace ft::device
