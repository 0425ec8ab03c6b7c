// LoRA's start by LoftQ, held to peft's (tests/golden/loftq.py), and where there is nothing to begin with.
#include "engine/train/loftq.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/formats/model_directory.h"
#include "engine/formats/safetensors.h"
#include "engine/quant/nf4.h"
#include "tests/thrown.h"

namespace ft {
namespace {

at::Tensor golden(const std::string& name) {
  static const SafetensorsFile file(std::string(FT_GOLDEN_DIR) + "/loftq.safetensors");
  const TensorEntry* entry = file.find(name);
  FT_CHECK(entry, name);
  const at::Tensor values = at::empty(entry->shape, at::kFloat);
  file.read(*entry, 0, {static_cast<std::byte*>(values.data_ptr()), values.nbytes()});
  return values;
}

at::Tensor residual_of(const at::Tensor& weight) {
  const nf4::Quantized made =
      nf4::quantize(DType::f32, static_cast<const std::byte*>(weight.const_data_ptr()), weight.numel(), true);
  const at::Tensor kept = at::empty(weight.sizes(), at::kFloat);
  nf4::dequantize({made.records.data(), made.offset, true}, 0, weight.numel(), DType::f32, kept.data_ptr());
  return at::sub(weight, kept);
}

double norm(const at::Tensor& x) { return x.to(at::kDouble).norm().item<double>(); }

class Matrices : public testing::TestWithParam<const char*> {};

TEST_P(Matrices, AreTakenApartAsPeftDoes) {
  const at::Tensor residual = residual_of(golden(std::string(GetParam()) + ".weight"));
  const at::Tensor want = golden(std::string(GetParam()) + ".product");
  const LowRank made = nearest_low_rank(residual, 6);
  EXPECT_EQ(made.a.sizes(), (std::vector<int64_t>{6, residual.size(1)}));
  EXPECT_EQ(made.b.sizes(), (std::vector<int64_t>{residual.size(0), 6}));
  EXPECT_LE(norm(at::sub(at::matmul(made.b, made.a), want)), 1e-5 * norm(want));
  EXPECT_NEAR(std::sqrt(made.before), norm(residual), 1e-6 * norm(residual));
  EXPECT_NEAR(std::sqrt(made.after), norm(at::sub(residual, at::matmul(made.b, made.a))), 1e-6 * norm(residual));
  // The largest singular value first, its root in each factor.
  for (int64_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(norm(made.a.select(0, i)), norm(made.b.select(1, i)), 1e-6);
    if (i > 0) {
      EXPECT_LE(norm(made.a.select(0, i)), norm(made.a.select(0, i - 1)));
    }
    EXPECT_GT(made.a.select(0, i).gather(0, made.a.select(0, i).abs().argmax(0, true)).item<float>(), 0);
  }
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  const LowRank again = nearest_low_rank(residual, 6);
  at::set_num_threads(threads);
  EXPECT_LE(norm(at::sub(again.a, made.a)), 1e-6 * norm(made.a));
  EXPECT_LE(norm(at::sub(again.b, made.b)), 1e-6 * norm(made.b));
}

INSTANTIATE_TEST_SUITE_P(Loftq, Matrices, testing::Values("wide", "tall", "square"),
                         [](const auto& one) { return std::string(one.param); });

TEST(Loftq, TakesAllOfAMatrixThatHasNoMoreThanTheRank) {
  const at::Tensor residual = residual_of(golden("wide.weight"));
  const LowRank whole = nearest_low_rank(residual, 48);
  EXPECT_LE(norm(at::sub(at::matmul(whole.b, whole.a), residual)), 1e-6 * norm(residual));
  const LowRank more = nearest_low_rank(residual, 60);  // rows and columns beyond it are zero
  EXPECT_EQ(more.a.sizes(), (std::vector<int64_t>{60, 64}));
  EXPECT_EQ(norm(more.a.narrow(0, 48, 12)), 0);
  EXPECT_LE(norm(at::sub(at::matmul(more.b, more.a), residual)), 1e-6 * norm(residual));
  const LowRank none = nearest_low_rank(at::zeros({8, 5}, at::kFloat), 3);
  EXPECT_EQ(norm(none.a), 0);
  EXPECT_EQ(norm(none.b), 0);
  EXPECT_EQ(none.after, 0);
}

// A linear of one rank alone: its weight in NF4 beside a LoRA of rank 6.
struct Begun {
  Begun(const ModelDirectory* directory, double scale, std::vector<int64_t> shape) {
    weight.name = "model.layers.0.mlp.up_proj.weight";
    weight.shape = std::move(shape);
    weight.storage = Storage::nf4;
    weight.init = {Init::Kind::normal, 0.05};
    a.name = "model.layers.0.mlp.up_proj.lora_A.weight";
    a.shape = {6, weight.shape[1]};
    a.init = {Init::Kind::uniform, 0.1};
    b.name = "model.layers.0.mlp.up_proj.lora_B.weight";
    b.shape = {weight.shape[0], 6};
    unit = std::make_unique<ShardUnit>("layer", std::vector<Parameter*>{&weight, &a, &b},
                                       std::vector<at::ScalarType>{at::kByte, at::kFloat, at::kFloat}, *group, pool,
                                       ShardUnitOptions{});
    units.push_back(std::move(unit));
    const WeightSource source(directory, 1);
    load_unit(*units[0], source, 0, *group, [](int64_t) {});
    const std::vector<LowRankStart> starts{{&weight, &a, &b, scale}};
    bytes = loftq_bytes(starts, source);
    report = begin_by_loftq(units, starts, source, 0, *group, {});
    for (const ShardPiece& piece : units[0]->trainable()->layout.pieces(0))
      (piece.parameter == &a ? factor_a : factor_b) =
          units[0]->trainable()->piece(piece).view(piece.parameter->shape).clone();
    weights = at::empty(weight.shape, at::kFloat);
    source.read_fp32(weight, 0, weight.numel(), weights.data_ptr<float>());
  }

  Parameter weight, a, b;
  BufferPool pool{at::kCPU};
  std::shared_ptr<ProcessGroup> group = ProcessGroup::single();
  std::unique_ptr<ShardUnit> unit;
  std::vector<std::unique_ptr<ShardUnit>> units;
  LoftqReport report;
  int64_t bytes = 0;
  at::Tensor factor_a, factor_b, weights;
};

TEST(Loftq, IsTheNearestWhateverTheScale) {
  const Begun one(nullptr, 1, {64, 48}), four(nullptr, 4, {64, 48});
  const at::Tensor residual = residual_of(one.weights);
  for (const Begun* begun : {&one, &four}) {
    const double scale = begun == &one ? 1 : 4;
    const double left = norm(at::sub(residual, at::matmul(begun->factor_b, begun->factor_a).mul(scale)));
    EXPECT_EQ(begun->report.linears, 1);
    EXPECT_NEAR(begun->report.before, norm(residual) / norm(one.weights), 1e-6);
    EXPECT_NEAR(begun->report.after, left / norm(one.weights), 1e-6);
    EXPECT_LT(begun->report.after, 0.9 * begun->report.before);
    EXPECT_GT(begun->bytes, 64 * 48 * 4);
  }
}

TEST(Loftq, LeavesTheUsualStartWhereTheRankIsMoreThanTheMatrixHas) {
  const Begun few(nullptr, 2, {4, 48});
  EXPECT_LE(few.report.after, 1e-6);
  EXPECT_EQ(norm(few.factor_b.narrow(1, 4, 2)), 0);
  EXPECT_GT(norm(few.factor_a.narrow(0, 4, 2)), 0.1);  // as it is drawn: zeros on both sides would never learn
}

TEST(Loftq, WantsWhatWasThereBeforeItWasQuantized) {
  const ModelDirectory quantized(std::string(FT_GOLDEN_DIR) + "/foreign/bnb_nf4");
  EXPECT_ERROR(Begun(&quantized, 1, {192, 128}), config, "is quantized already");
}

}  // namespace
}  // namespace ft
