#pragma once
/// NF4 on a GPU: the kernels of nf4.cu and nf4_quantize.cu, called by engine/layers (CUDA plugin only). The reference
/// is nf4.h, whose bits they give.

#include <cuda_runtime_api.h>

#include "engine/quant/nf4.h"

namespace ft::nf4 {

/// Queues the dequantisation of elements [0, count) on `stream`: a product and a sum rounded apart, then one product,
/// rounded once to the result's dtype.
/// @param records its data on the device, 4-byte aligned, as are all records.   @param dtype f32, f16 or bf16: of out.
/// @param out on the device, 16-byte aligned.
/// @throws Error(internal) for another dtype or a launch that CUDA refuses.
void dequantize_on_device(const Records& records, int64_t count, DType dtype, void* out, cudaStream_t stream);

/// Where quantising leaves its first half, all on the device, a group of 16384 elements after another.
struct QuantizedCodes {
  uint8_t* records = nullptr;  ///< [groups, record_bytes]: the codes are written, the scales left alone
  float* absmax = nullptr;     ///< [groups, 256]; 0 past the tensor's blocks
  double* sums = nullptr;      ///< [groups] of absmax in order; not finite where an element is
};

/// Queues the first half of quantising elements [0, count) on `stream` (nf4.h's quantize_codes for each group).
/// @param dtype f32, f16 or bf16: of x.
void quantize_codes_on_device(DType dtype, const void* x, int64_t count, bool double_quant, const QuantizedCodes& to,
                              cudaStream_t stream);

/// Queues the second half (nf4.h's store_scales).   @param offset of the whole tensor; not read without double_quant.
void store_scales_on_device(const QuantizedCodes& from, int64_t count, bool double_quant, float offset,
                            cudaStream_t stream);

}  // namespace ft::nf4
