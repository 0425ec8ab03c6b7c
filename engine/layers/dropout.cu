// Counter-based dropout (dropout_device.h), an element a thread.

#include <cuda_bf16.h>

#include <string>

#include "engine/error/error.h"
#include "engine/layers/dropout_device.h"

namespace ft::device {
namespace {

constexpr int kThreads = 256;

// As scramble and keeps in fused_kernels_body.h.
__device__ uint32_t scramble(uint32_t h) {
  h = (h ^ (h >> 16)) * 0x7FEB352Du;
  h = (h ^ (h >> 15)) * 0x846CA68Bu;
  return h ^ (h >> 16);
}

__device__ bool keeps(uint64_t key, int64_t feature, uint32_t threshold) {
  const auto low = static_cast<uint32_t>(key), high = static_cast<uint32_t>(key >> 32);
  const uint32_t counter = static_cast<uint32_t>(feature) * 0x9E3779B9u;
  return scramble(scramble(low + counter) ^ high) >= threshold;
}

__device__ float load(float x) { return x; }
__device__ float load(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ void store(float value, float* out) { *out = value; }
__device__ void store(float value, __nv_bfloat16* out) { *out = __float2bfloat16_rn(value); }

template <class T>
__global__ void drop(const T* x, const int64_t* keys, int64_t count, int64_t width, uint32_t threshold,
                     float keep_scale, bool add, T* y) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const bool keep = keeps(static_cast<uint64_t>(keys[i / width]), i % width, threshold);
  const float kept = keep ? __fmul_rn(load(x[i]), keep_scale) : 0.f;
  store(add ? __fadd_rn(load(y[i]), kept) : kept, &y[i]);
}

template <class T>
void launch(const DropoutRows& rows, const void* x, void* y, bool add, cudaStream_t stream) {
  const int64_t count = rows.rows * rows.width;
  const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  drop<T><<<blocks, kThreads, 0, stream>>>(static_cast<const T*>(x), rows.keys, count, rows.width,
                                           static_cast<uint32_t>(rows.p * 4294967296.0),
                                           static_cast<float>(1 / (1 - rows.p)), add, static_cast<T*>(y));
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess)
    throw Error(ErrorKind::internal, std::string("dropout on the GPU: ") + cudaGetErrorString(status));
}

}  // namespace

void dropout(const DropoutRows& rows, const void* x, void* y, bool add, cudaStream_t stream) {
  if (rows.rows * rows.width == 0) return;
  rows.bf16 ? launch<__nv_bfloat16>(rows, x, y, add, stream) : launch<float>(rows, x, y, add, stream);
}

}  // namespace ft::device
