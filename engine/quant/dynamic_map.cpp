#include "engine/quant/dynamic_map.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace ft {
namespace {

using Map = std::array<float, 256>;

constexpr int kDecades = 7;
constexpr float kScales[kDecades] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
constexpr int kBins = 65536;  // of bitsandbytes' CPU quantiser

// torch.linspace(0.1, 1, edges) in fp32: it counts from the nearer end, with fused multiply-adds.
float edge(int i, int edges) {
  const float step = (1.0f - 0.1f) / static_cast<float>(edges - 1);
  return i < edges / 2 ? std::fma(step, static_cast<float>(i), 0.1f)
                       : std::fma(-step, static_cast<float>(edges - 1 - i), 1.0f);
}

Map build_map(bool with_sign) {
  std::vector<float> values{0.0f, 1.0f};
  for (int i = 0; i < kDecades; ++i) {
    const int bins = 1 << (with_sign ? i : i + 1);
    const float decade = kScales[i];
    for (int b = 0; b < bins; ++b) {
      const float mean = (edge(b, bins + 1) + edge(b + 1, bins + 1)) / 2.0f;
      const float value = decade * mean;
      values.push_back(value);
      if (with_sign) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  Map map;
  std::copy(values.begin(), values.end(), map.begin());
  return map;
}

// Floats as integers that sort alike.
uint32_t ordered(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
float from_ordered(uint32_t key) { return std::bit_cast<float>(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key); }

Map build_thresholds(const Map& map) {
  Map thresholds;
  for (size_t c = 0; c < 255; ++c) {
    // torchao rounds up where residual ≥ half the gap, both in fp32: bisect for the first float where that holds.
    const float half_gap = (map[c + 1] - map[c]) * 0.5f;
    uint32_t low = ordered(map[c]), high = ordered(map[c + 1]);
    while (high - low > 1) {
      const uint32_t middle = low + (high - low) / 2;
      (from_ordered(middle) - map[c] >= half_gap ? high : low) = middle;
    }
    thresholds[c] = from_ordered(high);
  }
  thresholds[255] = std::numeric_limits<float>::infinity();
  return thresholds;
}

std::vector<uint8_t> build_bins() {
  const Map& map = signed_dynamic_map();
  std::vector<uint8_t> bins(kBins);
  size_t code = 0;
  for (int i = 0; i < kBins; ++i) {
    const float value = -1.0f + 2.0f * static_cast<float>(i) / 65535.0f;
    while (code < 255 && (map[code] + map[code + 1]) * 0.5f < value) ++code;
    bins[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
  }
  return bins;
}

}  // namespace

const Map& signed_dynamic_map() {
  static const Map map = build_map(true);
  return map;
}

const Map& unsigned_dynamic_map() {
  static const Map map = build_map(false);
  return map;
}

const Map& signed_dynamic_thresholds() {
  static const Map thresholds = build_thresholds(signed_dynamic_map());
  return thresholds;
}

const Map& unsigned_dynamic_thresholds() {
  static const Map thresholds = build_thresholds(unsigned_dynamic_map());
  return thresholds;
}

uint8_t dynamic_code(const Map& thresholds, float x) {
  return static_cast<uint8_t>(std::upper_bound(thresholds.begin(), thresholds.begin() + 255, x) - thresholds.begin());
}

float quantize_block_binned(const float* x, int64_t count, uint8_t* codes) {
  static const std::vector<uint8_t> bins = build_bins();
  float absmax = 0;
  for (int64_t i = 0; i < count; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  const float inverse = 1.0f / absmax;
  for (int64_t i = 0; i < count; ++i) {
    const float scaled = x[i] * inverse;
    // A block of zeros gives NaN here, which the first comparison sends to -1, as bitsandbytes' clamp does.
    const float clamped = scaled > -1.0f ? std::min(scaled, 1.0f) : -1.0f;
    codes[i] = bins[static_cast<size_t>((clamped + 1.0f) * 0.5f * 65535.0f + 0.5f)];
  }
  return absmax;
}

}  // namespace ft
