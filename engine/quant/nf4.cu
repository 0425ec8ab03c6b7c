// NF4 group records to dense elements (nf4_device.h). A thread reads eight codes as one word and writes eight elements;
// the eight threads of a block of 64 share its scale. The kernel is bound by the write of the result.

#include "engine/quant/dynamic_map.h"
#include "engine/quant/nf4_device.h"
#include "engine/tensor/kernel.cuh"
#include "engine/tensor/kernel_launch.h"

namespace ft::nf4 {
namespace {

constexpr const char* kOp = "ft::nf4_dequantize";
constexpr int kThreads = 256;
constexpr int kPerThread = 8;  // codes in a 32-bit word

// Both tables, by value in the launch, so that no device memory is owned. A warp looks up four scales.
struct Tables {
  float codebook[16];
  float scales[256];
};

// The scale of one block of 64: `code · nested + offset`, rounded after the product as on the CPU.
__device__ float block_scale(const uint8_t* tail, int64_t block, bool double_quant, float offset, const float* map) {
  if (!double_quant) return reinterpret_cast<const float*>(tail)[block];
  const float nested = *reinterpret_cast<const float*>(tail + kNestedBlock);
  return map[tail[block]] * nested + offset;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    dequantize_records(const uint8_t* records, int64_t count, int64_t record, bool double_quant, float offset,
                       const __grid_constant__ Tables tables, T* out) {
  __shared__ float codebook[16];
  if (threadIdx.x < 16) codebook[threadIdx.x] = tables.codebook[threadIdx.x];
  __syncthreads();

  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPerThread;
  if (first >= count) return;
  const int64_t in_group = first % kGroup;
  const uint8_t* own = records + first / kGroup * record;
  const float scale = block_scale(own + kCodeBytes, in_group / kBlock, double_quant, offset, tables.scales);
  const uint32_t codes = *reinterpret_cast<const uint32_t*>(own + in_group / 2);

  T values[kPerThread];
  for (int i = 0; i < kPerThread; ++i) {  // a byte holds two codes, the earlier element in its upper half
    const uint32_t code = codes >> (i / 2 * 8 + (i % 2 ? 0 : 4)) & 0xF;
    device::store_float(codebook[code] * scale, values[i]);
  }
  if (first + kPerThread <= count) {
    constexpr int kWide = device::kWidest<T>;
    for (int i = 0; i < kPerThread; i += kWide) {
      device::Pack<T, kWide> wide;
      for (int k = 0; k < kWide; ++k) wide.at[k] = values[i + k];
      device::store_pack<kWide>(wide, out + first + i);
    }
  } else {
    for (int i = 0; i < kPerThread; ++i)  // not up to count: `values` stays in registers
      if (first + i < count) out[first + i] = values[i];
  }
}

}  // namespace

void dequantize_on_device(const Records& records, int64_t count, DType dtype, void* out, cudaStream_t stream) {
  if (count == 0) return;
  Tables tables;
  for (int i = 0; i < 16; ++i) tables.codebook[i] = kCodebook[i];
  for (int i = 0; i < 256; ++i) tables.scales[i] = signed_dynamic_map()[static_cast<size_t>(i)];
  device::with_float_type(dtype, kOp, [&]<class T>(T*) {
    device::launch({kOp, device::blocks_for(count, int64_t{kThreads} * kPerThread), kThreads, stream},
                   dequantize_records<T>, records.data, count, static_cast<int64_t>(record_bytes(records.double_quant)),
                   records.double_quant, records.offset, tables, static_cast<T*>(out));
  });
}

}  // namespace ft::nf4
