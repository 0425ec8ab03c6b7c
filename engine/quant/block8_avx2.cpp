// Only intrinsics and plain loops here: an inline function of the standard library, compiled for AVX2 in this file,
// could be the copy that the linker keeps for everybody.
#include <immintrin.h>

#include "engine/quant/block8_kernels.h"
#include "engine/quant/block8_loops.h"

namespace ft::block8 {
namespace {

constexpr int64_t kWide = 32;  // elements of one turn: a whole vector of codes

inline __m256i codes_of(const CodeTable& table, __m256 scaled) {
  const __m256i bits = _mm256_castps_si256(scaled), sign = _mm256_srai_epi32(bits, 31);
  __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
  magnitude = _mm256_min_epi32(_mm256_max_epi32(magnitude, _mm256_set1_epi32(kLowest)), _mm256_set1_epi32(kOne));
  const __m256i offset = _mm256_sub_epi32(magnitude, _mm256_set1_epi32(kLowest));
  const __m256i cell = _mm256_add_epi32(_mm256_srl_epi32(offset, _mm_cvtsi32_si128(table.shift)),
                                        _mm256_and_si256(sign, _mm256_set1_epi32(table.negative)));
  const __m256i entry = _mm256_i32gather_epi32(table.entries, cell, 4);
  const __m256i low = _mm256_and_si256(offset, _mm256_set1_epi32((1 << table.shift) - 1));
  const __m256i beyond = _mm256_cmpgt_epi32(low, _mm256_srli_epi32(entry, 8));  // -1 where the next code is nearer
  const __m256i step = _mm256_sub_epi32(_mm256_xor_si256(beyond, sign), sign);
  return _mm256_sub_epi32(_mm256_and_si256(entry, _mm256_set1_epi32(255)), step);
}

float quantize_wide(const MapTables& map, const float* x, int64_t count, uint8_t* codes) {
  const float scale = block_scale(x, count);
  const __m256 divisor = _mm256_set1_ps(scale);
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing works within halves of a vector
  for (int64_t i = 0; i < count; i += kWide) {
    const auto eight = [&](int64_t at) {
      return codes_of(map.codes, _mm256_div_ps(_mm256_loadu_ps(x + i + at), divisor));
    };
    const __m256i first = _mm256_packs_epi32(eight(0), eight(8)), second = _mm256_packs_epi32(eight(16), eight(24));
    const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), in_order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), packed);
  }
  return scale;
}

float quantize_any(const MapTables& map, const float* x, int64_t count, uint8_t* codes) {
  return count % kWide ? quantize(map, x, count, codes) : quantize_wide(map, x, count, codes);
}

void dequantize_any(const MapTables& map, const uint8_t* codes, float scale, int64_t count, float* out) {
  const __m256 factor = _mm256_set1_ps(scale);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i)));
    _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_i32gather_ps(map.values, index, 4), factor));
  }
  dequantize(map, codes + i, scale, count - i, out + i);
}

}  // namespace

const Kernels kAvx2Kernels{quantize_any, dequantize_any};

}  // namespace ft::block8
