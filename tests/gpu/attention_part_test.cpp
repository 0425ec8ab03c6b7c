// Attention merged from parts on the GPU, as the ranks of a ring make it, against whole rows on the CPU: values and
// gradients.
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <limits>

#include "engine/error/error.h"
#include "engine/layers/attention_slices.h"
#include "engine/layers/device_op.h"
#include "engine/layers/op_signatures.h"
#include "engine/layers/ops.h"
#include "tests/gpu/gpu.h"

namespace ft::testing {
namespace {

using GpuAttentionPart = Gpu;
using Documents = std::vector<std::vector<int64_t>>;

const DeviceOp<signature::AttentionPart>& part() {
  static const DeviceOp<signature::AttentionPart> op("ft::attention_part");
  return op;
}

const DeviceOp<signature::AttentionPartBackward>& part_backward() {
  static const DeviceOp<signature::AttentionPartBackward> op("ft::attention_part_backward");
  return op;
}

at::Tensor held(const at::Tensor& x, const SequenceSplit& split) {
  return at::cat({x.narrow(1, split.head(), split.chunk()), x.narrow(1, split.tail(), split.chunk())}, 1);
}

// [out, gq, gk, gv] of the whole rows, from what each rank makes of its own.
Tensors in_parts(const Tensors& inputs, const at::Tensor& grad, const Documents& documents, int64_t ranks) {
  const at::Tensor &q = inputs[0], &k = inputs[1], &v = inputs[2];
  const auto fp32 = q.options().dtype(at::kFloat);
  Tensors whole{at::zeros(q.sizes(), fp32), at::zeros(q.sizes(), fp32), at::zeros(k.sizes(), fp32),
                at::zeros(v.sizes(), fp32)};
  const auto put = [](at::Tensor& to, const at::Tensor& from, const SequenceSplit& split) {
    to.narrow(1, split.head(), split.chunk()).add_(from.narrow(1, 0, split.chunk()));
    to.narrow(1, split.tail(), split.chunk()).add_(from.narrow(1, split.chunk(), split.chunk()));
  };
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const SequenceSplit mine{rank, ranks, q.size(1)};
    const at::Tensor own = held(q, mine);
    at::Tensor out = at::zeros(own.sizes(), fp32);
    at::Tensor lse = at::full({own.size(0), own.size(2), own.size(1)}, -std::numeric_limits<double>::infinity(), fp32);
    const auto slices = [&](int64_t source) {
      return AttentionSlice::pack(slices_between(documents, mine, source, 0));
    };
    for (int64_t source = 0; source < ranks; ++source)
      part()(out, lse, own, held(k, mine.of(source)), held(v, mine.of(source)), slices(source));
    put(whole[0], out, mine);
    at::Tensor gq = at::zeros(own.sizes(), fp32);
    for (int64_t source = 0; source < ranks; ++source) {
      const at::Tensor theirs_k = held(k, mine.of(source)), theirs_v = held(v, mine.of(source));
      at::Tensor gk = at::zeros(theirs_k.sizes(), fp32), gv = at::zeros(theirs_k.sizes(), fp32);
      part_backward()(gq, gk, gv, held(grad, mine), own, theirs_k, theirs_v, out.to(q.scalar_type()), lse,
                      slices(source));
      put(whole[2], gk, mine.of(source));
      put(whole[3], gv, mine.of(source));
    }
    put(whole[1], gq, mine);
  }
  return whole;
}

TEST_F(GpuAttentionPart, MergesToWholeRows) {
  struct Shape {
    int64_t tokens, heads, kv_heads, width;
    Documents documents;
  };
  for (const Shape& s : {Shape{48, 4, 2, 20, {{31, 17}, {48}}}, Shape{640, 8, 8, 64, {{640}, {100, 333, 207}}},
                         Shape{1536, 4, 1, 128, {{1536}, {1, 1000, 535}}}}) {
    const Tensors inputs{normal({2, s.tokens, s.heads, s.width}, 1, 1),
                         normal({2, s.tokens, s.kv_heads, s.width}, 1, 2),
                         normal({2, s.tokens, s.kv_heads, s.width}, 1, 3)};
    std::vector<int64_t> documents;
    for (const auto& row : s.documents) documents.insert(documents.end(), row.begin(), row.end());
    const at::Tensor grad = normal({2, s.tokens, s.heads, s.width}, 1, 4);
    for (const at::ScalarType dtype : kDtypes) {
      Tensors rounded, moved;
      for (const at::Tensor& x : inputs) {
        rounded.push_back(x.to(dtype).to(at::kFloat));
        moved.push_back(x.to(at::kCUDA, dtype));
      }
      const at::Tensor y = ops::attention(rounded[0], rounded[1], rounded[2], documents);
      const Tensors want = in_parts(rounded, grad.to(dtype).to(at::kFloat), s.documents, 1);
      for (const int64_t ranks : {2, 4}) {
        SCOPED_TRACE(std::to_string(s.tokens) + " tokens, ranks " + std::to_string(ranks));
        const Tensors got = in_parts(moved, grad.to(at::kCUDA, dtype), s.documents, ranks);
        const double bound = dtype == at::kFloat ? 2e-5 : 2 * rounding(dtype);
        EXPECT_LT(distance(got[0], y), bound);
        for (size_t i = 0; i < 4; ++i) EXPECT_LT(distance(got[i], want[i]), bound) << i;
      }
    }
  }
}

TEST_F(GpuAttentionPart, RefusesAWindow) {
  const at::Tensor x = normal({1, 24, 2, 16}, 1, 1).to(at::kCUDA, at::kBFloat16);
  at::Tensor out = at::zeros({1, 24, 2, 16}, x.options().dtype(at::kFloat)), lse = at::zeros({1, 2, 24}, out.options());
  const auto slices = AttentionSlice::pack(slices_between({{48}}, {1, 2, 48}, 0, 5));
  EXPECT_THROW(part()(out, lse, x, x, x, slices), Error);
}

}  // namespace
}  // namespace ft::testing
