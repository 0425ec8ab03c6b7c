#include "engine/quant/block8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "engine/device/cpu_features.h"
#include "engine/quant/dynamic_map.h"

namespace ft {
namespace {

class Block8 : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    limit_cpu_isa(GetParam());
    if (cpu_isa() != GetParam()) GTEST_SKIP() << "this CPU has no " << to_string(GetParam());
  }
  void TearDown() override { limit_cpu_isa(Isa::avx512); }
};
INSTANTIATE_TEST_SUITE_P(Isa, Block8, testing::Values(Isa::scalar, Isa::avx2, Isa::avx512),
                         [](const auto& isa) { return to_string(isa.param); });

const std::array<float, 256>& thresholds(Map8 map) {
  return map == Map8::with_sign ? signed_dynamic_thresholds() : unsigned_dynamic_thresholds();
}

void expect_codes(Map8 map, const std::vector<float>& x) {
  std::vector<uint8_t> codes(x.size());
  const float scale = quantize_block8(map, x.data(), static_cast<int64_t>(x.size()), codes.data());
  float absmax = 0;
  for (const float v : x) absmax = std::max(absmax, std::fabs(v));
  ASSERT_EQ(scale, std::max(absmax, 1e-12f));
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(codes[i], dynamic_code(thresholds(map), x[i] / scale)) << x[i];
}

TEST_P(Block8, GivesTheCodesOfTheSearchAtEveryThreshold) {
  for (const Map8 map : {Map8::with_sign, Map8::without_sign}) {
    std::vector<float> x{1.0f};  // the scale is 1, so that values reach the search as they are
    for (size_t c = 0; c < 255; ++c)
      for (const float v :
           {thresholds(map)[c], std::nextafter(thresholds(map)[c], -2.0f), std::nextafter(thresholds(map)[c], 2.0f)})
        x.push_back(v);
    for (const float v : {0.0f, -0.0f, 1e-7f, 2.0e-7f, 3e-7f, 1e-30f, 1e-45f}) x.push_back(v);
    if (map == Map8::with_sign)
      for (const float v : {-1.0f, -0.9999f, -1e-7f, -3e-7f, -1e-30f}) x.push_back(v);
    expect_codes(map, x);
  }
}

// Codes come from arithmetic where no threshold is near: every float that could be taken for near, or wrongly for not
// near, on both sides of each threshold and of each decade's end.
TEST_P(Block8, FindsTheCodeBesideEveryThreshold) {
  for (const Map8 map : {Map8::with_sign, Map8::without_sign}) {
    for (const float scale : {1.0f, 0.7312f, 3.1e-9f}) {
      std::vector<float> x;
      for (size_t c = 0; c < 255; ++c) {
        const float t = thresholds(map)[c];
        for (int step = -150; step <= 150; ++step) {
          const int distance = step * (std::abs(step) < 50 ? 1 : 37);
          const float y = t * (1.0f + static_cast<float>(distance) * 0x1p-23f);
          if (std::fabs(y) <= 1.0f && (map == Map8::with_sign || y >= 0)) x.push_back(y * scale);
        }
      }
      while (x.size() % 255) x.push_back(0);
      for (size_t i = 0; i < x.size(); i += 255) {
        std::vector<float> block(x.begin() + static_cast<int64_t>(i), x.begin() + static_cast<int64_t>(i) + 255);
        block.push_back(scale);
        expect_codes(map, block);
      }
    }
  }
}

TEST_P(Block8, GivesTheCodesOfTheSearchOnBlocksOfAllMagnitudes) {
  std::mt19937 engine(4);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> exponent(-30, 3);
  for (int round = 0; round < 400; ++round) {
    std::vector<float> x(round % 2 ? 256 : 1 + round % 255);
    for (float& v : x) v = normal(engine) * std::exp2(round % 3 ? exponent(engine) : 0.0f);
    expect_codes(Map8::with_sign, x);
    for (float& v : x) v *= v;
    expect_codes(Map8::without_sign, x);
  }
}

TEST_P(Block8, ReturnsZerosAndItsOwnValues) {
  const std::vector<float> zeros(256, 0.0f);
  std::vector<uint8_t> codes(256);
  std::vector<float> back(256, 7.0f);
  const float scale = quantize_block8(Map8::with_sign, zeros.data(), 256, codes.data());
  EXPECT_EQ(scale, 1e-12f);
  dequantize_block8(Map8::with_sign, codes.data(), scale, 256, back.data());
  EXPECT_EQ(back, zeros);
  for (const Map8 map : {Map8::with_sign, Map8::without_sign}) {
    for (int c = 0; c < 256; ++c) codes[static_cast<size_t>(c)] = static_cast<uint8_t>(c);
    dequantize_block8(map, codes.data(), 0.25f, 256, back.data());
    std::vector<uint8_t> again(256);
    EXPECT_EQ(quantize_block8(map, back.data(), 256, again.data()), 0.25f);
    EXPECT_EQ(again, codes);
  }
}

TEST_P(Block8, KeepsNanInTheScale) {
  std::vector<float> x(256, 0.5f);
  x[100] = std::nanf("");
  std::vector<uint8_t> codes(256);
  EXPECT_TRUE(std::isnan(quantize_block8(Map8::with_sign, x.data(), 256, codes.data())));
}

}  // namespace
}  // namespace ft
