// Capped scores and capped logits against the formula in fp64, differentiated by ATen's own autograd.
#include "engine/layers/soft_capped_attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/layers/vocab_parallel.h"

namespace ft::test {
namespace {

double distance(const at::Tensor& got, const at::Tensor& want) {
  return got.to(at::kDouble).sub(want).norm().item<double>() / want.norm().item<double>();
}

// One document of one row: q [T, H, D], k and v [T, Hkv, D].
at::Tensor formula(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window, double cap) {
  const int64_t tokens = q.size(0), group = q.size(1) / k.size(1);
  const auto heads = [](const at::Tensor& x) { return x.transpose(0, 1); };
  const at::Tensor keys = heads(k).repeat_interleave(group, 0), values = heads(v).repeat_interleave(group, 0);
  at::Tensor scores = at::matmul(heads(q), keys.transpose(1, 2)).div(std::sqrt(static_cast<double>(q.size(2))));
  scores = scores.div(cap).tanh().mul(cap);
  const at::Tensor age = at::arange(tokens).unsqueeze(1).sub(at::arange(tokens));
  at::Tensor hidden = age.lt(0);
  if (window > 0) hidden = hidden.logical_or(age.ge(window));
  scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(scores, -1), values).transpose(0, 1);
}

struct Case {
  std::vector<std::vector<int64_t>> rows;  // lengths of documents
  int64_t heads, window;
};

void expect_formula(const Case& c) {
  const int64_t length = std::accumulate(c.rows[0].begin(), c.rows[0].end(), int64_t{0});
  const auto rows = static_cast<int64_t>(c.rows.size());
  constexpr int64_t kDim = 4;
  constexpr double kCap = 2;
  at::Tensor q = at::randn({rows, length, c.heads, kDim}).mul(2),
             k = at::randn({rows, length, c.heads / 2, kDim}).mul(2);
  at::Tensor v = at::randn({rows, length, c.heads / 2, kDim});
  const at::Tensor grad = at::randn(q.sizes());
  std::vector<int64_t> documents;
  std::vector<at::Tensor> exact;
  for (at::Tensor* leaf : {&q, &k, &v}) {
    leaf->requires_grad_(true);
    exact.push_back(leaf->detach().to(at::kDouble).requires_grad_(true));
  }
  std::vector<at::Tensor> parts;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t begin = 0;
    for (const int64_t n : c.rows[static_cast<size_t>(row)]) {
      const auto part = [&](size_t i) { return exact[i][row].narrow(0, begin, n); };
      parts.push_back(formula(part(0), part(1), part(2), c.window, kCap));
      documents.push_back(n);
      begin += n;
    }
  }
  const at::Tensor want = at::cat(parts).view(q.sizes());
  const at::Tensor got = soft_capped_attention(q, k, v, documents, c.window, kCap);
  EXPECT_LT(distance(got, want), 2e-6);
  const auto found = torch::autograd::grad({got}, {q, k, v}, {grad});
  const auto expected = torch::autograd::grad({want}, exact, {grad.to(at::kDouble)});
  for (size_t i = 0; i < found.size(); ++i) EXPECT_LT(distance(found[i], expected[i]), 5e-6) << "qkv"[i];
}

TEST(SoftCappedAttention, IsTheFormulaInsideDocuments) {
  expect_formula({{{9, 1, 14}, {24}}, 4, 0});
  expect_formula({{{24}, {24}}, 2, 0});
}

TEST(SoftCappedAttention, IsTheFormulaUnderAWindow) {
  for (const int64_t window : {2, 5, 23}) expect_formula({{{9, 1, 14}, {3, 21}}, 4, window});
}

// Scores of more than the memory that a piece may take: queries come in several.
TEST(SoftCappedAttention, IsTheFormulaOverSeveralPieces) { expect_formula({{{1200, 100}}, 8, 0}); }

TEST(CappedLogits, LoseWhatTheFormulaLoses) {
  constexpr double kCap = 3, kScale = 0.25;
  at::Tensor x = at::randn({2, 9, 16}), w = at::randn({40, 16}), low = at::randn({2, 9, 3}), up = at::randn({40, 3});
  at::Tensor targets = at::randint(0, 40, {2, 9}, at::kLong);
  targets[0].narrow(0, 0, 4).fill_(-100);
  std::vector<at::Tensor> leaves{x, w, low, up}, exact;
  for (at::Tensor& leaf : leaves) {
    leaf.requires_grad_(true);
    exact.push_back(leaf.detach().to(at::kDouble).requires_grad_(true));
  }
  at::Tensor logits = at::matmul(exact[0], exact[1].t()).add(at::matmul(exact[2], exact[3].t()));
  logits = at::log_softmax(logits.div(kCap).tanh().mul(kCap), -1);
  const at::Tensor picked = at::gather(logits, -1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1);
  const at::Tensor want = picked.mul(targets.ne(-100)).sum().mul(-kScale);
  const at::Tensor got =
      vocab_parallel_cross_entropy(x, w, targets, {.scale = kScale, .softcap = kCap}, {low, up}, TensorAxis{});
  EXPECT_NEAR(got.item<double>() / want.item<double>(), 1, 1e-6);
  const auto found = torch::autograd::grad({got}, leaves), expected = torch::autograd::grad({want}, exact);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_LT(distance(found[i], expected[i]), 2e-6) << i;
}

}  // namespace
}  // namespace ft::test
