// Only intrinsics here: an inline function of the standard library, compiled for AVX2 in this file, could be the copy
// that the linker keeps for everybody.
#include <immintrin.h>

#include "engine/tensor/half_kernels.h"

namespace ft::avx2 {
namespace {

// bf16 of 8 floats, as 32-bit lanes with the value in the low half; NaN is made quiet and keeps its sign.
__m256i round_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, is_nan);
}

// The last, short vector of a range goes through a buffer of eight, so that it takes the same instructions.
template <class In, class Out, class Convert>
void convert(const In* in, int64_t count, Out* out, Convert eight) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) eight(in + i, out + i);
  if (i == count) return;
  In tail_in[8] = {};
  Out tail_out[8];
  for (int64_t k = 0; i + k < count; ++k) tail_in[k] = in[i + k];
  eight(tail_in, tail_out);
  for (int64_t k = 0; i + k < count; ++k) out[i + k] = tail_out[k];
}

}  // namespace

void bf16_to_fp32(const uint16_t* in, int64_t count, float* out) {
  convert(in, count, out, [](const uint16_t* from, float* to) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    _mm256_storeu_ps(to, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)));
  });
}

void fp16_to_fp32(const uint16_t* in, int64_t count, float* out) {
  convert(in, count, out, [](const uint16_t* from, float* to) {
    _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  });
}

void fp32_to_bf16(const float* in, int64_t count, uint16_t* out) {
  convert(in, count, out, [](const float* from, uint16_t* to) {
    const __m256i lanes = round_bf16(_mm256_loadu_ps(from));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(lanes, lanes), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
  });
}

void fp32_to_fp16(const float* in, int64_t count, uint16_t* out) {
  convert(in, count, out, [](const float* from, uint16_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  });
}

}  // namespace ft::avx2
