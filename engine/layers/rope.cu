// Rotary positions (rope_device.h): a block a token, so that its cosines and sines are read from memory once for all
// heads.

#include <limits>

#include "engine/layers/rope_device.h"
#include "engine/tensor/kernel.cuh"
#include "engine/tensor/kernel_launch.h"

namespace ft::device {
namespace {

constexpr const char* kOp = "ft::rope";
constexpr int kThreads = 128;

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    rotate(const T* __restrict__ x, const float* __restrict__ cos, const float* __restrict__ sin,
           const int64_t* __restrict__ positions, int heads, int half, float sign, T* __restrict__ y) {
  const int64_t token = blockIdx.x, angles = positions[token] * half;
  const int packs_a_head = half / N;
  for (int i = threadIdx.x; i < heads * packs_a_head; i += kThreads) {
    const int head = i / packs_a_head, at = i % packs_a_head * N;
    const int64_t first = (token * heads + head) * 2 * half + at;
    const Pack<T, N> low = load_pack<N>(x + first), high = load_pack<N>(x + first + half);
    Pack<T, N> out_low, out_high;
    for (int k = 0; k < N; ++k) {
      const float a = to_float(low.at[k]), b = to_float(high.at[k]);
      const float c = cos[angles + at + k], s = sign * sin[angles + at + k];
      store_float(a * c - b * s, out_low.at[k]);
      store_float(b * c + a * s, out_high.at[k]);
    }
    store_pack<N>(out_low, y + first);
    store_pack<N>(out_high, y + first + half);
  }
}

}  // namespace

void rope(const RopeTokens& t, bool inverse, const void* x, void* y, cudaStream_t stream) {
  if (t.tokens * t.heads * t.half == 0) return;
  FT_CHECK(t.heads * t.half < std::numeric_limits<int32_t>::max(), "rope: heads of fewer elements");
  with_float_type(t.dtype, kOp, [&]<class T>(T*) {
    constexpr int N = kWidest<T>;
    const auto *from = static_cast<const T*>(x), *to = static_cast<const T*>(y);
    const bool packed = packs<N>(t.half, from, to);
    launch({kOp, blocks_for(t.tokens, 1), kThreads, stream}, packed ? rotate<T, N> : rotate<T, 1>, from, t.cos, t.sin,
           t.positions, static_cast<int>(t.heads), static_cast<int>(t.half), inverse ? -1.f : 1.f, static_cast<T*>(y));
  });
}

}  // namespace ft::device
