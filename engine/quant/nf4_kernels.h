#pragma once
/// The kernels of nf4.h on whole blocks of 64 elements, one set for each instruction set, all with the same bits.
/// nf4.cpp alone calls them.

#include <cstdint>

namespace ft::nf4 {

struct Kernels {
  /// x fp32 [64·blocks] -> packed codes [32·blocks], absmax [blocks].
  void (*quantize)(const float* x, int64_t blocks, uint8_t* codes, float* absmax);
  /// Packed codes and absmax -> out [64·blocks].
  void (*to_fp32)(const uint8_t* codes, const float* absmax, int64_t blocks, float* out);
  void (*to_bf16)(const uint8_t* codes, const float* absmax, int64_t blocks, uint16_t* out);
  void (*to_fp16)(const uint8_t* codes, const float* absmax, int64_t blocks, uint16_t* out);
};

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace ft::nf4
