#pragma once
/// What kernels share: values of every float dtype as fp32, several at a time, and sums over warps and blocks. Included
/// by *.cu only. Arithmetic is fp32; the plugin is compiled without contraction, so that each operation rounds as on
/// the CPU.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <string>

#include "engine/error/error.h"
#include "engine/tensor/dtype.h"

namespace ft::device {

inline constexpr int kWarp = 32;

/// Calls f with a null pointer of the type that belongs to a dtype.   @throws Error(internal) for one that is no float.
template <class F>
void with_float_type(DType dtype, const char* op, const F& f) {
  switch (dtype) {
    case DType::f32:
      return f(static_cast<float*>(nullptr));
    case DType::bf16:
      return f(static_cast<__nv_bfloat16*>(nullptr));
    case DType::f16:
      return f(static_cast<__half*>(nullptr));
    default:
      throw Error(ErrorKind::internal, std::string("got ") + to_string(dtype) + ", want fp32, bf16 or fp16").key(op);
  }
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

__device__ inline void store_float(float value, float& out) { out = value; }
__device__ inline void store_float(float value, __nv_bfloat16& out) { out = __float2bfloat16_rn(value); }
__device__ inline void store_float(float value, __half& out) { out = __float2half_rn(value); }

/// N neighbours that move as one.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};

/// Elements that make 16 bytes, the widest access there is.
template <class T>
inline constexpr int kWidest = 16 / sizeof(T);

/// Whether rows of `width` elements that begin at the pointers can be read in packs of N.
template <int N, class... T>
bool packs(int64_t width, const T*... pointers) {
  return width % N == 0 && ((reinterpret_cast<uintptr_t>(pointers) % (sizeof(T) * N) == 0) && ...);
}

template <int N, class T>
__device__ inline Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <int N, class T>
__device__ inline void store_pack(const Pack<T, N>& pack, T* to) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

/// The sum over a warp, the same bits on every lane. All 32 lanes must call it.
__device__ inline float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, step);
  return value;
}

__device__ inline float warp_max(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, step));
  return value;
}

/// The sum over a team of kTeam threads: a warp, or the whole block where kTeam is its size; the same bits on every
/// thread. All threads of the team must call it.
template <int kTeam>
__device__ inline float team_sum(float value) {
  value = warp_sum(value);
  if constexpr (kTeam > kWarp) {
    __shared__ float of_warp[kTeam / kWarp];
    if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < kTeam / kWarp; ++warp) value += of_warp[warp];
    __syncthreads();  // before the next call writes of_warp again
  }
  return value;
}

}  // namespace ft::device
