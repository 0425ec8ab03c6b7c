#include "engine/quant/nf4.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"
#include "engine/tensor/half.h"
#include "tests/engine/quant/golden.h"

namespace ft {
namespace {

using nf4::Arrays;
using nf4::Quantized;
using testing::ElementsAreArray;

// Runs a test body under every instruction set that this CPU has; the codes and values must not tell them apart.
class Nf4 : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    limit_cpu_isa(GetParam());
    if (cpu_isa() != GetParam()) GTEST_SKIP() << "this CPU has no " << to_string(GetParam());
  }
  void TearDown() override { limit_cpu_isa(Isa::avx512); }
};
INSTANTIATE_TEST_SUITE_P(Isa, Nf4, testing::Values(Isa::scalar, Isa::avx2, Isa::avx512),
                         [](const auto& isa) { return to_string(isa.param); });

std::vector<float> normal_values(int64_t count, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(engine);
  return values;
}

const std::byte* bytes(const std::vector<float>& values) { return reinterpret_cast<const std::byte*>(values.data()); }

std::vector<float> as_floats(const std::vector<uint8_t>& raw) {
  std::vector<float> values(raw.size() / sizeof(float));
  std::memcpy(values.data(), raw.data(), raw.size());
  return values;
}

std::vector<uint32_t> bits(const std::vector<float>& values) {
  std::vector<uint32_t> out;
  for (const float v : values) out.push_back(std::bit_cast<uint32_t>(v));
  return out;
}

TEST_P(Nf4, PacksTheBytesOfBitsandbytes) {
  const golden::File& file = golden::quant();
  ASSERT_GE(file.cases().size(), 12u);
  for (const std::string& name : file.cases()) {
    SCOPED_TRACE(name);
    const auto x = file.get<std::byte>(name + ".x");
    const DType dtype = file.dtype(name + ".x");
    const auto numel = static_cast<int64_t>(x.size() / byte_size(dtype));
    const Quantized ours = nf4::quantize(dtype, x.data(), numel, /*double_quant=*/false);
    const Arrays arrays = nf4::to_arrays(ours.records, numel, false);
    EXPECT_THAT(arrays.codes, ElementsAreArray(file.get<uint8_t>(name + ".codes")));
    EXPECT_THAT(bits(as_floats(arrays.absmax)), ElementsAreArray(bits(file.get<float>(name + ".absmax"))));
  }
}

TEST_P(Nf4, NestsTheScalesOfBitsandbytesGivenItsOffset) {
  const golden::File& file = golden::quant();
  for (const std::string& name : file.cases()) {
    SCOPED_TRACE(name);
    const auto absmax = file.get<float>(name + ".absmax");
    const float offset = file.get<float>(name + ".offset")[0];
    std::vector<uint8_t> codes;
    std::vector<float> nested;
    for (size_t first = 0; first < absmax.size(); first += nf4::kNestedBlock) {
      const size_t blocks = std::min<size_t>(nf4::kNestedBlock, absmax.size() - first);
      std::vector<uint8_t> record(nf4::record_bytes(true));
      nf4::store_scales({absmax.data() + first, blocks}, offset, true, record.data());
      const uint8_t* tail = record.data() + nf4::kCodeBytes;
      codes.insert(codes.end(), tail, tail + blocks);
      nested.push_back(0);
      std::memcpy(&nested.back(), tail + nf4::kNestedBlock, sizeof(float));
    }
    EXPECT_THAT(codes, ElementsAreArray(file.get<uint8_t>(name + ".nested_codes")));
    EXPECT_THAT(bits(nested), ElementsAreArray(bits(file.get<float>(name + ".nested_absmax"))));
  }
}

TEST_P(Nf4, FindsTheOffsetOfBitsandbytesWithinOneUlp) {
  const golden::File& file = golden::quant();
  for (const std::string& name : file.cases()) {
    SCOPED_TRACE(name);
    const auto x = file.get<std::byte>(name + ".x");
    const DType dtype = file.dtype(name + ".x");
    const auto numel = static_cast<int64_t>(x.size() / byte_size(dtype));
    const float ours = nf4::quantize(dtype, x.data(), numel, true).offset;
    const auto theirs = std::bit_cast<int32_t>(file.get<float>(name + ".offset")[0]);
    EXPECT_LE(std::abs(std::bit_cast<int32_t>(ours) - theirs), 1);
  }
}

TEST_P(Nf4, DequantizesToTheBitsOfBitsandbytes) {
  const golden::File& file = golden::quant();
  for (const std::string name : {"normal_fp16", "normal_bf16", "short_64"}) {
    SCOPED_TRACE(name);
    const DType dtype = file.dtype(name + ".x");
    const auto want = file.get<uint8_t>(name + ".dequantized");
    const auto numel = static_cast<int64_t>(want.size() / byte_size(dtype));
    const Arrays arrays{file.get<uint8_t>(name + ".codes"), file.get<uint8_t>(name + ".nested_codes"),
                        file.get<float>(name + ".nested_absmax")};
    const std::vector<uint8_t> records = nf4::to_records(arrays, numel, true);
    std::vector<uint8_t> got(want.size());
    nf4::dequantize({records.data(), file.get<float>(name + ".offset")[0], true}, 0, numel, dtype, got.data());
    EXPECT_THAT(got, ElementsAreArray(want));
  }
}

TEST_P(Nf4, HasTheErrorOfTheFormatOnNormalValues) {
  // bitsandbytes tests/test_functional.py: mean and standard deviation over its runs, gate at seven of them.
  const int64_t numel = 4 << 20;
  const std::vector<float> x = normal_values(numel, 11);
  const Quantized ours = nf4::quantize(DType::f32, bytes(x), numel, false);
  std::vector<float> back(x.size());
  nf4::dequantize({ours.records.data(), 0, false}, 0, numel, DType::f32, back.data());
  double absolute = 0, relative = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = std::fabs(double{x[i]} - double{back[i]});
    absolute += error;
    relative += error / (std::fabs(double{x[i]}) + 1e-8);
  }
  EXPECT_NEAR(absolute / static_cast<double>(numel), 0.072798, 7 * 0.000074);
  EXPECT_NEAR(relative / static_cast<double>(numel), 0.203339, 7 * 0.000340);
}

TEST_P(Nf4, DoubleQuantisationCostsLittle) {
  const int64_t numel = 1 << 20;
  const std::vector<float> x = normal_values(numel, 12);
  double errors[2] = {};
  for (const bool nested : {false, true}) {
    const Quantized ours = nf4::quantize(DType::f32, bytes(x), numel, nested);
    std::vector<float> back(x.size());
    nf4::dequantize({ours.records.data(), ours.offset, nested}, 0, numel, DType::f32, back.data());
    for (size_t i = 0; i < x.size(); ++i) errors[nested] += std::fabs(double{x[i]} - double{back[i]});
  }
  EXPECT_LT(errors[1], errors[0] * 1.002);
}

TEST_P(Nf4, DequantizesEveryRangeAlike) {
  const int64_t numel = 2 * nf4::kGroup + 1000;
  const std::vector<float> x = normal_values(numel, 5);
  for (const bool nested : {false, true}) {
    const Quantized ours = nf4::quantize(DType::f32, bytes(x), numel, nested);
    const nf4::Records records{ours.records.data(), ours.offset, nested};
    std::vector<float> whole(x.size());
    nf4::dequantize(records, 0, numel, DType::f32, whole.data());
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      std::vector<uint8_t> want(x.size() * byte_size(dtype));
      from_fp32(whole.data(), numel, dtype, want.data());
      for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, numel},
                                                                                 {0, 1},
                                                                                 {1, 1},
                                                                                 {7, 50},
                                                                                 {7, 57},
                                                                                 {7, 58},
                                                                                 {63, 2},
                                                                                 {64, 64},
                                                                                 {100, 16384},
                                                                                 {16383, 2},
                                                                                 {16384, 1},
                                                                                 {16320, 16448},
                                                                                 {numel - 1, 1},
                                                                                 {numel - 65, 65},
                                                                                 {500, 0}}) {
        std::vector<uint8_t> got(static_cast<size_t>(count) * byte_size(dtype));
        nf4::dequantize(records, first, count, dtype, got.data());
        const auto begin = want.begin() + first * static_cast<int64_t>(byte_size(dtype));
        EXPECT_TRUE(std::equal(got.begin(), got.end(), begin)) << to_string(dtype) << " " << first << " " << count;
      }
    }
  }
}

TEST_P(Nf4, MatchesTheCodebookTimesTheScale) {
  const int64_t numel = nf4::kGroup;
  const std::vector<float> x = normal_values(numel, 6);
  const Quantized ours = nf4::quantize(DType::f32, bytes(x), numel, true);
  const nf4::Records records{ours.records.data(), ours.offset, true};
  std::vector<float> got(x.size());
  nf4::dequantize(records, 0, numel, DType::f32, got.data());
  for (int64_t i = 0; i < numel; ++i) {
    const int code =
        i % 2 ? ours.records[static_cast<size_t>(i / 2)] & 15 : ours.records[static_cast<size_t>(i / 2)] >> 4;
    ASSERT_EQ(got[static_cast<size_t>(i)], nf4::kCodebook[code] * nf4::block_absmax(records, i / nf4::kBlock)) << i;
  }
}

TEST_P(Nf4, QuantizesExtremeScalesAsTheScalarCodeDoes) {
  std::vector<float> x = normal_values(64 * 200, 9);
  for (size_t b = 0; b < 200; ++b)
    for (size_t i = 0; i < 64; ++i) x[b * 64 + i] = std::ldexp(x[b * 64 + i], static_cast<int>(b) - 140);
  const auto numel = static_cast<int64_t>(x.size());
  const Quantized ours = nf4::quantize(DType::f32, bytes(x), numel, true);
  std::vector<uint16_t> ours_half(x.size());
  nf4::dequantize({ours.records.data(), ours.offset, true}, 0, numel, DType::f16, ours_half.data());
  limit_cpu_isa(Isa::scalar);
  const Quantized reference = nf4::quantize(DType::f32, bytes(x), numel, true);
  std::vector<uint16_t> reference_half(x.size());
  nf4::dequantize({reference.records.data(), reference.offset, true}, 0, numel, DType::f16, reference_half.data());
  EXPECT_EQ(ours.records, reference.records);
  EXPECT_EQ(ours.offset, reference.offset);
  EXPECT_EQ(ours_half, reference_half);
}

TEST(Nf4Records, HaveTheStatedSizes) {
  EXPECT_EQ(nf4::record_bytes(true), 8452u);
  EXPECT_EQ(nf4::record_bytes(false), 9216u);
  EXPECT_EQ(nf4::num_groups(0), 0);
  EXPECT_EQ(nf4::num_groups(16384), 1);
  EXPECT_EQ(nf4::num_groups(16385), 2);
  EXPECT_EQ(nf4::num_blocks(65), 2);
}

TEST(Nf4Records, AreTheSameBytesWhoeverQuantizesAGroup) {
  const int64_t numel = 5 * nf4::kGroup + 777;
  const std::vector<float> x = normal_values(numel, 21);
  const Quantized whole = nf4::quantize(DType::f32, bytes(x), numel, true);
  // Two ranks, groups 0-1 and 2-5, meet only in the sums.
  std::vector<double> sums(6);
  std::vector<uint8_t> records(6 * nf4::record_bytes(true));
  std::vector<float> absmax(6 * nf4::kNestedBlock);
  for (const int64_t g : {4, 5, 2, 3, 1, 0}) {
    const int64_t count = std::min(nf4::kGroup, numel - g * nf4::kGroup);
    sums[static_cast<size_t>(g)] = nf4::quantize_codes(
        DType::f32, bytes(x) + g * nf4::kGroup * 4, count,
        records.data() + static_cast<size_t>(g) * nf4::record_bytes(true), absmax.data() + g * nf4::kNestedBlock);
  }
  const float offset = nf4::nested_offset(sums, numel);
  EXPECT_EQ(offset, whole.offset);
  for (int64_t g = 0; g < 6; ++g) {
    const auto blocks = static_cast<size_t>(nf4::num_blocks(std::min(nf4::kGroup, numel - g * nf4::kGroup)));
    nf4::store_scales({absmax.data() + g * nf4::kNestedBlock, blocks}, offset, true,
                      records.data() + static_cast<size_t>(g) * nf4::record_bytes(true));
  }
  EXPECT_EQ(records, whole.records);
}

TEST(Nf4Records, ComeBackFromTheArraysOfBitsandbytes) {
  for (const int64_t numel : {1, 105, 16384, 16384 * 2 + 65}) {
    const std::vector<float> x = normal_values(numel, 31);
    for (const bool nested : {false, true}) {
      const Quantized ours = nf4::quantize(DType::f32, bytes(x), numel, nested);
      const Arrays arrays = nf4::to_arrays(ours.records, numel, nested);
      EXPECT_EQ(arrays.codes.size(), static_cast<size_t>((numel + 1) / 2));
      EXPECT_EQ(nf4::to_records(arrays, numel, nested), ours.records) << numel;
    }
  }
}

TEST(Nf4Records, RefuseArraysOfAnotherSize) {
  Arrays arrays{std::vector<uint8_t>(32), std::vector<uint8_t>(1), {1.0f}};
  EXPECT_NO_THROW(nf4::to_records(arrays, 64, true));
  arrays.absmax.push_back(0);
  try {
    nf4::to_records(arrays, 64, true);
    FAIL() << "took two scales for one block";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::shape);
    EXPECT_THAT(error.what(), testing::HasSubstr("2 scale bytes"));
  }
}

TEST(Nf4Records, RefuseWhatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const size_t where : {0u, 64u}) {  // a whole block, and the short one at the end
      std::vector<float> x(70, 0.5f);
      x[where] = bad;
      EXPECT_THROW(nf4::quantize(DType::f32, bytes(x), 70, true), Error);
    }
  }
}

}  // namespace
}  // namespace ft
