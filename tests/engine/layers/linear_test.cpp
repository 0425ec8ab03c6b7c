// The one linear node: NF4 against the dense weight it stands for, LoRA, dropout, dtypes, and storage that comes and
// goes.
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstring>
#include <functional>

#include "engine/error/error.h"
#include "engine/layers/cpu_ops.h"
#include "engine/layers/ops.h"
#include "engine/quant/nf4.h"
#include "tests/engine/layers/model_fixture.h"

namespace ft::testing {
namespace {

double distance(const at::Tensor& got, const at::Tensor& want) {
  return got.sub(want).norm().item<double>() / want.norm().item<double>();
}

struct Case {
  int64_t in = 96, out = 200, r = 4, tokens = 10;  // 19,200 weights: two groups, the last one partial
  at::Tensor x = formula("x", {2, 5, in}, 1).requires_grad_(true);
  at::Tensor a = formula("a", {r, in}, 0.3).requires_grad_(true), b = formula("b", {out, r}, 0.3).requires_grad_(true);
  at::Tensor bias = formula("bias", {out}, 1), probe = formula("probe", {2, 5, out}, 1);
  at::Tensor keys = at::empty({2, 5}, at::TensorOptions(at::kLong));
  ops::BaseWeight nf4;
  at::Tensor dense;

  explicit Case(bool double_quant) {
    for (int64_t i = 0; i < tokens; ++i) keys.data_ptr<int64_t>()[i] = 1000 + i;
    const at::Tensor w = formula("w", {out, in}, 0.2);
    auto made = nf4::quantize(DType::f32, static_cast<const std::byte*>(w.data_ptr()), w.numel(), double_quant);
    const int64_t groups = nf4::num_groups(w.numel());
    nf4 = {at::from_blob(made.records.data(), {groups, static_cast<int64_t>(made.records.size()) / groups}, at::kByte)
               .clone(),
           true, out, made.offset, double_quant};
    dense = at::empty({out, in}, at::TensorOptions(at::kFloat));
    nf4::dequantize({made.records.data(), made.offset, double_quant}, 0, w.numel(), DType::f32, dense.data_ptr());
  }
  ops::LoraTerm lora(double p) const { return {a, b, 1.5, p > 0 ? keys : at::Tensor(), p}; }
};

class Nf4LoraLinear : public ::testing::TestWithParam<std::pair<bool, double>> {};

TEST_P(Nf4LoraLinear, EqualsTheDenseFormula) {
  const auto [double_quant, p] = GetParam();
  const Case c(double_quant);
  const at::Tensor got = ops::linear(c.x, c.nf4, c.bias, c.lora(p));
  // dropout(x) as the mask says, the rest in ATen.
  const at::Tensor mask = p > 0 ? ops::counter_dropout(at::ones({2, 5, c.in}), c.keys, p) : at::ones({2, 5, c.in});
  const at::Tensor want =
      c.x.matmul(c.dense.t()).add(c.bias).add(c.x.mul(mask).matmul(c.a.t()).matmul(c.b.t()).mul(1.5));
  EXPECT_LT(distance(got, want), 1e-6);
  const auto got_grads = torch::autograd::grad({got}, {c.x, c.a, c.b}, {c.probe});
  const auto want_grads = torch::autograd::grad({want}, {c.x, c.a, c.b}, {c.probe});
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(distance(got_grads[i], want_grads[i]), 1e-6) << "input " << i;
}

INSTANTIATE_TEST_SUITE_P(DoubleQuantAndDropout, Nf4LoraLinear,
                         ::testing::Values(std::pair{true, 0.0}, std::pair{false, 0.0}, std::pair{true, 0.3}));

TEST(Linear, GivesOnlyTheGradientsThatAreAskedFor) {
  const Case c(true);
  const at::Tensor input = c.x.detach();  // the first unit after a frozen prefix: no gradient of its input
  const at::Tensor y = ops::linear(input, c.nf4, {}, c.lora(0));
  const auto grads = torch::autograd::grad({y}, {c.b}, {c.probe});
  const at::Tensor h = input.matmul(c.a.detach().t()).view({c.tokens, c.r});
  EXPECT_LT(distance(grads[0], c.probe.view({c.tokens, c.out}).t().matmul(h).mul(1.5)), 1e-6);
}

// Between forward and backward the records change under autograd's eyes: a backward that dequantizes again sees it.
TEST(Linear, KeepsNoDenseCopyOfAnNf4Weight) {
  const Case c(true);
  const at::Tensor y = ops::linear(c.x, c.nf4, {}, {});
  std::memset(c.nf4.value.data_ptr(), 0, c.nf4.value.nbytes());
  const at::Tensor now = cpu::nf4_dequantize(c.nf4.value, c.out, c.in, c.nf4.nested_offset, true, at::kFloat);
  EXPECT_GT(distance(now, c.dense), 0.1);
  const at::Tensor grad = torch::autograd::grad({y}, {c.x}, {c.probe})[0];
  EXPECT_LT(distance(grad, c.probe.matmul(now)), 1e-6);
}

TEST(Linear, WeightsOfAnotherDtypeAreCastAndTheirGradientsCastBack) {
  const at::Tensor x = formula("x", {6, 16}, 1);
  const at::Tensor w = formula("w", {8, 16}, 1).to(at::kBFloat16).requires_grad_(true);
  const at::Tensor y = ops::linear(x, {.value = w}, {}, {});
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  EXPECT_TRUE(y.equal(x.matmul(w.detach().to(at::kFloat).t())));
  const at::Tensor grad = torch::autograd::grad({y}, {w}, {at::ones({6, 8})})[0];
  EXPECT_EQ(grad.scalar_type(), at::kBFloat16);
  EXPECT_LT(distance(grad.to(at::kFloat), x.sum(0).expand({8, 16})), 4e-3);

  const at::Tensor low = ops::linear(x.to(at::kBFloat16), {.value = w.detach().to(at::kFloat)}, {}, {});
  EXPECT_EQ(low.scalar_type(), at::kBFloat16);
  EXPECT_LT(distance(low.to(at::kFloat), y.detach()), 1e-2);
}

// A unit's storage is taken away after its forward and put back before its backward.
TEST(Linear, ReleasedStorageFailsACheckWithTheOwnersName) {
  at::Tensor kept = formula("w", {8, 16}, 1), flat = at::empty({8 * 16});
  const at::Tensor w = flat.view({8, 16}).detach().requires_grad_(true);
  const auto point = [&](void* data) {
    flat.storage().set_data_ptr_noswap(at::DataPtr(
        data, nullptr, [](void*) {}, at::kCPU));
  };
  const at::Tensor x = formula("x", {6, 16}, 1).requires_grad_(true), probe = formula("probe", {6, 8}, 1);
  point(nullptr);
  const auto message = [](const std::function<void()>& f) {
    try {
      f();
    } catch (const std::exception& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const auto run = [&] { return ops::linear(x, {.value = w}, {}, {}, "model.layers.3.mlp.up_proj"); };
  EXPECT_THAT(message([&] { run(); }), ::testing::HasSubstr("model.layers.3.mlp.up_proj: a parameter was touched"));
  point(kept.data_ptr());
  const at::Tensor y = run();
  point(nullptr);
  const auto backward = [&] { return torch::autograd::grad({y}, {x, w}, {probe}, /*retain_graph=*/true); };
  EXPECT_THAT(message([&] { backward(); }),
              ::testing::HasSubstr("model.layers.3.mlp.up_proj: a parameter was touched"));
  at::Tensor other = kept.clone();  // another buffer of the pool
  point(other.data_ptr());
  EXPECT_TRUE(backward()[0].equal(probe.matmul(kept)));
  point(nullptr);
}

TEST(Linear, SaysWhichShapesDoNotFit) {
  const Case c(true);
  try {
    ops::linear(c.x, {.value = formula("w", {8, 95}, 1)}, {}, {}, "model.layers.0.mlp.up_proj");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "model.layers.0.mlp.up_proj: got x's last dim 96, weight wants last dim 95");
  }
}

}  // namespace
}  // namespace ft::testing
