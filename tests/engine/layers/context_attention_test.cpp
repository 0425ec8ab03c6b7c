// Attention over rows whose tokens lie on two, three or four ranks equals attention over whole rows written out in
// fp64: values and gradients, padded and packed, with windows, by ring and by Ulysses.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "engine/error/error.h"
#include "engine/layers/attention.h"
#include "engine/layers/module.h"
#include "engine/tensor/counter_random.h"
#include "tests/ranks/ranks.h"

namespace ft::test {
namespace {

using Documents = std::vector<std::vector<int64_t>>;

struct Case {
  Documents documents;  // each row's sum is a multiple of 8
  int64_t heads = 8, kv_heads = 4, width = 8, window = 0;
};

at::Tensor random(const std::string& name, at::IntArrayRef shape) {
  at::Tensor made = at::empty(shape, at::kDouble);
  const CounterRandom numbers(11, name);
  for (int64_t i = 0; i < made.numel(); ++i)
    made.data_ptr<double>()[i] = numbers.normal(static_cast<uint64_t>(i)) * (name == "q" || name == "k" ? 1.5 : 1);
  return made;
}

// [B, 1, T, T]: what a query may see, from every token's place and document.
at::Tensor seen(const Documents& documents, int64_t length, int64_t window) {
  at::Tensor document = at::empty({static_cast<int64_t>(documents.size()), length}, at::kLong);
  auto* out = document.data_ptr<int64_t>();
  for (const auto& row : documents)
    for (size_t d = 0; d < row.size(); ++d)
      for (int64_t t = 0; t < row[d]; ++t) *out++ = static_cast<int64_t>(d);
  const at::Tensor place = at::arange(length, at::kLong), age = place.unsqueeze(1).sub(place);
  at::Tensor allowed = age.ge(0);
  if (window > 0) allowed = allowed.logical_and(age.lt(window));
  return allowed.logical_and(document.unsqueeze(2).eq(document.unsqueeze(1))).unsqueeze(1);
}

struct Results {
  at::Tensor out, q, k, v;  // the output, and gradients
};

template <class Attention>
Results results(std::vector<at::Tensor> in, const at::Tensor& weights, const Attention& attention) {
  at::AutoGradMode graph(true);
  for (at::Tensor& x : in) x = x.detach().requires_grad_(true);
  const at::Tensor out = attention(in[0], in[1], in[2]);
  const auto grads = torch::autograd::grad({out}, in, {weights.to(out.scalar_type())});
  return {out.detach(), grads[0], grads[1], grads[2]};
}

Results reference(const Case& c, const std::vector<at::Tensor>& in, const at::Tensor& weights, int64_t length) {
  return results(in, weights, [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const int64_t shared = c.heads / c.kv_heads;
    const auto heads = [&](const at::Tensor& x) { return x.repeat_interleave(shared, 2).transpose(1, 2); };
    return at::scaled_dot_product_attention(q.transpose(1, 2), heads(k), heads(v), seen(c.documents, length, c.window))
        .transpose(1, 2);
  });
}

// Relative in norm; gradients that come to nothing, as those of queries which see one key, to what their terms are.
double distance(const at::Tensor& found, const at::Tensor& want) {
  const double terms = 0.1 * std::sqrt(static_cast<double>(want.numel()));
  return found.to(at::kDouble).sub(want).norm().item<double>() / std::max(want.norm().item<double>(), terms);
}

Context context_of(const Case& c, ProcessGroup& group, ContextAxis::Method method, int64_t length) {
  Context context;
  context.documents = c.documents;
  context.split = {group.rank(), group.size(), length};
  context.axis = {&group, method};
  return context;
}

// Every result of this rank, against its part of the whole rows'.
void compare(const Case& c, ProcessGroup& group, ContextAxis::Method method, at::ScalarType dtype) {
  int64_t length = 0;
  for (const int64_t one : c.documents[0]) length += one;
  const auto rows = static_cast<int64_t>(c.documents.size());
  const std::vector<at::Tensor> in{random("q", {rows, length, c.heads, c.width}),
                                   random("k", {rows, length, c.kv_heads, c.width}),
                                   random("v", {rows, length, c.kv_heads, c.width})};
  const at::Tensor weights = random("weights", {rows, length, c.heads, c.width});
  const Results want = reference(c, in, weights, length);
  const Context context = context_of(c, group, method, length);
  std::vector<int64_t> places;
  for (int64_t t = 0; t < 2 * context.split.chunk(); ++t) places.push_back(context.split.place(t));
  const auto part = [&](const at::Tensor& x) { return x.index_select(1, at::tensor(places, at::kLong)); };
  const auto run = [&] {
    return results({part(in[0]).to(dtype), part(in[1]).to(dtype), part(in[2]).to(dtype)}, part(weights),
                   [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
                     return attend(q, k, v, context, {.window = c.window});
                   });
  };
  const Results found = run(), again = run();
  const double bound = dtype == at::kFloat ? 2e-6 : 1.5e-2;
  EXPECT_LE(distance(found.out, part(want.out)), bound);
  EXPECT_LE(distance(found.q, part(want.q)), bound);
  EXPECT_LE(distance(found.k, part(want.k)), bound);
  EXPECT_LE(distance(found.v, part(want.v)), bound);
  EXPECT_EQ(found.out.scalar_type(), dtype);
  EXPECT_TRUE(at::equal(found.out, again.out) && at::equal(found.q, again.q) && at::equal(found.k, again.k) &&
              at::equal(found.v, again.v));
}

std::string text(const Case& c, ContextAxis::Method method) {
  std::string all = method == ContextAxis::Method::ring ? "ring" : "ulysses";
  for (const auto& row : c.documents) {
    all += " |";
    for (const int64_t length : row) all += " " + std::to_string(length);
  }
  return all + " window " + std::to_string(c.window) + " kv heads " + std::to_string(c.kv_heads);
}

}  // namespace

RANK_BODY(attends_over_ranks) {
  // Multiples of 2, 3 and 4 ranks' chunks; documents end at, before and behind the cuts, and may be one token.
  const std::vector<Documents> layouts = {
      {{48}, {48}},                            // one document a row
      {{31, 17}, {48}, {5, 43}},               // padded rows: the padding is one more document
      {{1, 2, 3, 9, 17, 15, 1}, {24, 24}},     // packed
      {{6, 6, 6, 6, 12, 12}, {47, 1}},         // documents that are chunks
      {std::vector<int64_t>(48, 1), {24, 24}}  // nothing to see but oneself
  };
  for (const ContextAxis::Method method : {ContextAxis::Method::ring, ContextAxis::Method::ulysses})
    for (const Documents& documents : layouts)
      for (const int64_t window : {0, 1, 6, 7, 13, 30}) {
        Case c{.documents = documents, .window = window};
        if (group->size() == 3) c.heads = 6, c.kv_heads = 3;
        SCOPED_TRACE(text(c, method));
        compare(c, *group, method, at::kFloat);
        if (window == 0 || window == 7) compare(c, *group, method, at::kBFloat16);
      }
  return "";
}

// Long enough that slices are computed in bf16, and that windows cut them into chunks of queries.
RANK_BODY(attends_over_long_rows) {
  for (const ContextAxis::Method method : {ContextAxis::Method::ring, ContextAxis::Method::ulysses})
    for (const int64_t window : {0, 40, 300}) {
      const Case c{.documents = {{400, 600, 24}, {1024}}, .heads = 4, .kv_heads = 2, .window = window};
      if (method == ContextAxis::Method::ulysses && group->size() > 2) continue;
      SCOPED_TRACE(text(c, method));
      compare(c, *group, method, at::kFloat);
      compare(c, *group, method, at::kBFloat16);
    }
  return "";
}

RANK_BODY(shares_few_heads) {
  const auto fits = [&](int64_t heads, int64_t kv_heads) {
    const Case c{.documents = {{20, 28}}, .heads = heads, .kv_heads = kv_heads};
    compare(c, *group, ContextAxis::Method::ulysses, at::kFloat);
  };
  fits(8, 1);
  fits(8, 2);
  fits(4, 4);
  // Any number of heads goes round the ring.
  compare({.documents = {{20, 28}}, .heads = 3, .kv_heads = 3}, *group, ContextAxis::Method::ring, at::kFloat);
  const Case three{.documents = {{48}}, .heads = 6, .kv_heads = 3};
  const Context context = context_of(three, *group, ContextAxis::Method::ulysses, 48);
  const at::Tensor q = at::empty({1, 12, 6, 8}), kv = at::empty({1, 12, 3, 8});
  try {
    attend(q, kv, kv, context, {});
    ADD_FAILURE() << "6 heads on 4 ranks";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    EXPECT_EQ(error.message(), "ulysses shares heads out: got 6 heads and 3 key-value heads on 4 ranks");
    EXPECT_EQ(error.help(), "these fit: 3, 6; context_method = \"ring\" takes any");
  }
  return "";
}

class ContextAttention : public testing::TestWithParam<int> {};

TEST_P(ContextAttention, equals_that_of_whole_rows) { run_ranks(GetParam(), "attends_over_ranks"); }
INSTANTIATE_TEST_SUITE_P(Ranks, ContextAttention, testing::Values(2, 3, 4));

TEST(ContextAttention, equals_that_of_whole_long_rows) {
  for (const int world : {2, 4}) run_ranks(world, "attends_over_long_rows");
}

TEST(ContextAttention, shares_heads_that_are_fewer_than_ranks) { run_ranks(4, "shares_few_heads"); }

}  // namespace ft::test
