// Only intrinsics and plain loops here: see nf4_avx2.cpp.
#include <immintrin.h>

#include "engine/quant/nf4_kernels.h"
#include "engine/quant/nf4_quantize_blocks.h"

namespace ft::nf4 {
namespace {

// 32 packed bytes to 64 code bytes in order: each byte widened to a word whose low byte is its high nibble.
inline __m512i unpack(const uint8_t* packed) {
  const __m512i words = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed)));
  const __m512i both = _mm512_or_si512(_mm512_srli_epi16(words, 4), _mm512_slli_epi16(words, 8));
  return _mm512_and_si512(both, _mm512_set1_epi8(0x0F));
}

inline __m512 scaled_codebook(float absmax) {
  return _mm512_mul_ps(_mm512_loadu_ps(kCodebook), _mm512_set1_ps(absmax));
}

struct Bf16 {
  static __m256i table(float absmax) {
    const __m512i bits = _mm512_castps_si512(scaled_codebook(absmax));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
  }
};

struct Fp16 {
  static __m256i table(float absmax) {
    return _mm512_cvtps_ph(scaled_codebook(absmax), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

template <class Half>
void to_half(const uint8_t* codes, const float* absmax, int64_t blocks, uint16_t* out) {
  for (int64_t b = 0; b < blocks; ++b) {
    const __m512i table = _mm512_castsi256_si512(Half::table(absmax[b]));
    const __m512i index = unpack(codes + b * (kBlock / 2));
    const __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(index));
    const __m512i high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(index, 1));
    _mm512_storeu_si512(out + b * kBlock, _mm512_permutexvar_epi16(low, table));
    _mm512_storeu_si512(out + b * kBlock + 32, _mm512_permutexvar_epi16(high, table));
  }
}

void to_fp32(const uint8_t* codes, const float* absmax, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; ++b) {
    const __m512 table = scaled_codebook(absmax[b]);
    const __m512i index = unpack(codes + b * (kBlock / 2));
    float* block = out + b * kBlock;
    const auto store = [&](__m128i sixteen, float* to) {
      _mm512_storeu_ps(to, _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(sixteen), table));
    };
    store(_mm512_castsi512_si128(index), block);
    store(_mm512_extracti32x4_epi32(index, 1), block + 16);
    store(_mm512_extracti32x4_epi32(index, 2), block + 32);
    store(_mm512_extracti32x4_epi32(index, 3), block + 48);
  }
}

}  // namespace

const Kernels kAvx512Kernels{quantize_blocks, to_fp32, to_half<Bf16>, to_half<Fp16>};

}  // namespace ft::nf4
