#include "engine/quant/block8.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"
#include "engine/quant/block8_kernels.h"
#include "engine/quant/dynamic_map.h"

namespace ft {
namespace {

using block8::CodeTable;
using block8::kLowest;
using block8::kOne;
using Map = std::array<float, 256>;

int32_t entry_of(const Map& thresholds, int32_t first_bits, int32_t shift, bool negative) {
  const int32_t last = (1 << shift) - 1;
  const auto code = [&](int32_t low) {
    const auto magnitude = std::bit_cast<float>(first_bits + low);
    return int32_t{dynamic_code(thresholds, negative ? -magnitude : magnitude)};
  };
  const int32_t near = code(0), far = code(last);
  FT_CHECK(near == far || far == near + (negative ? -1 : 1), "a cell holds more than one threshold");
  int32_t low = near == far ? last : 0, high = last;  // the last bits whose code is `near`, by bisection
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    (code(middle) == near ? low : high) = middle;
  }
  return low << 8 | near;
}

std::vector<int32_t> build_entries(const Map& thresholds, int32_t shift, bool with_sign) {
  std::vector<int32_t> entries;
  for (const bool negative : {false, true}) {
    if (negative && !with_sign) break;
    for (int32_t bits = kLowest; bits < kOne; bits += 1 << shift)
      entries.push_back(entry_of(thresholds, bits, shift, negative));
    // 1.0 itself: a cell of one value.
    const int32_t last = (1 << shift) - 1;
    entries.push_back(last << 8 | dynamic_code(thresholds, negative ? -1.0f : 1.0f));
  }
  return entries;
}

// Six bits of mantissa part the signed map's thresholds, whose least distance is 1.4% of the value; the unsigned one,
// twice as dense, needs seven. Each table takes 12 KB.
constexpr int32_t kSignedShift = 17, kUnsignedShift = 16;

// The decades of DecadeTable: below the first threshold, seven of the map, and the two codes next to 1.
constexpr int kDecades = 9;

struct Decade {
  float begin;  // the first magnitude of it
  double slope, offset;
  int32_t last;
};

std::array<Decade, kDecades> decades_of(const Map& map, const Map& thresholds, int32_t zero) {
  std::array<Decade, kDecades> all;
  const auto value = [&](int32_t rank) { return double{map[static_cast<size_t>(zero + rank)]}; };
  const auto threshold = [&](int32_t rank) { return thresholds[static_cast<size_t>(zero + rank - 1)]; };
  const int32_t top = 255 - zero;  // the rank of 1
  // At its end the slope of the first decade reaches 1, an integer, so that what is near it is looked up.
  all[0] = {0, 0.5 / double{threshold(1)}, 0.5, 0};
  const int32_t width = zero == 0 ? 2 : 1;  // values of the first decade of the map; each next one has twice as many
  double scale = 1e-6;
  int32_t first = 1;
  for (int i = 0; i < 7; ++i, scale *= 10) {
    const int32_t bins = width << i;
    const double step = 0.9 / bins;
    all[static_cast<size_t>(i + 1)] = {threshold(first), 1 / (scale * step), first - 0.1 / step, first + bins - 1};
    first += bins;
  }
  // Between the last value and 1 the threshold is no edge of a bin: a line that is `top` there.
  const double slope = all[7].slope;
  all[8] = {static_cast<float>(value(top - 1)), slope, top - slope * double{threshold(top)}, top};
  return all;
}

block8::DecadeTable build_decades(const Map& map, const Map& thresholds, int32_t zero) {
  const auto all = decades_of(map, thresholds, zero);
  block8::DecadeTable table{};
  for (size_t d = 0; d < kDecades; ++d) {
    table.slope[d] = static_cast<float>(all[d].slope);
    table.offset[d] = static_cast<float>(512 + zero + all[d].offset + double{block8::kNear});
    const auto beyond = static_cast<float>(512 + zero + all[d].last + 1);
    table.last[d] = std::bit_cast<int32_t>(beyond) - 1;
  }
  // 6 to 29 units in the last place beyond its threshold: more than a product with a reciprocal is off by, and so
  // little that what lies between still counts as near to the integer that the decade below reaches there.
  const auto boundary = [&](int32_t d) {
    const int32_t bits = std::bit_cast<int32_t>(all[static_cast<size_t>(d)].begin) + 6 + 15;
    return std::bit_cast<float>((bits & ~15) | (d - 1));
  };
  for (int exponent = -24; exponent <= 0; ++exponent) {
    const float low = std::ldexp(1.0f, exponent), high = 2 * low;
    int32_t next = 1;
    while (next < kDecades && boundary(next) <= low) ++next;
    const bool inside = next < kDecades && boundary(next) < high;
    const float none = std::bit_cast<float>(std::bit_cast<int32_t>(0x1p100f) | (next - 1));
    table.boundary[(exponent + 127) % 32] = inside ? boundary(next) : none;
  }
  return table;
}

}  // namespace

const block8::MapTables& block8_tables(Map8 map) {
  static const auto with_sign = build_entries(signed_dynamic_thresholds(), kSignedShift, true);
  static const auto without_sign = build_entries(unsigned_dynamic_thresholds(), kUnsignedShift, false);
  static const block8::MapTables all[] = {{signed_dynamic_map().data(),
                                           {with_sign.data(), kSignedShift, static_cast<int32_t>(with_sign.size() / 2)},
                                           build_decades(signed_dynamic_map(), signed_dynamic_thresholds(), 127),
                                           true},
                                          {unsigned_dynamic_map().data(),
                                           {without_sign.data(), kUnsignedShift, 0},
                                           build_decades(unsigned_dynamic_map(), unsigned_dynamic_thresholds(), 0),
                                           false}};
  return all[map == Map8::with_sign ? 0 : 1];
}

namespace {

const block8::Kernels& kernels() {
  return for_isa(block8::kScalarKernels, block8::kAvx2Kernels, block8::kAvx512Kernels);
}

}  // namespace

float quantize_block8(Map8 map, const float* x, int64_t count, uint8_t* codes) {
  return kernels().quantize(block8_tables(map), x, count, codes);
}

void dequantize_block8(Map8 map, const uint8_t* codes, float scale, int64_t count, float* out) {
  kernels().dequantize(block8_tables(map), codes, scale, count, out);
}

}  // namespace ft
