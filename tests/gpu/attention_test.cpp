// Attention on the GPU against the CPU's: packed documents, grouped heads, windows; Flash for 16-bit dtypes, the
// memory-efficient kernel for fp32.
#include "engine/error/error.h"
#include "engine/layers/ops.h"
#include "tests/gpu/gpu.h"

namespace ft::testing {
namespace {

using GpuAttention = Gpu;

struct Shape {
  int64_t rows, tokens, heads, kv_heads, width;
};

Tensors operands(const Shape& s) {
  return {normal({s.rows, s.tokens, s.heads, s.width}, 1, 1), normal({s.rows, s.tokens, s.kv_heads, s.width}, 1, 2),
          normal({s.rows, s.tokens, s.kv_heads, s.width}, 1, 3)};
}

void expect_attention(const Shape& s, const std::vector<int64_t>& documents, int64_t window) {
  const Op op = [&](const Tensors& in) { return ops::attention(in[0], in[1], in[2], documents, window); };
  for (const at::ScalarType dtype : kDtypes) {
    SCOPED_TRACE("window " + std::to_string(window) + ", width " + std::to_string(s.width));
    expect_as_on_cpu(op, operands(s), dtype, dtype == at::kFloat ? 2e-5 : rounding(dtype));
  }
}

TEST_F(GpuAttention, StaysInsideDocuments) {
  expect_attention({3, 13, 6, 2, 64}, {5, 1, 7, 13, 9, 4}, 0);
  expect_attention({2, 300, 4, 4, 128}, {300, 100, 200}, 0);
  expect_attention({1, 1500, 8, 2, 64}, {700, 800}, 0);
}

TEST_F(GpuAttention, OfWidthsThatTheKernelDoesNotTakeAsTheyAre) {
  for (const int64_t width : {4, 12, 20, 80, 100, 256}) expect_attention({2, 33, 4, 2, width}, {33, 20, 13}, 0);
}

// Where a query sees its own key alone, the values come out as they are, and queries and keys have no gradients but
// rounding's.
void expect_values(const Shape& s, const std::vector<int64_t>& documents, int64_t window) {
  const Tensors all = operands(s);
  for (const at::ScalarType dtype : kDtypes) {
    const Op op = [&](const Tensors& in) {
      const at::Tensor like = in[0];
      return ops::attention(all[0].to(like), all[1].to(like), like, documents, window);
    };
    expect_as_on_cpu(op, {all[2]}, dtype, rounding(dtype));
    const Op whole = [&](const Tensors& in) { return ops::attention(in[0], in[1], in[2], documents, window); };
    const Ran ran = run(whole, all, dtype, at::kCUDA);
    for (size_t i = 0; i < 2; ++i)
      EXPECT_LT(ran.grads[i].to(at::kFloat).abs().max().item<double>(), 10 * rounding(dtype)) << "input " << i;
  }
}

TEST_F(GpuAttention, OfSingleTokens) {
  expect_values({2, 3, 4, 2, 32}, {1, 1, 1, 1, 1, 1}, 0);
  expect_values({1, 1, 4, 2, 32}, {1}, 0);
  expect_values({1, 400, 4, 2, 64}, {150, 250}, 1);
}

// A window counts the query's own key.
TEST_F(GpuAttention, SeesAWindow) {
  for (const int64_t window : {2, 5, 64, 129, 1000}) expect_attention({1, 400, 4, 2, 64}, {150, 250}, window);
}

TEST_F(GpuAttention, GivesTheSameBitsEveryTime) {
  const std::vector<int64_t> documents{700, 800};
  const Op op = [&](const Tensors& in) { return ops::attention(in[0], in[1], in[2], documents); };
  const Tensors inputs = operands({1, 1500, 8, 2, 64});
  for (const at::ScalarType dtype : kDtypes) {
    const Ran first = run(op, inputs, dtype, at::kCUDA);
    for (int i = 0; i < 5; ++i) {
      const Ran again = run(op, inputs, dtype, at::kCUDA);
      EXPECT_TRUE(again.y.equal(first.y));
      for (size_t g = 0; g < 3; ++g) EXPECT_TRUE(again.grads[g].equal(first.grads[g])) << "gradient of input " << g;
    }
  }
}

TEST_F(GpuAttention, RefusesDocumentsThatDoNotFillTheRows) {
  const at::Tensor x = normal({2, 6, 2, 8}, 1, 1).to(at::kCUDA, at::kBFloat16);
  EXPECT_THROW(ops::attention(x, x, x, {6, 4}), Error);
  EXPECT_THROW(ops::attention(x, x, x, {6, 6, 1}), Error);
  EXPECT_THROW(ops::attention(x, x, x, {5, 2, 5}), Error);  // one that reaches over a row's end
  EXPECT_THROW(ops::attention(x, x, x, {6, 6}, -1), Error);
}

}  // namespace
}  // namespace ft::testing
