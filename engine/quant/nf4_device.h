#pragma once
/// NF4 on a GPU: the kernel of nf4.cu, called by engine/layers (CUDA plugin only). The reference is nf4.h's dequantize,
/// whose bits it gives: a product and a sum rounded apart, then one product, rounded once to the result's dtype.

#include <cuda_runtime_api.h>

#include "engine/quant/nf4.h"

namespace ft::nf4 {

/// Queues the dequantisation of elements [0, count) on `stream`.
/// @param records its data on the device, 4-byte aligned, as are all records.   @param dtype f32, f16 or bf16: of out.
/// @param out on the device, 16-byte aligned.
/// @throws Error(internal) for another dtype or a launch that CUDA refuses.
void dequantize_on_device(const Records& records, int64_t count, DType dtype, void* out, cudaStream_t stream);

}  // namespace ft::nf4
