/// Attention on the CPU: LibTorch's flash kernel on slices of the tensors as they are. It reads grouped heads and
/// strided slices, so nothing is repeated or copied but the results.
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <limits>
#include <optional>

#include "engine/error/error.h"
#include "engine/layers/attention_slices.h"
#include "engine/layers/cpu_ops.h"

namespace ft::cpu {
namespace {

// For bf16 the kernel multiplies through oneDNN, which makes and keeps a primitive for every shape that it meets;
// packed documents come in hundreds of lengths (measured on a 1 M parameter model: 0.5 GB of them, and half the step's
// time). Short documents are therefore multiplied in fp32, whose GEMMs know no primitives, unless their length is one
// of the few that whole rows have.
constexpr int64_t kFp32Below = 1024;  // tokens
constexpr int64_t kBf16Multiple = 128;

// [B, T, H, D] -> [rows, H, queries, D]
at::Tensor queries(const at::Tensor& x, const AttentionSlice& s) {
  return x.narrow(0, s.row, s.rows).narrow(1, s.query, s.queries).transpose(1, 2);
}

at::Tensor keys(const at::Tensor& x, const AttentionSlice& s) {
  return x.narrow(0, s.row, s.rows).narrow(1, s.key, s.keys).transpose(1, 2);
}

// [B, H, T] -> [rows, H, queries]
at::Tensor of_lse(const at::Tensor& lse, const AttentionSlice& s) {
  return lse.narrow(0, s.row, s.rows).narrow(2, s.query, s.queries);
}

// As the kernel takes it.
at::Tensor operand(const at::Tensor& slice, const AttentionSlice& s) {
  return attends_in_fp32(s) ? slice.to(at::kFloat) : slice;
}

// [1, 1, queries, keys]: -inf where a key lies behind the query, or a window or more before it.
std::optional<at::Tensor> mask(const at::Tensor& q, const AttentionSlice& s) {
  if (s.window == 0) return std::nullopt;
  const at::Tensor query = at::arange(s.ahead, s.ahead + s.queries, at::kLong).unsqueeze(1);
  const at::Tensor age = query.sub(at::arange(s.keys, at::kLong));
  const auto dtype = attends_in_fp32(s) ? at::kFloat : q.scalar_type();
  at::Tensor mask = at::zeros(age.sizes(), at::TensorOptions(dtype));
  mask.masked_fill_(age.lt(0).logical_or_(age.ge(s.window)), -std::numeric_limits<double>::infinity());
  return mask.view({1, 1, age.size(0), age.size(1)});
}

// The slice's own result: [rows, H, queries, D] and the logarithms of its softmax sums [rows, H, queries].
std::tuple<at::Tensor, at::Tensor> run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const AttentionSlice& s) {
  return at::_scaled_dot_product_flash_attention_for_cpu(operand(queries(q, s), s), operand(keys(k, s), s),
                                                         operand(keys(v, s), s), 0.0, s.causal(), mask(q, s));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> run_backward(const at::Tensor& grad, const at::Tensor& q,
                                                            const at::Tensor& k, const at::Tensor& v,
                                                            const at::Tensor& out, const at::Tensor& lse,
                                                            const AttentionSlice& s) {
  return at::_scaled_dot_product_flash_attention_for_cpu_backward(
      operand(queries(grad, s), s), operand(queries(q, s), s), operand(keys(k, s), s), operand(keys(v, s), s),
      operand(queries(out, s), s), of_lse(lse, s), 0.0, s.causal(), mask(q, s));
}

}  // namespace

bool attends_in_fp32(const AttentionSlice& s) {
  return s.queries < kFp32Below && (s.queries % kBf16Multiple != 0 || s.keys % kBf16Multiple != 0 || s.window > 0);
}

std::tuple<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::IntArrayRef documents, int64_t window) {
  at::Tensor out = at::empty_like(q), lse = at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));
  for (const AttentionSlice& s : document_slices(q.size(0), q.size(1), documents, window)) {
    const auto [o, l] = run(q, k, v, s);
    queries(out, s).copy_(o);
    of_lse(lse, s).copy_(l);
  }
  return {out, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(const at::Tensor& grad, const at::Tensor& q,
                                                                  const at::Tensor& k, const at::Tensor& v,
                                                                  const at::Tensor& out, const at::Tensor& lse,
                                                                  at::IntArrayRef documents, int64_t window) {
  at::Tensor gq = at::empty_like(q);
  // Under a window a key is seen by two chunks of queries.
  at::Tensor gk = window > 0 ? at::zeros_like(k) : at::empty_like(k);
  at::Tensor gv = window > 0 ? at::zeros_like(v) : at::empty_like(v);
  for (const AttentionSlice& s : document_slices(q.size(0), q.size(1), documents, window)) {
    const auto [a, b, c] = run_backward(grad, q, k, v, out, lse, s);
    queries(gq, s).copy_(a);
    window > 0 ? keys(gk, s).add_(b) : keys(gk, s).copy_(b);
    window > 0 ? keys(gv, s).add_(c) : keys(gv, s).copy_(c);
  }
  return {gq, gk, gv};
}

void attention_part(at::Tensor out, at::Tensor lse, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    at::IntArrayRef slices) {
  for (const AttentionSlice& s : AttentionSlice::unpack(slices)) {
    const auto [o, l] = run(q, k, v, s);
    at::Tensor sums = of_lse(lse, s), mixed = queries(out, s);
    const at::Tensor merged = at::logaddexp(sums, l);  // -inf where nothing was seen before
    mixed.mul_(sums.sub(merged).exp_().unsqueeze(-1)).addcmul_(o.to(at::kFloat), l.sub(merged).exp_().unsqueeze(-1));
    sums.copy_(merged);
  }
}

void attention_part_backward(at::Tensor gq, at::Tensor gk, at::Tensor gv, const at::Tensor& grad, const at::Tensor& q,
                             const at::Tensor& k, const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                             at::IntArrayRef slices) {
  for (const AttentionSlice& s : AttentionSlice::unpack(slices)) {
    const auto [a, b, c] = run_backward(grad, q, k, v, out, lse, s);
    queries(gq, s).add_(a);
    keys(gk, s).add_(b);
    keys(gv, s).add_(c);
  }
}

}  // namespace ft::cpu
