#pragma once
/// AVX-512 pieces of the 8-bit kernels, for block8_avx512.cpp and the fused optimizer step (engine/optim). Tables are
/// looked up by permutations of registers, since gathers take 40 cycles and more on several processors; scales divide
/// by multiplication, and what then lies so near to a threshold that the rounding could matter (one in two thousand)
/// goes through the exact search again. In an unnamed namespace and without the standard library: see block8_loops.h.

#include <immintrin.h>

#include "engine/quant/block8_kernels.h"

namespace ft::block8 {
namespace {

constexpr int64_t kLanes = 16;
constexpr float kLargestScale = 1e37f;  // beyond, the reciprocal is denormal

// What block8_loops.h computes for 16 values, by one gather.   @param scaled x / scale
inline __m128i exact_codes(const CodeTable& table, __m512 scaled) {
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

// DecadeTable in registers.
struct Decades {
  __m512 boundary_low, boundary_high, slope, offset;
  __m512i last;

  explicit Decades(const DecadeTable& table)
      : boundary_low(_mm512_loadu_ps(table.boundary)),
        boundary_high(_mm512_loadu_ps(table.boundary + kLanes)),
        slope(_mm512_loadu_ps(table.slope)),
        offset(_mm512_loadu_ps(table.offset)),
        last(_mm512_loadu_si512(table.last)) {}
};

// The code of |x| · inverse from bit kFractionBits of each lane on. Where the kDoubtfulBits of `line` are zero it may
// be another. Without signs x is 0 or more.
template <bool with_sign>
inline __m512i codes_of_magnitudes(const Decades& table, __m512 x, __m512 inverse, __m512i& line) {
  __m512i bits = _mm512_castps_si512(_mm512_mul_ps(x, inverse));
  if (with_sign) bits = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
  bits = _mm512_max_epi32(bits, _mm512_set1_epi32((127 - 24) << 23));
  const __m512 y = _mm512_castsi512_ps(bits);
  const __m512 boundary = _mm512_permutex2var_ps(table.boundary_low, _mm512_srli_epi32(bits, 23), table.boundary_high);
  const __m512i below = _mm512_castps_si512(boundary);
  const __m512i decade =
      _mm512_mask_add_epi32(below, _mm512_cmp_ps_mask(y, boundary, _CMP_GE_OQ), below, _mm512_set1_epi32(1));
  const __m512 slope = _mm512_permutexvar_ps(decade, table.slope), offset = _mm512_permutexvar_ps(decade, table.offset);
  line = _mm512_castps_si512(_mm512_fmadd_ps(y, slope, offset));
  return _mm512_min_epi32(line, _mm512_permutexvar_epi32(decade, table.last));
}

}  // namespace
}  // namespace ft::block8
