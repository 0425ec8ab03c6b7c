#include "engine/tensor/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"

namespace ft {
namespace {

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(fp32_to_bf16(1.0f), 0x3F80);
  EXPECT_EQ(fp32_to_bf16(std::bit_cast<float>(0x3F808000u)), 0x3F80);  // a tie, to even below
  EXPECT_EQ(fp32_to_bf16(std::bit_cast<float>(0x3F818000u)), 0x3F82);  // a tie, to even above
  EXPECT_EQ(fp32_to_bf16(std::bit_cast<float>(0x3F808001u)), 0x3F81);
  EXPECT_EQ(fp32_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(fp32_to_fp16(1.0f), 0x3C00);
  EXPECT_EQ(fp32_to_fp16(1.0f + 0x1p-11f), 0x3C00);
  EXPECT_EQ(fp32_to_fp16(1.0f + 0x3p-11f), 0x3C02);
  EXPECT_EQ(fp32_to_fp16(65504.0f), 0x7BFF);
  EXPECT_EQ(fp32_to_fp16(std::nextafter(65520.0f, 0.0f)), 0x7BFF);
  EXPECT_EQ(fp32_to_fp16(65520.0f), 0x7C00);
  EXPECT_EQ(fp32_to_fp16(-0x1p-24f), 0x8001);
  EXPECT_EQ(fp32_to_fp16(0x1p-25f), 0x0000);
  EXPECT_EQ(fp32_to_fp16(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
  EXPECT_EQ(fp32_to_fp16(-0.0f), 0x8000);
}

TEST(Half, EveryHalfComesBack) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    if (!std::isnan(bf16_to_fp32(bits))) {
      EXPECT_EQ(fp32_to_bf16(bf16_to_fp32(bits)), bits);
    }
    if (!std::isnan(fp16_to_fp32(bits))) {
      EXPECT_EQ(fp32_to_fp16(fp16_to_fp32(bits)), bits);
    }
  }
}

TEST(Half, NanStaysNan) {
  for (const uint32_t payload : {0x7F800001u, 0x7FC00000u, 0xFF80FFFFu}) {
    const auto value = std::bit_cast<float>(payload);
    EXPECT_TRUE(std::isnan(bf16_to_fp32(fp32_to_bf16(value))));
    EXPECT_TRUE(std::isnan(fp16_to_fp32(fp32_to_fp16(value))));
    EXPECT_EQ(fp32_to_fp16(value) >> 15, payload >> 31);
  }
}

// Floats of all magnitudes, and every value around a rounding boundary of both formats.
std::vector<float> difficult_values() {
  std::vector<float> values;
  std::mt19937 engine(1);
  for (int i = 0; i < 200003; ++i) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(engine())));
  for (uint32_t i = 0; i < 65536; ++i) {
    const float value = fp16_to_fp32(static_cast<uint16_t>(i));
    const auto bits = std::bit_cast<uint32_t>(value);
    for (const uint32_t step : {0u, 0xFFFu, 0x1000u, 0x1001u, 0x7FFFu, 0x8000u, 0x8001u})
      values.push_back(std::bit_cast<float>(bits + step));
  }
  return values;
}

TEST(Half, VectorsRoundLikeTheScalarCode) {
  const std::vector<float> values = difficult_values();
  const auto count = static_cast<int64_t>(values.size());
  for (const DType dtype : {DType::bf16, DType::f16}) {
    std::vector<uint16_t> fast(values.size()), slow(values.size());
    std::vector<float> fast_back(values.size()), slow_back(values.size());
    from_fp32(values.data(), count, dtype, fast.data());
    to_fp32(dtype, fast.data(), count, fast_back.data());
    limit_cpu_isa(Isa::scalar);
    from_fp32(values.data(), count, dtype, slow.data());
    to_fp32(dtype, slow.data(), count, slow_back.data());
    limit_cpu_isa(Isa::avx512);
    EXPECT_EQ(fast, slow);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(fast_back[i]), std::bit_cast<uint32_t>(slow_back[i])) << values[i];
      ASSERT_EQ(slow[i], dtype == DType::bf16 ? fp32_to_bf16(values[i]) : fp32_to_fp16(values[i]));
    }
  }
}

TEST(Half, ShortRangesWriteNothingBeyondTheirEnd) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (int64_t count = 0; count < 20; ++count) {
      const std::vector<float> in(static_cast<size_t>(count), 1.5f);
      std::vector<uint16_t> out(32, 0xABCD);
      from_fp32(in.data(), count, dtype, out.data());
      EXPECT_EQ(out[static_cast<size_t>(count)], 0xABCD);
      std::vector<float> back(32, 7.0f);
      to_fp32(dtype, out.data(), count, back.data());
      EXPECT_EQ(back[static_cast<size_t>(count)], 7.0f);
      if (count > 0) {
        EXPECT_EQ(back[static_cast<size_t>(count) - 1], 1.5f);
      }
    }
  }
}

TEST(Half, RefusesOtherDtypes) {
  float out = 0;
  EXPECT_THROW(to_fp32(DType::i32, &out, 1, &out), Error);
}

}  // namespace
}  // namespace ft
