// Tables with rows for new tokens: what the files hold stays, new rows are the mean of the old ones or drawn by place,
// and no way of cutting the reads shows.
#include "engine/formats/grown_table.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "engine/formats/model_directory.h"
#include "engine/tensor/half.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using test::spill;
using test::TemporaryDirectory;

constexpr int64_t kOld = 700, kColumns = 3, kNew = 704;

/// A value of the old table, exact in every dtype; of its columns the first is 0.25 in the mean, the second is not
/// exact.
float old_value(int64_t row, int64_t column) {
  return column == 0 ? (row % 2 ? 0.5f : 0.f) : static_cast<float>((row * 7 + column) % 11) * 0.25f;
}

void write_model(const TemporaryDirectory& directory, DType dtype) {
  std::vector<float> values;
  for (int64_t row = 0; row < kOld; ++row)
    for (int64_t column = 0; column < kColumns; ++column) values.push_back(old_value(row, column));
  std::vector<std::byte> bytes(values.size() * byte_size(dtype));
  from_fp32(values.data(), static_cast<int64_t>(values.size()), dtype, bytes.data());
  spill(directory / "config.json", "{}");
  SafetensorsWriter writer(directory / "model.safetensors",
                           {{.name = "embed.weight", .dtype = dtype, .shape = {kOld, kColumns}},
                            {.name = "norm.weight", .dtype = dtype, .shape = {2}}});
  writer.append(bytes);
  writer.append(std::span(bytes).first(2 * byte_size(dtype)));
  writer.finish();
}

Growth growth(Growth::Begin begin = Growth::Begin::mean) {
  return {.tensors = {"embed.weight", "lm_head.weight"}, .rows = kNew, .begin = begin, .scale = 0.5, .seed = 3};
}

std::vector<float> read_all(const ModelDirectory& model, int64_t step) {
  const TensorEntry& entry = *model.find("embed.weight");
  const size_t width = byte_size(entry.dtype);
  std::vector<std::byte> bytes(static_cast<size_t>(entry.numel()) * width);
  for (int64_t at = 0; at < entry.numel(); at += step) {
    const auto count = static_cast<size_t>(std::min(step, entry.numel() - at));
    model.read("embed.weight", static_cast<uint64_t>(at) * width,
               std::span(bytes).subspan(static_cast<size_t>(at) * width, count * width));
  }
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  to_fp32(entry.dtype, bytes.data(), entry.numel(), values.data());
  return values;
}

TEST(GrownTable, BeginsNewRowsAsTheMeanOfTheOldOnes) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const TemporaryDirectory directory;
    write_model(directory, dtype);
    ModelDirectory model(directory.path());
    const std::string fingerprint = model.fingerprint();
    model.grow(growth());
    EXPECT_EQ(model.fingerprint(), fingerprint) << "it is the files'";
    EXPECT_EQ(model.find("embed.weight")->shape, (std::vector<int64_t>{kNew, kColumns}));
    EXPECT_EQ(model.tensors()[0], model.find("embed.weight"));
    EXPECT_TRUE(model.is_grown("embed.weight"));
    EXPECT_FALSE(model.is_grown("norm.weight"));
    EXPECT_FALSE(model.is_grown("lm_head.weight")) << "the directory has none";
    const std::vector<float> values = read_all(model, kNew * kColumns);
    for (int64_t row = 0; row < kNew; ++row)
      for (int64_t column = 0; column < kColumns; ++column) {
        double want = old_value(row, column);
        if (row >= kOld) {
          want = 0;
          for (int64_t i = 0; i < kOld; ++i) want += old_value(i, column);
          auto mean = static_cast<float>(want / kOld);
          uint32_t rounded = 0;
          from_fp32(&mean, 1, dtype, &rounded);
          to_fp32(dtype, &rounded, 1, &mean);
          want = mean;
        }
        ASSERT_EQ(values[static_cast<size_t>(row * kColumns + column)], want)
            << to_string(dtype) << row << "," << column;
      }
    EXPECT_EQ(values[kOld * kColumns], 0.25f);
    for (const int64_t step : {1, 7, 2099, 2101}) EXPECT_EQ(read_all(model, step), values) << step;
  }
}

TEST(GrownTable, DrawsNewRowsByTheirPlace) {
  const TemporaryDirectory directory;
  write_model(directory, DType::f32);
  ModelDirectory model(directory.path()), larger(directory.path()), other(directory.path());
  model.grow(growth(Growth::Begin::normal));
  Growth more = growth(Growth::Begin::normal);
  more.rows = kNew + 3000;
  larger.grow(more);
  more.seed = 4;
  other.grow(more);
  const std::vector<float> values = read_all(model, 5), all = read_all(larger, 4096), others = read_all(other, 4096);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), all.begin()));
  double squares = 0;
  for (size_t i = kOld * kColumns; i < all.size(); ++i) squares += all[i] * all[i];
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(all.size() - kOld * kColumns)), 0.5, 0.02);
  EXPECT_NE(all[kOld * kColumns], others[kOld * kColumns]);
}

TEST(GrownTable, SaysWhatItIsMadeOf) {
  const Growth made = Growth::read(growth(Growth::Begin::normal).to_value());
  EXPECT_EQ(made.to_value(), growth(Growth::Begin::normal).to_value());
  Value other = growth().to_value();
  other.set("begin", "zeros");
  EXPECT_ERROR(Growth::read(other), config, "got 'zeros', want mean or normal");
}

TEST(GrownTable, RefusesWhatHasMoreRowsOrIsNoTable) {
  const TemporaryDirectory directory;
  write_model(directory, DType::f32);
  ModelDirectory model(directory.path()), vectors(directory.path());
  Growth less = growth();
  less.rows = kOld - 1;
  EXPECT_ERROR(model.grow(less), shape, "embed.weight: got [700, 3], want a table of at most 699 rows");
  Growth vector = growth();
  vector.tensors = {"norm.weight"};
  EXPECT_ERROR(vectors.grow(vector), shape, "norm.weight: got [2], want a table");
}

}  // namespace
}  // namespace ft
