// The fused ops against compositions of ATen ops in fp64, forward and every gradient.
#include "engine/layers/ops.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"
#include "tests/engine/layers/model_fixture.h"

namespace ft::testing {
namespace {

using Tensors = std::vector<at::Tensor>;
using Op = std::function<at::Tensor(const Tensors&)>;

double distance(const at::Tensor& got, const at::Tensor& want) {
  const double norm = want.to(at::kDouble).norm().item<double>();
  return got.to(at::kDouble).sub(want.to(at::kDouble)).norm().item<double>() / (norm > 0 ? norm : 1);
}

struct Ran {
  at::Tensor y;
  Tensors grads;
};

// y and the gradients of <y, probe> for each input.
Ran run(const Op& op, const Tensors& inputs, at::ScalarType dtype) {
  Tensors leaves;
  for (const at::Tensor& t : inputs) leaves.push_back(t.to(dtype).detach().clone().requires_grad_(true));
  const at::Tensor y = op(leaves);
  const at::Tensor probe = formula("probe", y.sizes(), 1).to(y.scalar_type());
  return {y.detach(), torch::autograd::grad({y}, leaves, {probe})};
}

void expect_equal_ops(const Op& fused, const Op& reference, const Tensors& inputs, double tolerance) {
  const Ran got = run(fused, inputs, at::kFloat), want = run(reference, inputs, at::kDouble);
  EXPECT_LT(distance(got.y, want.y), tolerance);
  for (size_t i = 0; i < inputs.size(); ++i)
    EXPECT_LT(distance(got.grads[i], want.grads[i]), tolerance) << "input " << i;
}

TEST(Ops, RmsNormAndItsGradients) {
  const Op reference = [](const Tensors& in) {
    return in[0].mul(in[0].pow(2).mean(-1, true).add(1e-5).rsqrt()).mul(in[1]);
  };
  // 150 rows: more than two of the chunks in which the weight's gradient is summed; 37 features: not whole lanes.
  expect_equal_ops([](const Tensors& in) { return ops::rms_norm(in[0], in[1], 1e-5); }, reference,
                   {formula("x", {3, 50, 37}, 2), formula("w", {37}, 1, 1)}, 1e-6);
}

TEST(Ops, SwigluAndItsGradients) {
  expect_equal_ops([](const Tensors& in) { return ops::swiglu(in[0], in[1]); },
                   [](const Tensors& in) { return at::silu(in[0]).mul(in[1]); },
                   {formula("gate", {7, 131}, 20), formula("up", {7, 131}, 2)}, 1e-6);
}

TEST(Ops, SwigluOfExtremeGatesIsFinite) {
  const at::Tensor gate = at::full({4}, 0, at::kFloat);
  gate[0] = -1e4, gate[1] = 1e4, gate[2] = -100, gate[3] = 100;
  const at::Tensor y = ops::swiglu(gate, at::ones({4}));
  EXPECT_NEAR(y[0].item<double>(), 0, 1e-30);
  EXPECT_EQ(y[1].item<float>(), 1e4f);
  EXPECT_EQ(y[3].item<float>(), 100.f);
  EXPECT_TRUE(y.isfinite().all().item<bool>());
}

TEST(Ops, RopeRotatesHalfSplitPairs) {
  const at::Tensor cos = formula("cos", {11, 6}, 1), sin = formula("sin", {11, 6}, 1);
  at::Tensor positions = at::empty({2, 5}, at::TensorOptions(at::kLong));
  for (int64_t i = 0; i < 10; ++i) positions.data_ptr<int64_t>()[i] = i * 3 % 11;
  const Op reference = [&](const Tensors& in) {
    const at::Tensor c = cos.to(at::kDouble).index_select(0, positions.flatten()).view({2, 5, 1, 6});
    const at::Tensor s = sin.to(at::kDouble).index_select(0, positions.flatten()).view({2, 5, 1, 6});
    const at::Tensor a = in[0].narrow(-1, 0, 6), b = in[0].narrow(-1, 6, 6);
    return at::cat({a.mul(c).sub(b.mul(s)), b.mul(c).add(a.mul(s))}, -1);
  };
  expect_equal_ops([&](const Tensors& in) { return ops::rope(in[0], cos, sin, positions); }, reference,
                   {formula("x", {2, 5, 3, 12}, 1)}, 1e-6);
}

// Each document by itself in fp64, under a mask that is written out.
Op attention_reference(const std::vector<int64_t>& documents, int64_t window) {
  return [=](const Tensors& in) {
    const int64_t rows = in[0].size(0), tokens = in[0].size(1), group = in[0].size(2) / in[1].size(2);
    Tensors made;
    size_t next = 0;
    for (int64_t row = 0; row < rows; ++row) {
      Tensors pieces;
      for (int64_t begin = 0; begin < tokens; begin += documents[next++]) {
        Tensors part;
        for (int i = 0; i < 3; ++i) {
          const at::Tensor one = in[i].narrow(0, row, 1).narrow(1, begin, documents[next]).transpose(1, 2);
          part.push_back(i == 0 ? one : one.repeat_interleave(group, 1));
        }
        const at::Tensor place = at::arange(documents[next], at::kLong);
        const at::Tensor age = place.unsqueeze(1).sub(place);
        at::Tensor seen = age.ge(0);
        if (window > 0) seen = seen.logical_and(age.lt(window));
        pieces.push_back(at::scaled_dot_product_attention(part[0], part[1], part[2], seen).transpose(1, 2));
      }
      made.push_back(at::cat(pieces, 1));
    }
    return at::cat(made, 0);
  };
}

void expect_attention(const std::vector<int64_t>& documents, int64_t rows, int64_t tokens, int64_t window) {
  expect_equal_ops([&](const Tensors& in) { return ops::attention(in[0], in[1], in[2], documents, window); },
                   attention_reference(documents, window),
                   {formula("q", {rows, tokens, 6, 8}, 2), formula("k", {rows, tokens, 2, 8}, 2),
                    formula("v", {rows, tokens, 2, 8}, 1)},
                   2e-6);
}

TEST(Ops, AttentionStaysInsideDocuments) { expect_attention({5, 1, 7, 13, 9, 4}, 3, 13, 0); }

TEST(Ops, AttentionSeesNoFurtherThanItsWindow) {
  for (const int64_t window : {2, 4, 7, 12, 13, 99}) expect_attention({5, 1, 7, 13, 9, 4}, 3, 13, window);
}

// Long enough for several chunks of queries, and for whole blocks of the kernel's keys that a chunk's last queries do
// not see.
TEST(Ops, AttentionUnderAWindowOverManyChunks) {
  expect_attention({300, 300}, 2, 300, 40);
  expect_attention({13, 700, 187, 900}, 2, 900, 200);
  expect_attention({1500}, 1, 1500, 640);
}

TEST(Ops, AttentionRefusesDocumentsThatDoNotFillTheRows) {
  const at::Tensor x = formula("q", {1, 6, 2, 8}, 1);
  EXPECT_THROW(ops::attention(x, x, x, {4}), Error);
  EXPECT_THROW(ops::attention(x, x, x, {4, 3}), Error);
  EXPECT_THROW(ops::attention(x, x, x, {6}, -1), Error);
}

at::Tensor some_targets(int64_t tokens, int64_t vocab) {
  at::Tensor targets = at::empty({tokens}, at::TensorOptions(at::kLong));
  for (int64_t i = 0; i < tokens; ++i) targets.data_ptr<int64_t>()[i] = i % 7 == 3 ? -100 : i * 3989 % vocab;
  return targets;
}

TEST(Ops, LinearCrossEntropyAndItsGradients) {
  const at::Tensor targets = some_targets(100, 1511);
  const Op reference = [&](const Tensors& in) {
    const at::Tensor kept = targets.ne(-100), logits = in[0].matmul(in[1].t());
    const at::Tensor picked = logits.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
    return logits.logsumexp(1).sub(picked).mul(kept).sum().mul(0.25);
  };
  expect_equal_ops([&](const Tensors& in) { return ops::linear_cross_entropy(in[0], in[1], targets, 0.25); }, reference,
                   {formula("x", {100, 6}, 2), formula("w", {1511, 6}, 2)}, 2e-6);
}

TEST(Ops, LinearCrossEntropyWithALowRankAddition) {
  const at::Tensor targets = some_targets(100, 1511);
  const Op reference = [&](const Tensors& in) {
    const at::Tensor kept = targets.ne(-100), logits = in[0].matmul(in[1].t()).add(in[2].matmul(in[3].t()));
    const at::Tensor picked = logits.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
    return logits.logsumexp(1).sub(picked).mul(kept).sum().mul(0.25);
  };
  const Op fused = [&](const Tensors& in) {
    return ops::linear_cross_entropy(in[0], in[1], targets, 0.25, "", {in[2], in[3]});
  };
  expect_equal_ops(
      fused, reference,
      {formula("x", {100, 6}, 2), formula("w", {1511, 6}, 2), formula("low", {100, 3}, 2), formula("up", {1511, 3}, 2)},
      2e-6);
}

// 400,000 classes: logits of 41 tokens fill a chunk, so 100 tokens with 86 targets make three.
TEST(Ops, LinearCrossEntropyInChunksEqualsTokenByToken) {
  const at::Tensor targets = some_targets(100, 400000);
  const Tensors inputs{formula("x", {100, 3}, 3), formula("w", {400000, 3}, 3)};
  const Ran chunks =
      run([&](const Tensors& in) { return ops::linear_cross_entropy(in[0], in[1], targets, 1); }, inputs, at::kFloat);
  const Ran tokens = run(
      [&](const Tensors& in) {
        at::Tensor sum;
        for (int64_t t = 0; t < 100; ++t) {
          const at::Tensor one = ops::linear_cross_entropy(in[0][t], in[1], targets[t], 1);
          sum = sum.defined() ? sum.add(one) : one;
        }
        return sum;
      },
      inputs, at::kFloat);
  EXPECT_LT(distance(chunks.y, tokens.y), 2e-6);
  // Products over 400,000 classes are summed in fp32 by the GEMM, in another order for one token than for many.
  EXPECT_LT(distance(chunks.grads[0], tokens.grads[0]), 1e-3);
  EXPECT_LT(distance(chunks.grads[1], tokens.grads[1]), 1e-5);
}

TEST(Ops, LinearCrossEntropyScalesItsGradient) {
  const at::Tensor targets = at::ones({4}, at::kLong);
  const Op once = [&](const Tensors& in) { return ops::linear_cross_entropy(in[0], in[1], targets, 1); };
  const Op thrice = [&](const Tensors& in) { return once(in).mul(3); };
  const Tensors inputs{formula("x", {4, 5}, 1), formula("w", {9, 5}, 1)};
  EXPECT_LT(distance(run(thrice, inputs, at::kFloat).grads[1], run(once, inputs, at::kFloat).grads[1].mul(3)), 1e-6);
}

TEST(Ops, LinearCrossEntropyRefusesTargetsBeyondTheVocabulary) {
  const at::Tensor x = formula("x", {2, 5}, 1), w = formula("w", {9, 5}, 1);
  EXPECT_THROW(ops::linear_cross_entropy(x, w, at::full({2}, 9, at::kLong), 1), Error);
}

TEST(Ops, CounterDropoutKeepsTheShareAndScalesIt) {
  at::Tensor keys = at::empty({1000}, at::TensorOptions(at::kLong));
  for (int64_t i = 0; i < 1000; ++i) keys.data_ptr<int64_t>()[i] = i * 7919;
  const at::Tensor y = ops::counter_dropout(at::ones({1000, 256}), keys, 0.1);
  EXPECT_NEAR(y.eq(0).to(at::kDouble).mean().item<double>(), 0.1, 0.002);  // 3.4 standard deviations
  EXPECT_NEAR(y.max().item<double>(), 1 / 0.9, 1e-6);
  // No feature and no token is favoured.
  EXPECT_NEAR(y.eq(0).to(at::kDouble).mean(0).max().item<double>(), 0.1, 0.05);
  EXPECT_NEAR(y.eq(0).to(at::kDouble).mean(1).max().item<double>(), 0.1, 0.1);
}

TEST(Ops, EveryInstructionSetGivesTheSameBits) {
  constexpr int64_t kRows = 300;  // sums in another order often round to the same: many chances
  const Isa best = cpu_isa();
  at::Tensor keys = at::empty({kRows}, at::TensorOptions(at::kLong));
  for (int64_t i = 0; i < kRows; ++i) keys.data_ptr<int64_t>()[i] = -i * 77777777777;
  const at::Tensor targets = at::full({kRows}, 17, at::kLong);
  const auto all = [&](Isa isa, at::ScalarType dtype) {
    limit_cpu_isa(isa);
    const at::Tensor x = formula("x", {kRows, 77}, 3).to(dtype), w = formula("w", {77}, 1, 1);
    Tensors results;
    const auto add = [&](const Op& op, const Tensors& inputs) {
      Ran ran = run(op, inputs, dtype);
      results.push_back(ran.y);
      results.insert(results.end(), ran.grads.begin(), ran.grads.end());
    };
    add([](const Tensors& in) { return ops::rms_norm(in[0], in[1], 1e-6); }, {x, w});
    add([](const Tensors& in) { return ops::swiglu(in[0], in[1]); }, {x, x.flip({0})});
    add([&](const Tensors& in) { return ops::counter_dropout(in[0], keys, 0.3); }, {x});
    add([&](const Tensors& in) { return ops::linear_cross_entropy(in[0], in[1], targets, 1); },
        {x, formula("v", {39, 77}, 1)});
    return results;
  };
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const Tensors want = all(Isa::scalar, dtype);
    for (const Isa isa : {Isa::avx2, Isa::avx512}) {
      const Tensors got = all(isa, dtype);
      for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(got[i].equal(want[i])) << to_string(isa) << " result " << i;
    }
  }
  limit_cpu_isa(best);
}

}  // namespace
}  // namespace ft::testing
