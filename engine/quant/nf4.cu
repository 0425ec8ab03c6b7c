// NF4 group records to dense elements (nf4_device.h). A thread reads eight codes as one word and writes eight elements;
// the eight threads of a block of 64 share its scale. The kernel is bound by the write of the result.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <string>

#include "engine/error/error.h"
#include "engine/quant/dynamic_map.h"
#include "engine/quant/nf4_device.h"

namespace ft::nf4 {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 8;  // codes in a 32-bit word

// What a thread block keeps in shared memory: both tables, by value in the launch, so that no device memory is owned.
struct Tables {
  float codebook[16];
  float scales[256];
};

__device__ void store(float value, float* out) { *out = value; }
__device__ void store(float value, __nv_bfloat16* out) { *out = __float2bfloat16_rn(value); }
__device__ void store(float value, __half* out) { *out = __float2half_rn(value); }

// The scale of one block of 64: `code · nested + offset`, rounded after the product as on the CPU.
__device__ float block_scale(const uint8_t* tail, int64_t block, bool double_quant, float offset, const float* map) {
  if (!double_quant) return reinterpret_cast<const float*>(tail)[block];
  const float nested = *reinterpret_cast<const float*>(tail + kNestedBlock);
  return __fadd_rn(__fmul_rn(map[tail[block]], nested), offset);
}

template <class T>
__global__ void dequantize_records(const uint8_t* __restrict__ records, int64_t count, size_t record, bool double_quant,
                                   float offset, const __grid_constant__ Tables tables, T* __restrict__ out) {
  __shared__ Tables shared;
  for (int i = threadIdx.x; i < 256; i += kThreads) shared.scales[i] = tables.scales[i];
  if (threadIdx.x < 16) shared.codebook[threadIdx.x] = tables.codebook[threadIdx.x];
  __syncthreads();

  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPerThread;
  if (first >= count) return;
  const int64_t in_group = first % kGroup;
  const uint8_t* own = records + static_cast<size_t>(first / kGroup) * record;
  const float scale = block_scale(own + kCodeBytes, in_group / kBlock, double_quant, offset, shared.scales);
  const uint32_t codes = *reinterpret_cast<const uint32_t*>(own + in_group / 2);

  alignas(16) T values[kPerThread];
  for (int i = 0; i < kPerThread; ++i) {  // a byte holds two codes, the earlier element in its upper half
    const uint32_t code = codes >> (i / 2 * 8 + (i % 2 ? 0 : 4)) & 0xF;
    store(__fmul_rn(shared.codebook[code], scale), &values[i]);
  }
  if (first + kPerThread <= count) {
    for (size_t i = 0; i < sizeof(values) / 16; ++i)
      reinterpret_cast<uint4*>(out + first)[i] = reinterpret_cast<const uint4*>(values)[i];
  } else {
    for (int64_t i = 0; first + i < count; ++i) out[first + i] = values[i];
  }
}

template <class T>
void launch(const Records& records, int64_t count, void* out, cudaStream_t stream) {
  Tables tables;
  for (int i = 0; i < 16; ++i) tables.codebook[i] = kCodebook[i];
  for (int i = 0; i < 256; ++i) tables.scales[i] = signed_dynamic_map()[static_cast<size_t>(i)];
  constexpr int64_t kPerBlock = int64_t{kThreads} * kPerThread;
  const auto blocks = static_cast<unsigned>((count + kPerBlock - 1) / kPerBlock);
  dequantize_records<T><<<blocks, kThreads, 0, stream>>>(records.data, count, record_bytes(records.double_quant),
                                                         records.double_quant, records.offset, tables,
                                                         static_cast<T*>(out));
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess)
    throw Error(ErrorKind::internal, std::string("NF4 on the GPU: ") + cudaGetErrorString(status));
}

}  // namespace

void dequantize_on_device(const Records& records, int64_t count, DType dtype, void* out, cudaStream_t stream) {
  if (count == 0) return;
  switch (dtype) {
    case DType::f32:
      return launch<float>(records, count, out, stream);
    case DType::bf16:
      return launch<__nv_bfloat16>(records, count, out, stream);
    case DType::f16:
      return launch<__half>(records, count, out, stream);
    default:
      throw Error(ErrorKind::internal,
                  std::string("NF4 on the GPU: got ") + to_string(dtype) + ", want fp32, fp16 or bf16");
  }
}

}  // namespace ft::nf4
