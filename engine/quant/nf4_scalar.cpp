// The reference that the vector kernels are held against, bit for bit.
#include "engine/quant/nf4_kernels.h"
#include "engine/quant/nf4_quantize_blocks.h"
#include "engine/tensor/half.h"

namespace ft::nf4 {
namespace {

template <class T>
void expand(const uint8_t* codes, const T* table, T* out) {
  for (int64_t k = 0; k < kBlock / 2; ++k) {
    out[2 * k] = table[codes[k] >> 4];
    out[2 * k + 1] = table[codes[k] & 15];
  }
}

// Sixteen values a block, then look-ups: fewer roundings to compute than elements, and the same result.
template <class T, class Round>
void expand_blocks(const uint8_t* codes, const float* absmax, int64_t blocks, T* out, Round round) {
  for (int64_t b = 0; b < blocks; ++b) {
    T table[16];
    for (int i = 0; i < 16; ++i) table[i] = round(kCodebook[i] * absmax[b]);
    expand(codes + b * (kBlock / 2), table, out + b * kBlock);
  }
}

void to_fp32(const uint8_t* codes, const float* absmax, int64_t blocks, float* out) {
  expand_blocks(codes, absmax, blocks, out, [](float value) { return value; });
}
void to_bf16(const uint8_t* codes, const float* absmax, int64_t blocks, uint16_t* out) {
  expand_blocks(codes, absmax, blocks, out, fp32_to_bf16);
}
void to_fp16(const uint8_t* codes, const float* absmax, int64_t blocks, uint16_t* out) {
  expand_blocks(codes, absmax, blocks, out, fp32_to_fp16);
}

}  // namespace

const Kernels kScalarKernels{quantize_blocks, to_fp32, to_bf16, to_fp16};

}  // namespace ft::nf4
