/// Attention on the CPU: LibTorch's flash kernel on each document's slice. It reads grouped heads and strided slices as
/// they are, so nothing is repeated or copied but the results.
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include "engine/error/error.h"
#include "engine/layers/cpu_ops.h"

namespace ft::cpu {
namespace {

// For bf16 the kernel multiplies through oneDNN, which makes and keeps a primitive for every shape that it meets;
// packed documents come in hundreds of lengths (measured on a 1 M parameter model: 0.5 GB of them, and half the step's
// time). Short documents are therefore multiplied in fp32, whose GEMMs know no primitives, unless their length is one
// of the few that whole rows have.
constexpr int64_t kFp32Below = 1024;  // tokens
constexpr int64_t kBf16Multiple = 128;

// A document longer than the window is computed in chunks of queries with the keys that they can see: as many as the
// window, so that half of what is multiplied counts, but not so few that a GEMM is hardly more than its call.
constexpr int64_t kLeastChunk = 128;

// Queries of one document (or of the same stretch of several rows) and the keys that they may see.
struct Slice {
  int64_t row, rows;
  int64_t begin, length;  // queries
  int64_t first_key;      // keys are [first_key, begin + length)
  int64_t window;         // 0: the keys begin with the document, and causality is the only mask

  // [B, T, H, D] -> [rows, H, length, D]
  at::Tensor queries(const at::Tensor& x) const {
    return x.narrow(0, row, rows).narrow(1, begin, length).transpose(1, 2);
  }
  at::Tensor keys(const at::Tensor& x) const {
    return x.narrow(0, row, rows).narrow(1, first_key, begin + length - first_key).transpose(1, 2);
  }
  // As the kernel takes it.
  at::Tensor operand(const at::Tensor& slice) const { return in_fp32() ? slice.to(at::kFloat) : slice; }
  bool in_fp32() const { return length < kFp32Below && (length % kBf16Multiple != 0 || window > 0); }
  // [B, H, T] -> [rows, H, length]
  at::Tensor of_lse(const at::Tensor& lse) const { return lse.narrow(0, row, rows).narrow(2, begin, length); }
  // [1, 1, length, keys]: -inf where a key lies behind the query, or a window or more before it.
  std::optional<at::Tensor> mask(const at::Tensor& q) const {
    if (window == 0) return std::nullopt;
    const at::Tensor query = at::arange(begin, begin + length, at::kLong).unsqueeze(1);
    const at::Tensor age = query.sub(at::arange(first_key, begin + length, at::kLong));
    const auto dtype = in_fp32() ? at::kFloat : q.scalar_type();
    at::Tensor mask = at::zeros(age.sizes(), at::TensorOptions(dtype));
    mask.masked_fill_(age.lt(0).logical_or_(age.ge(window)), -std::numeric_limits<double>::infinity());
    return mask.view({1, 1, age.size(0), age.size(1)});
  }
};

void add_document(std::vector<Slice>& all, const Slice& document, int64_t window) {
  if (window == 0 || document.length <= window) {
    all.push_back(document);
    return;
  }
  const int64_t end = document.begin + document.length, chunk = std::max(window, kLeastChunk);
  for (int64_t begin = document.begin; begin < end; begin += chunk) {
    const int64_t first_key = std::max(document.begin, begin - window + 1);
    all.push_back({document.row, document.rows, begin, std::min(chunk, end - begin), first_key, window});
  }
}

// The documents as slices; rows of one document each go together.
std::vector<Slice> slices(const at::Tensor& q, at::IntArrayRef documents, int64_t window) {
  const int64_t rows = q.size(0), tokens = q.size(1);
  if (window < 0)
    throw Error(ErrorKind::shape, "got a window of " + std::to_string(window) + ", want 0 (none) or more")
        .key("ft::attention");
  std::vector<Slice> whole;
  int64_t row = 0, begin = 0;
  for (const int64_t length : documents) {
    if (row >= rows || length < 0 || begin + length > tokens)
      throw Error(ErrorKind::shape, "documents do not fill rows of " + std::to_string(tokens) + " tokens")
          .key("ft::attention");
    if (length == 0) continue;
    Slice* last = whole.empty() ? nullptr : &whole.back();
    if (length == tokens && last && last->length == tokens) {
      ++last->rows;
    } else {
      whole.push_back({row, 1, begin, length, begin, 0});
    }
    begin += length;
    if (begin == tokens) ++row, begin = 0;
  }
  if (row != rows)
    throw Error(ErrorKind::shape, "got documents of " + std::to_string(row) + " rows, want " + std::to_string(rows))
        .key("ft::attention");
  std::vector<Slice> all;
  for (const Slice& document : whole) add_document(all, document, window);
  return all;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::IntArrayRef documents, int64_t window) {
  at::Tensor out = at::empty_like(q), lse = at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));
  for (const Slice& s : slices(q, documents, window)) {
    const auto [o, l] = at::_scaled_dot_product_flash_attention_for_cpu(s.operand(s.queries(q)), s.operand(s.keys(k)),
                                                                        s.operand(s.keys(v)), 0.0,
                                                                        /*is_causal=*/s.window == 0, s.mask(q));
    s.queries(out).copy_(o);
    s.of_lse(lse).copy_(l);
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
  for (const Slice& s : slices(q, documents, window)) {
    const auto [a, b, c] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        s.operand(s.queries(grad)), s.operand(s.queries(q)), s.operand(s.keys(k)), s.operand(s.keys(v)),
        s.operand(s.queries(out)), s.of_lse(lse), 0.0, /*is_causal=*/s.window == 0, s.mask(q));
    s.queries(gq).copy_(a);
    window > 0 ? s.keys(gk).add_(b) : s.keys(gk).copy_(b);
    window > 0 ? s.keys(gv).add_(c) : s.keys(gv).copy_(c);
  }
  return {gq, gk, gv};
}

}  // namespace ft::cpu
