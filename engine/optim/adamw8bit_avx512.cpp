// One pass of 8-bit AdamW over a block of 256: for CPUs with VBMI, whose byte permutations look 64 codes up at once.
// Only intrinsics and plain loops here: an inline function of the standard library, compiled for AVX-512 in this file,
// could be the copy that the linker keeps for everybody.
#include "engine/optim/update_kernels.h"
#include "engine/quant/block8_avx512.h"
#include "engine/quant/block8_loops.h"

namespace ft::update {
namespace {

using block8::Decades;
using block8::kLanes;
using block8::MapTables;

constexpr int64_t kBlock = 256;
constexpr int64_t kGroup = 64;  // codes in a register
constexpr int64_t kAhead =
    2 * kBlock;  // what is fetched while a group is computed: the processor's own guess is a sixth slower

// Four vectors of 16 floats, in order: a group.
struct Group {
  __m512 v[4];
};

// A map's values by bytes: plane b holds byte b of each.
struct BytePlanes {
  alignas(64) uint8_t bytes[4][256];

  BytePlanes(const float* values, int count) {
    for (int i = 0; i < count; ++i)
      for (int b = 0; b < 4; ++b)
        bytes[b][i] = static_cast<uint8_t>(static_cast<uint32_t>(block8::bits_of(values[i])) >> 8 * b);
  }
  __m512i part(int plane, int index) const { return _mm512_load_si512(bytes[plane] + kGroup * index); }
};

// Codes in the order in which interleaving the planes below undoes it: 4 × 4 groups of four bytes, transposed.
inline __m512i load_codes(const uint8_t* codes) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_loadu_si512(codes));
}

inline Group interleaved(const __m512i plane[4], __m512 scale) {
  const __m512i low_01 = _mm512_unpacklo_epi8(plane[0], plane[1]), high_01 = _mm512_unpackhi_epi8(plane[0], plane[1]);
  const __m512i low_23 = _mm512_unpacklo_epi8(plane[2], plane[3]), high_23 = _mm512_unpackhi_epi8(plane[2], plane[3]);
  const auto scaled = [&](__m512i bits) { return _mm512_mul_ps(_mm512_castsi512_ps(bits), scale); };
  return {{scaled(_mm512_unpacklo_epi16(low_01, low_23)), scaled(_mm512_unpackhi_epi16(low_01, low_23)),
           scaled(_mm512_unpacklo_epi16(high_01, high_23)), scaled(_mm512_unpackhi_epi16(high_01, high_23))}};
}

// The signed map is symmetric about its zero, code 127, but for the 1 at its end.   @param planes of the values from
// there on
inline Group dequantize_signed(const BytePlanes& planes, const uint8_t* codes, __m512 scale) {
  const __m512i code = load_codes(codes), offset = _mm512_sub_epi8(code, _mm512_set1_epi8(127));
  const __m512i rank = _mm512_abs_epi8(offset);
  __m512i plane[4];
  for (int b = 0; b < 4; ++b) plane[b] = _mm512_permutex2var_epi8(planes.part(b, 0), rank, planes.part(b, 1));
  constexpr int kOrAnd = 0xF8;  // of vpternlog: a | (b & c)
  plane[3] = _mm512_ternarylogic_epi64(plane[3], offset, _mm512_set1_epi8(-128), kOrAnd);
  const __mmask64 one = _mm512_cmpeq_epi8_mask(code, _mm512_set1_epi8(-1));
  plane[2] = _mm512_mask_mov_epi8(plane[2], one, _mm512_set1_epi8(-128));  // 1.0f is 0x3F800000
  plane[3] = _mm512_mask_mov_epi8(plane[3], one, _mm512_set1_epi8(0x3F));
  return interleaved(plane, scale);
}

inline Group dequantize_unsigned(const BytePlanes& planes, const uint8_t* codes, __m512 scale) {
  const __m512i code = load_codes(codes);
  const __mmask64 upper = _mm512_movepi8_mask(code);
  __m512i plane[4];
  for (int b = 0; b < 4; ++b)
    plane[b] = _mm512_mask_mov_epi8(_mm512_permutex2var_epi8(planes.part(b, 0), code, planes.part(b, 1)), upper,
                                    _mm512_permutex2var_epi8(planes.part(b, 2), code, planes.part(b, 3)));
  return interleaved(plane, scale);
}

// AdamW's constants in registers.
struct Step {
  __m512 keep, rate, weight_1, weight_2, inverse_root, eps;

  explicit Step(const AdamW& s)
      : keep(_mm512_set1_ps(s.keep)),
        rate(_mm512_set1_ps(s.rate)),
        weight_1(_mm512_set1_ps(s.weight_1)),
        weight_2(_mm512_set1_ps(s.weight_2)),
        inverse_root(_mm512_set1_ps(s.inverse_root)),
        eps(_mm512_set1_ps(s.eps)) {}
};

// The operations of update_loops.h, one by one.
inline void update(const Step& s, __m512 g, float* master, __m512& m, __m512& v) {
  m = _mm512_fmadd_ps(s.weight_1, _mm512_sub_ps(g, m), m);
  v = _mm512_fmadd_ps(s.weight_2, _mm512_fmsub_ps(g, g, v), v);
  const __m512 denominator = _mm512_fmadd_ps(_mm512_sqrt_ps(v), s.inverse_root, s.eps);
  const __m512 kept = _mm512_mul_ps(s.keep, _mm512_loadu_ps(master));
  _mm512_storeu_ps(master, _mm512_fnmadd_ps(s.rate, _mm512_div_ps(m, denominator), kept));
}

inline float scale_of(__m512i top) {
  const int32_t bits = _mm512_reduce_max_epi32(top);
  float absmax;
  __builtin_memcpy(&absmax, &bits, sizeof(absmax));
  return absmax < block8::kSmallestScale ? block8::kSmallestScale : absmax;
}

// The last bytes, with the sign, of each lane of four vectors.
inline __m512i packed_signs(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512i index = _mm512_setr_epi32(0x0F0B0703, 0x1F1B1713, 0x2F2B2723, 0x3F3B3733, 0x4F4B4743, 0x5F5B5753,
                                          0x6F6B6763, 0x7F7B7773, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i low = _mm512_permutex2var_epi8(_mm512_castps_si512(a), index, _mm512_castps_si512(b));
  const __m512i high = _mm512_permutex2var_epi8(_mm512_castps_si512(c), index, _mm512_castps_si512(d));
  return _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
}

// The codes that lie kFractionBits up in each lane of four vectors: bytes 1 and 2, as 16-bit words, hold them all.
inline __m512i packed_codes(__m512i a, __m512i b, __m512i c, __m512i d) {
  static_assert(block8::kFractionBits == 14);
  const __m512i words = _mm512_add_epi8(
      _mm512_setr_epi32(0x05040100, 0x0D0C0908, 0x15141110, 0x1D1C1918, 0x25242120, 0x2D2C2928, 0x35343130, 0x3D3C3938,
                        0x45444140, 0x4D4C4948, 0x55545150, 0x5D5C5958, 0x65646160, 0x6D6C6968, 0x75747170, 0x7D7C7978),
      _mm512_set1_epi8(1));
  const __m512i low_bytes =
      _mm512_setr_epi32(0x06040200, 0x0E0C0A08, 0x16141210, 0x1E1C1A18, 0x26242220, 0x2E2C2A28, 0x36343230, 0x3E3C3A38,
                        0x46444240, 0x4E4C4A48, 0x56545250, 0x5E5C5A58, 0x66646260, 0x6E6C6A68, 0x76747270, 0x7E7C7A78);
  const __m512i low = _mm512_srli_epi16(_mm512_permutex2var_epi8(a, words, b), 6);
  const __m512i high = _mm512_srli_epi16(_mm512_permutex2var_epi8(c, words, d), 6);
  return _mm512_permutex2var_epi8(low, low_bytes, high);
}

__attribute__((noinline)) void search_again(const MapTables& map, const float* x, float scale, unsigned doubtful,
                                            uint8_t* codes) {
  for (int i = 0; i < 4; ++i)
    if (doubtful >> i & 1)
      _mm_storeu_si128(
          reinterpret_cast<__m128i*>(codes + kLanes * i),
          block8::exact_codes(map.codes, _mm512_div_ps(_mm512_loadu_ps(x + kLanes * i), _mm512_set1_ps(scale))));
}

template <bool with_sign>
inline void quantize_group(const MapTables& map, const Decades& decades, const float* x, float scale, __m512 inverse,
                           uint8_t* codes) {
  __m512 v[4];
  __m512i code[4], line[4];
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_load_ps(x + kLanes * i);
    code[i] = block8::codes_of_magnitudes<with_sign>(decades, v[i], inverse, line[i]);
  }
  __m512i all = packed_codes(code[0], code[1], code[2], code[3]);
  if (with_sign) {
    const __m512i signs = packed_signs(v[0], v[1], v[2], v[3]);
    all = _mm512_mask_subs_epu8(all, _mm512_movepi8_mask(signs), _mm512_set1_epi8(static_cast<char>(254)), all);
  }
  _mm512_storeu_si512(codes, all);
  const __m512i bits = _mm512_set1_epi32(block8::kDoubtfulBits);
  __mmask16 sure = _mm512_test_epi32_mask(line[0], bits);
  for (int i = 1; i < 4; ++i) sure = _mm512_mask_test_epi32_mask(sure, line[i], bits);
  if (__builtin_expect(sure != 0xFFFF, 0)) {
    unsigned vectors = 0;
    for (int i = 0; i < 4; ++i) vectors |= (_mm512_testn_epi32_mask(line[i], bits) != 0 ? 1u : 0u) << i;
    search_again(map, x, scale, vectors, codes);
  }
}

__attribute__((noinline)) float quantize_slowly(const MapTables& map, const float* x, uint8_t* codes) {
  return block8::quantize(map, x, kBlock, codes);
}

// What a map's look-ups need.
struct Map {
  const MapTables& tables;
  Decades decades;
  explicit Map(const MapTables& map) : tables(map), decades(map.decades) {}
};

// One average of a block that is updated and waits to be quantised.
struct Average {
  alignas(64) float values[kBlock];
  uint8_t* codes = nullptr;
  float scale = 0;
  __m512 inverse = _mm512_setzero_ps();

  // Finds the scale. @return whether quantize_group is to follow
  bool finish(const MapTables& map, __m512i top, uint8_t* its_codes, float& its_scale) {
    codes = its_codes;
    its_scale = scale = scale_of(top);
    inverse = _mm512_set1_ps(1.0f / scale);
    if (scale < block8::kLargestScale) return true;
    its_scale = quantize_slowly(map, values, codes);
    return false;
  }
  template <bool with_sign>
  void quantize(const Map& map, int64_t i) const {
    quantize_group<with_sign>(map.tables, map.decades, values + i, scale, inverse, codes + i);
  }
};

struct Pending {
  Average mean, square;
  bool mean_waits = false, square_waits = false;
};

// Steps a group of 64.   @param tops greatest magnitudes so far, as bits
inline void update_group(const Step& step, const Blocks8& t, int64_t at, Group m, Group v, float* mean, float* square,
                         __m512i tops[2]) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  for (int j = 0; j < 4; ++j) {
    const int64_t lane = kLanes * j;
    __builtin_prefetch(t.grad + at + lane + kAhead);
    __builtin_prefetch(t.master + at + lane + kAhead);
    update(step, _mm512_loadu_ps(t.grad + at + lane), t.master + at + lane, m.v[j], v.v[j]);
    _mm512_store_ps(mean + lane, m.v[j]);
    _mm512_store_ps(square + lane, v.v[j]);
    tops[0] = _mm512_max_epi32(tops[0], _mm512_and_si512(_mm512_castps_si512(m.v[j]), magnitude));
    tops[1] = _mm512_max_epu32(tops[1], _mm512_castps_si512(v.v[j]));
  }
}

// A block is quantised while the next one is updated: the one waits for the divider, the other keeps the other units
// busy, and neither waits for the block's greatest value.
void adamw8bit(const AdamW& constants, const Blocks8& t, const MapTables& signed_map, const MapTables& unsigned_map,
               int64_t blocks) {
  static const BytePlanes mean_planes(signed_map.values + 127, 128), square_planes(unsigned_map.values, 256);
  const Step step(constants);
  const Map mean_map(signed_map), square_map(unsigned_map);
  Pending both[2];
  for (int64_t block = 0; block <= blocks; ++block) {
    Pending& now = both[block & 1];
    const Pending& before = both[~block & 1];
    const bool more = block < blocks;
    const int64_t first = block * kBlock;
    const __m512 mean_scale = _mm512_set1_ps(more ? t.mean_scales[block] : 0),
                 square_scale = _mm512_set1_ps(more ? t.square_scales[block] : 0);
    __m512i tops[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int64_t i = 0; i < kBlock; i += kGroup) {
      if (more)
        update_group(step, t, first + i, dequantize_signed(mean_planes, t.mean_codes + first + i, mean_scale),
                     dequantize_unsigned(square_planes, t.square_codes + first + i, square_scale), now.mean.values + i,
                     now.square.values + i, tops);
      if (before.mean_waits) before.mean.quantize<true>(mean_map, i);
      if (before.square_waits) before.square.quantize<false>(square_map, i);
    }
    now.mean_waits = more && now.mean.finish(signed_map, tops[0], t.mean_codes + first, t.mean_scales[block]);
    now.square_waits = more && now.square.finish(unsigned_map, tops[1], t.square_codes + first, t.square_scales[block]);
  }
}

}  // namespace

const Adamw8bit kAdamw8bitVbmi = adamw8bit;

}  // namespace ft::update
