// Only intrinsics and plain loops here: see block8_avx2.cpp.
#include <immintrin.h>

#include "engine/quant/block8_kernels.h"
#include "engine/quant/block8_loops.h"

namespace ft::block8 {
namespace {

constexpr int64_t kWide = 16;

inline __m128i codes_of(const CodeTable& table, __m512 scaled) {
  const __m512i bits = _mm512_castps_si512(scaled);
  const __mmask16 negative = _mm512_movepi32_mask(bits);
  __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
  magnitude = _mm512_min_epi32(_mm512_max_epi32(magnitude, _mm512_set1_epi32(kLowest)), _mm512_set1_epi32(kOne));
  const __m512i offset = _mm512_sub_epi32(magnitude, _mm512_set1_epi32(kLowest));
  __m512i cell = _mm512_srl_epi32(offset, _mm_cvtsi32_si128(table.shift));
  cell = _mm512_mask_add_epi32(cell, negative, cell, _mm512_set1_epi32(table.negative));
  const __m512i entry = _mm512_i32gather_epi32(cell, table.entries, 4);
  const __m512i low = _mm512_and_si512(offset, _mm512_set1_epi32((1 << table.shift) - 1));
  const __mmask16 beyond = _mm512_cmpgt_epi32_mask(low, _mm512_srli_epi32(entry, 8));
  __m512i code = _mm512_and_si512(entry, _mm512_set1_epi32(255));
  const __m512i one = _mm512_set1_epi32(1);
  code = _mm512_mask_add_epi32(code, static_cast<__mmask16>(beyond & ~negative), code, one);
  code = _mm512_mask_sub_epi32(code, static_cast<__mmask16>(beyond & negative), code, one);
  return _mm512_cvtepi32_epi8(code);
}

float quantize_any(const CodeTable& table, const float* x, int64_t count, uint8_t* codes) {
  if (count % kWide) return quantize(table, x, count, codes);
  const float scale = block_scale(x, count);
  const __m512 divisor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < count; i += kWide) {
    const __m128i sixteen = codes_of(table, _mm512_div_ps(_mm512_loadu_ps(x + i), divisor));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), sixteen);
  }
  return scale;
}

void dequantize_any(const float* map, const uint8_t* codes, float scale, int64_t count, float* out) {
  const __m512 factor = _mm512_set1_ps(scale);
  int64_t i = 0;
  for (; i + kWide <= count; i += kWide) {
    const __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i)));
    _mm512_storeu_ps(out + i, _mm512_mul_ps(_mm512_i32gather_ps(index, map, 4), factor));
  }
  dequantize(map, codes + i, scale, count - i, out + i);
}

}  // namespace

const Kernels kAvx512Kernels{quantize_any, dequantize_any};

}  // namespace ft::block8
