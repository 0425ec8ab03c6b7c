#include "engine/quant/block8.h"

#include <array>
#include <bit>
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

const CodeTable& code_table(Map8 map) {
  static const auto with_sign = build_entries(signed_dynamic_thresholds(), kSignedShift, true);
  static const auto without_sign = build_entries(unsigned_dynamic_thresholds(), kUnsignedShift, false);
  static const CodeTable tables[] = {{with_sign.data(), kSignedShift, static_cast<int32_t>(with_sign.size() / 2)},
                                     {without_sign.data(), kUnsignedShift, 0}};
  return tables[map == Map8::with_sign ? 0 : 1];
}

const block8::Kernels& kernels() {
  switch (cpu_isa()) {
    case Isa::avx512:
      return block8::kAvx512Kernels;
    case Isa::avx2:
      return block8::kAvx2Kernels;
    default:
      return block8::kScalarKernels;
  }
}

}  // namespace

float quantize_block8(Map8 map, const float* x, int64_t count, uint8_t* codes) {
  return kernels().quantize(code_table(map), x, count, codes);
}

void dequantize_block8(Map8 map, const uint8_t* codes, float scale, int64_t count, float* out) {
  const Map& values = map == Map8::with_sign ? signed_dynamic_map() : unsigned_dynamic_map();
  kernels().dequantize(values.data(), codes, scale, count, out);
}

}  // namespace ft
