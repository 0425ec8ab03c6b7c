// Dense elements to NF4 group records (nf4_device.h): a block of threads a group, a warp a block of 64 elements at a
// time, two elements a lane. The reference and the reasons for each rounding are in nf4.cpp and nf4_quantize_blocks.h.

#include "engine/quant/dynamic_map.h"
#include "engine/quant/nf4_device.h"
#include "engine/tensor/kernel.cuh"
#include "engine/tensor/kernel_launch.h"

namespace ft::nf4 {
namespace {

using device::kWarp;

constexpr const char* kOp = "ft::nf4_quantize";
constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr uint8_t kZeroPair = 0x77;        // two codes of the value 0: what padding holds
constexpr float kSmallestAbsmax = 1e-38f;  // bitsandbytes' floor under absmax where it is divided by

struct Midpoints {
  float at[15];
};

__device__ unsigned code_of(const Midpoints& midpoints, float scaled) {
  unsigned below = 0;
  for (int i = 0; i < 15; ++i) below += scaled > midpoints.at[i] ? 1 : 0;
  return below;
}

// Whole blocks multiply by the reciprocal, a tensor's last, short one divides. All lanes of a warp call it.
// @return the block's absmax on every lane; NaN for a short block that is not finite.
__device__ float quantize_block(const Midpoints& midpoints, float first, float second, int64_t count, uint8_t* codes) {
  const int lane = threadIdx.x % kWarp;
  // As integers, magnitudes sort like the floats they are, and NaN comes out on top instead of vanishing.
  const unsigned own = max(__float_as_uint(first) & 0x7FFFFFFFu, __float_as_uint(second) & 0x7FFFFFFFu);
  const float absmax = __uint_as_float(__reduce_max_sync(0xFFFFFFFFu, own));
  const float divisor = absmax < kSmallestAbsmax ? kSmallestAbsmax : absmax;
  if (count >= kBlock) {
    const float inverse = 1.f / divisor;
    codes[lane] = static_cast<uint8_t>(code_of(midpoints, first * inverse) << 4 | code_of(midpoints, second * inverse));
    return absmax;
  }
  if (!isfinite(absmax)) {
    codes[lane] = kZeroPair;
    return __uint_as_float(0x7FC00000u);
  }
  const unsigned zero = kZeroPair & 15;
  const unsigned high = 2 * lane < count ? code_of(midpoints, first / divisor) : zero;
  const unsigned low = 2 * lane + 1 < count ? code_of(midpoints, second / divisor) : zero;
  codes[lane] = static_cast<uint8_t>(high << 4 | low);
  return divisor;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    quantize_groups(const T* x, int64_t count, int64_t record, const Midpoints midpoints, QuantizedCodes to) {
  __shared__ float absmax[kNestedBlock];
  const int64_t group = blockIdx.x;
  const int lane = threadIdx.x % kWarp;
  for (int block = threadIdx.x / kWarp; block < kNestedBlock; block += kWarps) {
    const int64_t begin = group * kGroup + block * kBlock, left = count - begin;
    uint8_t* codes = to.records + group * record + block * (kBlock / 2);
    if (left <= 0) {  // padding, the same for the whole warp
      codes[lane] = kZeroPair;
      if (lane == 0) absmax[block] = 0;
      continue;
    }
    const float first = 2 * lane < left ? device::to_float(x[begin + 2 * lane]) : 0.f;
    const float second = 2 * lane + 1 < left ? device::to_float(x[begin + 2 * lane + 1]) : 0.f;
    const float largest = quantize_block(midpoints, first, second, left, codes);
    if (lane == 0) absmax[block] = largest;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kNestedBlock; i += kThreads) to.absmax[group * kNestedBlock + i] = absmax[i];
  if (threadIdx.x != 0) return;
  double sum = 0;  // in order, by one thread: the same bits as on the CPU
  for (int i = 0; i < kNestedBlock; ++i) sum += static_cast<double>(absmax[i]);
  to.sums[group] = sum;
}

struct MapMidpoints {
  float at[256];  // the last one is never reached
};

// The code of bitsandbytes' CPU backend: that of the bin among 65,536 over [−1, 1] which x falls into.
__device__ uint8_t binned_code(const float* midpoints, float scaled) {
  const float clamped = scaled > -1.0f ? fminf(scaled, 1.0f) : -1.0f;
  const auto bin = static_cast<int>((clamped + 1.0f) * 0.5f * 65535.0f + 0.5f);
  const float value = -1.0f + 2.0f * static_cast<float>(bin) / 65535.0f;
  int code = 0;  // the number of midpoints below the bin's value, of 255 sorted ones
  for (int step = 128; step > 0; step /= 2)
    if (midpoints[code + step - 1] < value) code += step;
  return static_cast<uint8_t>(code);
}

__global__ void __launch_bounds__(kNestedBlock)
    encode_scales(QuantizedCodes from, int64_t count, int64_t record, bool double_quant, float offset,
                  const __grid_constant__ MapMidpoints map) {
  __shared__ float midpoints[256];
  __shared__ unsigned tops[kNestedBlock / kWarp];
  const int i = threadIdx.x;
  const int64_t group = blockIdx.x, blocks = (count - group * kGroup + kBlock - 1) / kBlock;
  uint8_t* tail = from.records + group * record + kCodeBytes;
  const float own = from.absmax[group * kNestedBlock + i];
  if (!double_quant) {
    reinterpret_cast<float*>(tail)[i] = own;  // 0 past the tensor's blocks
    return;
  }
  midpoints[i] = map.at[i];
  const float centred = i < blocks ? own - offset : 0.f;
  const unsigned top = __reduce_max_sync(0xFFFFFFFFu, __float_as_uint(fabsf(centred)));
  if (i % kWarp == 0) tops[i / kWarp] = top;
  __syncthreads();
  unsigned largest = 0;
  for (const unsigned one : tops) largest = max(largest, one);
  const float nested = __uint_as_float(largest);
  // A block of zeros gives NaN here, which binned_code sends to −1, as bitsandbytes' clamp does.
  tail[i] = i < blocks ? binned_code(midpoints, centred * (1.0f / nested)) : 0;
  if (i == 0) *reinterpret_cast<float*>(tail + kNestedBlock) = nested;
}

}  // namespace

void quantize_codes_on_device(DType dtype, const void* x, int64_t count, bool double_quant, const QuantizedCodes& to,
                              cudaStream_t stream) {
  if (count == 0) return;
  Midpoints midpoints;
  for (int i = 0; i < 15; ++i) midpoints.at[i] = (kCodebook[i] + kCodebook[i + 1]) / 2.0f;
  device::with_float_type(dtype, kOp, [&]<class T>(T*) {
    device::launch({kOp, device::blocks_for(count, kGroup), kThreads, stream}, quantize_groups<T>,
                   static_cast<const T*>(x), count, static_cast<int64_t>(record_bytes(double_quant)), midpoints, to);
  });
}

void store_scales_on_device(const QuantizedCodes& from, int64_t count, bool double_quant, float offset,
                            cudaStream_t stream) {
  if (count == 0) return;
  MapMidpoints map{};
  for (size_t i = 0; i < 255; ++i) map.at[i] = (signed_dynamic_map()[i] + signed_dynamic_map()[i + 1]) * 0.5f;
  device::launch({kOp, device::blocks_for(count, kGroup), dim3(kNestedBlock), stream}, encode_scales, from, count,
                 static_cast<int64_t>(record_bytes(double_quant)), double_quant, offset, map);
}

}  // namespace ft::nf4
