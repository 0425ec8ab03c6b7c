// Only intrinsics and plain loops here: an inline function of the standard library, compiled for AVX2 in this file,
// could be the copy that the linker keeps for everybody.
#include <immintrin.h>

#include "engine/quant/nf4_kernels.h"
#include "engine/quant/nf4_quantize_blocks.h"

namespace ft::nf4 {
namespace {

// 32 packed bytes to two vectors of 32 code bytes: elements 0-31 and 32-63 of the block, in order.
struct Codes {
  __m256i low, high;
};
inline Codes unpack(const uint8_t* packed) {
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed)), 0xD8);
  const __m256i nibble = _mm256_set1_epi8(0x0F);
  const __m256i first = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
  const __m256i second = _mm256_and_si256(bytes, nibble);
  return {_mm256_unpacklo_epi8(first, second), _mm256_unpackhi_epi8(first, second)};
}

inline __m256 scaled_codebook(int half, float absmax) {
  return _mm256_mul_ps(_mm256_loadu_ps(kCodebook + 8 * half), _mm256_set1_ps(absmax));
}

// A block's 16 values in 16 bits, as the tables of their low and of their high bytes that pshufb looks up.
struct Table {
  __m256i low_bytes, high_bytes;
};
inline Table table_of(__m128i values_0_7, __m128i values_8_15) {
  const __m128i byte = _mm_set1_epi16(0xFF);
  const __m128i low = _mm_packus_epi16(_mm_and_si128(values_0_7, byte), _mm_and_si128(values_8_15, byte));
  const __m128i high = _mm_packus_epi16(_mm_srli_epi16(values_0_7, 8), _mm_srli_epi16(values_8_15, 8));
  return {_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high)};
}

inline __m256i round_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
}

struct Bf16 {
  static Table table(float absmax) {
    const __m256i packed =
        _mm256_packus_epi32(round_bf16(scaled_codebook(0, absmax)), round_bf16(scaled_codebook(1, absmax)));
    const __m256i values = _mm256_permute4x64_epi64(packed, 0xD8);
    return table_of(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
  }
};

struct Fp16 {
  static Table table(float absmax) {
    constexpr int kRounding = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return table_of(_mm256_cvtps_ph(scaled_codebook(0, absmax), kRounding),
                    _mm256_cvtps_ph(scaled_codebook(1, absmax), kRounding));
  }
};

inline void store_32(__m256i codes, const Table& table, uint16_t* out) {
  const __m256i spread = _mm256_permute4x64_epi64(codes, 0xD8);  // so that unpacking leaves the elements in order
  const __m256i low = _mm256_shuffle_epi8(table.low_bytes, spread);
  const __m256i high = _mm256_shuffle_epi8(table.high_bytes, spread);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_unpacklo_epi8(low, high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 16), _mm256_unpackhi_epi8(low, high));
}

template <class Half>
void to_half(const uint8_t* codes, const float* absmax, int64_t blocks, uint16_t* out) {
  for (int64_t b = 0; b < blocks; ++b) {
    const Table table = Half::table(absmax[b]);
    const Codes block = unpack(codes + b * (kBlock / 2));
    store_32(block.low, table, out + b * kBlock);
    store_32(block.high, table, out + b * kBlock + 32);
  }
}

inline void store_8(__m128i codes, __m256 lower, __m256 upper, float* out) {
  const __m256i index = _mm256_cvtepu8_epi32(codes);
  const __m256 from_lower = _mm256_permutevar8x32_ps(lower, index);
  const __m256 from_upper = _mm256_permutevar8x32_ps(upper, index);
  const __m256 is_upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));  // bit 3 to the sign, which blendv reads
  _mm256_storeu_ps(out, _mm256_blendv_ps(from_lower, from_upper, is_upper));
}

inline void store_32(__m256i codes, __m256 lower, __m256 upper, float* out) {
  const __m128i low = _mm256_castsi256_si128(codes), high = _mm256_extracti128_si256(codes, 1);
  store_8(low, lower, upper, out);
  store_8(_mm_srli_si128(low, 8), lower, upper, out + 8);
  store_8(high, lower, upper, out + 16);
  store_8(_mm_srli_si128(high, 8), lower, upper, out + 24);
}

void to_fp32(const uint8_t* codes, const float* absmax, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; ++b) {
    const __m256 lower = scaled_codebook(0, absmax[b]), upper = scaled_codebook(1, absmax[b]);
    const Codes block = unpack(codes + b * (kBlock / 2));
    store_32(block.low, lower, upper, out + b * kBlock);
    store_32(block.high, lower, upper, out + b * kBlock + 32);
  }
}

}  // namespace

const Kernels kAvx2Kernels{quantize_blocks, to_fp32, to_half<Bf16>, to_half<Fp16>};

}  // namespace ft::nf4
