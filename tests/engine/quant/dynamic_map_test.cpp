#include "engine/quant/dynamic_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/engine/quant/golden.h"

namespace ft {
namespace {

using testing::ElementsAreArray;

TEST(DynamicMap, IsThatOfBitsandbytes) {
  EXPECT_THAT(signed_dynamic_map(), ElementsAreArray(golden::quant().get<float>("signed_map")));
  EXPECT_THAT(unsigned_dynamic_map(), ElementsAreArray(golden::quant().get<float>("unsigned_map")));
}

TEST(DynamicMap, HasTheKnownValues) {
  const auto& s = signed_dynamic_map();
  EXPECT_FLOAT_EQ(s[0], -0.992968738f);
  EXPECT_FLOAT_EQ(s[64], -0.0985937491f);
  EXPECT_FLOAT_EQ(s[126], -5.5e-7f);
  EXPECT_EQ(s[127], 0.0f);
  EXPECT_FLOAT_EQ(s[128], 5.5e-7f);
  EXPECT_FLOAT_EQ(s[129], 3.25e-6f);
  EXPECT_FLOAT_EQ(s[192], 0.12109375f);
  EXPECT_FLOAT_EQ(s[254], 0.992968738f);
  EXPECT_EQ(s[255], 1.0f);
  EXPECT_NEAR(std::accumulate(s.begin(), s.end(), 0.0), 1.0, 1e-6);
  const auto& u = unsigned_dynamic_map();
  EXPECT_EQ(u[0], 0.0f);
  EXPECT_FLOAT_EQ(u[1], 3.25e-7f);
  EXPECT_FLOAT_EQ(u[64], 0.0121093756f);
  EXPECT_FLOAT_EQ(u[127], 0.103515625f);
  EXPECT_FLOAT_EQ(u[192], 0.560546875f);
  EXPECT_FLOAT_EQ(u[254], 0.996484399f);
  EXPECT_EQ(u[255], 1.0f);
  EXPECT_NEAR(std::accumulate(u.begin(), u.end(), 0.0), 75.1052634, 1e-5);
}

TEST(DynamicMap, BinsLikeTheCpuBackendOfBitsandbytes) {
  const auto x = golden::quant().get<float>("bins.x");
  const auto codes = golden::quant().get<uint8_t>("bins.codes");
  const auto absmax = golden::quant().get<float>("bins.absmax");
  for (size_t first = 0; first < x.size(); first += 256) {
    uint8_t ours[256];
    EXPECT_EQ(quantize_block_binned(x.data() + first, 256, ours), absmax[first / 256]);
    EXPECT_THAT(ours, ElementsAreArray(codes.data() + first, 256u)) << first;
  }
}

// torchao's search, as its quantize_8bit_with_qmap writes it down.
uint8_t searched(const std::array<float, 256>& map, float x) {
  int code = 0;
  for (int step = 128; step > 0; step /= 2)
    if (x >= map[static_cast<size_t>(code + step)]) code += step;
  const int up = std::min(code + 1, 255);
  const float gap = map[static_cast<size_t>(up)] - map[static_cast<size_t>(code)];
  return static_cast<uint8_t>(x - map[static_cast<size_t>(code)] >= gap * 0.5f ? up : code);
}

TEST(DynamicMap, ThresholdsGiveTheCodesOfTorchao) {
  const std::pair<const std::array<float, 256>&, const std::array<float, 256>&> maps[] = {
      {signed_dynamic_map(), signed_dynamic_thresholds()}, {unsigned_dynamic_map(), unsigned_dynamic_thresholds()}};
  for (const auto& [map, thresholds] : maps) {
    for (int i = -20000; i <= 20000; ++i) {
      const float x = static_cast<float>(i) / 20000.0f;
      if (x < map[0]) continue;  // below the map both stay at code 0, which the search below does not state
      EXPECT_EQ(dynamic_code(thresholds, x), searched(map, x)) << x;
      EXPECT_EQ(dynamic_code(thresholds, x * 1e-4f), searched(map, x * 1e-4f)) << x * 1e-4f;
    }
    for (size_t c = 0; c < 255; ++c) {
      for (const float x : {thresholds[c], std::nextafter(thresholds[c], -2.0f), std::nextafter(thresholds[c], 2.0f)})
        EXPECT_EQ(dynamic_code(thresholds, x), searched(map, x)) << x;
    }
    EXPECT_EQ(dynamic_code(thresholds, 1.0f), 255);
  }
}

}  // namespace
}  // namespace ft
