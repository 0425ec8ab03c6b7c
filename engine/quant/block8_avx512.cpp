// Only intrinsics and plain loops here: see block8_avx2.cpp.
#include "engine/quant/block8_avx512.h"

#include "engine/quant/block8_kernels.h"
#include "engine/quant/block8_loops.h"

namespace ft::block8 {
namespace {

template <bool with_sign>
inline __m128i codes_of(__m512i codes, __m512 x) {
  const __m128i bytes = _mm512_cvtepi32_epi8(codes);
  if (!with_sign) return bytes;
  const __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
  return _mm_mask_subs_epu8(bytes, negative, _mm_set1_epi8(static_cast<char>(254)), bytes);
}

template <bool with_sign>
float quantize_wide(const MapTables& map, const float* x, int64_t count, uint8_t* codes) {
  const float scale = block_scale(x, count);
  if (!(scale < kLargestScale)) return quantize(map, x, count, codes);
  const Decades decades(map.decades);
  const __m512 divisor = _mm512_set1_ps(scale), inverse = _mm512_set1_ps(1.0f / scale);
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m512 values = _mm512_loadu_ps(x + i);
    __m512i line;
    __m128i sixteen = codes_of<with_sign>(
        _mm512_srli_epi32(codes_of_magnitudes<with_sign>(decades, values, inverse, line), kFractionBits), values);
    if (__builtin_expect(_mm512_testn_epi32_mask(line, _mm512_set1_epi32(kDoubtfulBits)) != 0, 0))
      sixteen = exact_codes(map.codes, _mm512_div_ps(values, divisor));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), sixteen);
  }
  return scale;
}

float quantize_any(const MapTables& map, const float* x, int64_t count, uint8_t* codes) {
  if (count % kLanes) return quantize(map, x, count, codes);
  return map.with_sign ? quantize_wide<true>(map, x, count, codes) : quantize_wide<false>(map, x, count, codes);
}

// 64 floats in registers, by the low six bits of an index.
struct Table64 {
  __m512 v[4];
  explicit Table64(const float* values) {
    for (int i = 0; i < 4; ++i) v[i] = _mm512_loadu_ps(values + kLanes * i);
  }
  __m512 at(__m512i index, __mmask16 upper) const {
    return _mm512_mask_mov_ps(_mm512_permutex2var_ps(v[0], index, v[1]), upper,
                              _mm512_permutex2var_ps(v[2], index, v[3]));
  }
};

inline __m512i load_codes(const uint8_t* codes) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
}

// The signed map is symmetric about its zero, code 127, but for the 1 at its end.
void dequantize_signed(const float* values, const uint8_t* codes, float scale, int64_t count, float* out) {
  const Table64 low(values + 127), high(values + 127 + 64);
  const __m512 factor = _mm512_set1_ps(scale), one = _mm512_set1_ps(values[255]), sign = _mm512_set1_ps(-0.0f);
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m512i code = load_codes(codes + i), offset = _mm512_sub_epi32(code, _mm512_set1_epi32(127));
    const __m512i rank = _mm512_abs_epi32(offset);
    const __mmask16 bit_5 = _mm512_test_epi32_mask(rank, _mm512_set1_epi32(32));
    const __mmask16 bit_6 = _mm512_test_epi32_mask(rank, _mm512_set1_epi32(64));
    __m512 value = _mm512_mask_mov_ps(low.at(rank, bit_5), bit_6, high.at(rank, bit_5));
    value = _mm512_mask_mov_ps(value, _mm512_cmpeq_epi32_mask(code, _mm512_set1_epi32(255)), one);
    value = _mm512_mask_xor_ps(value, _mm512_movepi32_mask(offset), value, sign);
    _mm512_storeu_ps(out + i, _mm512_mul_ps(value, factor));
  }
}

void dequantize_unsigned(const float* values, const uint8_t* codes, float scale, int64_t count, float* out) {
  const Table64 first(values), second(values + 64), third(values + 128), fourth(values + 192);
  const __m512 factor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m512i code = load_codes(codes + i);
    const __mmask16 bit_5 = _mm512_test_epi32_mask(code, _mm512_set1_epi32(32));
    const __mmask16 bit_6 = _mm512_test_epi32_mask(code, _mm512_set1_epi32(64));
    const __mmask16 bit_7 = _mm512_test_epi32_mask(code, _mm512_set1_epi32(128));
    const __m512 low = _mm512_mask_mov_ps(first.at(code, bit_5), bit_6, second.at(code, bit_5));
    const __m512 high = _mm512_mask_mov_ps(third.at(code, bit_5), bit_6, fourth.at(code, bit_5));
    _mm512_storeu_ps(out + i, _mm512_mul_ps(_mm512_mask_mov_ps(low, bit_7, high), factor));
  }
}

void dequantize_any(const MapTables& map, const uint8_t* codes, float scale, int64_t count, float* out) {
  const int64_t whole = count / kLanes * kLanes;
  if (whole > 0) (map.with_sign ? dequantize_signed : dequantize_unsigned)(map.values, codes, scale, whole, out);
  dequantize(map, codes + whole, scale, count - whole, out + whole);
}

}  // namespace

const Kernels kAvx512Kernels{quantize_any, dequantize_any};

}  // namespace ft::block8
