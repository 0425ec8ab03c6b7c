// SwiGLU (swiglu_device.h), a pack of elements a thread. Bound by memory.

#include "engine/layers/swiglu_device.h"
#include "engine/tensor/kernel.cuh"
#include "engine/tensor/kernel_launch.h"

namespace ft::device {
namespace {

constexpr const char* kOp = "ft::swiglu";
constexpr int kThreads = 256;

// The place of a thread's pack.
template <int N>
__device__ int64_t own_pack() {
  return (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) forward(const T* gate, const T* up, int64_t count, T* y) {
  const int64_t i = own_pack<N>();
  if (i >= count) return;
  const Pack<T, N> gates = load_pack<N>(gate + i), ups = load_pack<N>(up + i);
  Pack<T, N> out;
  for (int k = 0; k < N; ++k) {
    const float g = to_float(gates.at[k]);
    store_float(g / (1.f + expf(-g)) * to_float(ups.at[k]), out.at[k]);
  }
  store_pack<N>(out, y + i);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward(const T* gy, const T* gate, const T* up, int64_t count, T* ggate, T* gup) {
  const int64_t i = own_pack<N>();
  if (i >= count) return;
  const Pack<T, N> grads = load_pack<N>(gy + i), gates = load_pack<N>(gate + i), ups = load_pack<N>(up + i);
  Pack<T, N> out_gate, out_up;
  for (int k = 0; k < N; ++k) {
    const float g = to_float(gates.at[k]), d = to_float(grads.at[k]), s = 1.f / (1.f + expf(-g));
    store_float(d * to_float(ups.at[k]) * s * (1.f + g * (1.f - s)), out_gate.at[k]);
    store_float(d * g * s, out_up.at[k]);
  }
  store_pack<N>(out_gate, ggate + i);
  store_pack<N>(out_up, gup + i);
}

}  // namespace

void swiglu(const SwigluInputs& in, void* y, cudaStream_t stream) {
  if (in.count == 0) return;
  with_float_type(in.dtype, kOp, [&]<class T>(T*) {
    constexpr int N = kWidest<T>;
    const auto *gate = static_cast<const T*>(in.gate), *up = static_cast<const T*>(in.up);
    auto* to = static_cast<T*>(y);
    const bool packed = packs<N>(in.count, gate, up, to);
    launch({kOp, blocks_for(in.count, int64_t{kThreads} * (packed ? N : 1)), kThreads, stream},
           packed ? forward<T, N> : forward<T, 1>, gate, up, in.count, to);
  });
}

void swiglu_backward(const SwigluInputs& in, const void* gy, void* ggate, void* gup, cudaStream_t stream) {
  if (in.count == 0) return;
  with_float_type(in.dtype, kOp, [&]<class T>(T*) {
    constexpr int N = kWidest<T>;
    const auto *gate = static_cast<const T*>(in.gate), *up = static_cast<const T*>(in.up);
    const auto* grad = static_cast<const T*>(gy);
    auto *to_gate = static_cast<T*>(ggate), *to_up = static_cast<T*>(gup);
    const bool packed = packs<N>(in.count, gate, up, grad, to_gate, to_up);
    launch({kOp, blocks_for(in.count, int64_t{kThreads} * (packed ? N : 1)), kThreads, stream},
           packed ? backward<T, N> : backward<T, 1>, grad, gate, up, in.count, to_gate, to_up);
  });
}

}  // namespace ft::device
