/// Attention on the CPU: LibTorch's flash kernel on each document's slice. It reads grouped heads and strided slices as
/// they are, so nothing is repeated or copied but the results.
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <string>

#include "engine/error/error.h"
#include "engine/layers/cpu_ops.h"

namespace ft::cpu {
namespace {

// For bf16 the kernel multiplies through oneDNN, which makes and keeps a primitive for every shape that it meets;
// packed documents come in hundreds of lengths (measured on a 1 M parameter model: 0.5 GB of them, and half the step's
// time). Short documents are therefore multiplied in fp32, whose GEMMs know no primitives.
constexpr int64_t kFp32Below = 1024;  // tokens

struct Slice {
  int64_t row, rows, begin, length;
  // [B, T, H, D] -> [rows, H, length, D]
  at::Tensor of(const at::Tensor& x) const { return x.narrow(0, row, rows).narrow(1, begin, length).transpose(1, 2); }
  // The same as the kernel takes it.
  at::Tensor operand(const at::Tensor& x) const { return length < kFp32Below ? of(x).to(at::kFloat) : of(x); }
  // [B, H, T] -> [rows, H, length]
  at::Tensor of_lse(const at::Tensor& lse) const { return lse.narrow(0, row, rows).narrow(2, begin, length); }
};

// The documents as slices; rows of one document each go together.
std::vector<Slice> slices(const at::Tensor& q, at::IntArrayRef documents) {
  const int64_t rows = q.size(0), tokens = q.size(1);
  std::vector<Slice> all;
  int64_t row = 0, begin = 0;
  for (const int64_t length : documents) {
    if (row >= rows || length < 0 || begin + length > tokens)
      throw Error(ErrorKind::shape, "documents do not fill rows of " + std::to_string(tokens) + " tokens")
          .key("ft::attention");
    if (length == 0) continue;
    Slice* last = all.empty() ? nullptr : &all.back();
    if (length == tokens && last && last->length == tokens) {
      ++last->rows;
    } else {
      all.push_back({row, 1, begin, length});
    }
    begin += length;
    if (begin == tokens) ++row, begin = 0;
  }
  if (row != rows)
    throw Error(ErrorKind::shape, "got documents of " + std::to_string(row) + " rows, want " + std::to_string(rows))
        .key("ft::attention");
  return all;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::IntArrayRef documents) {
  at::Tensor out = at::empty_like(q), lse = at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));
  for (const Slice& s : slices(q, documents)) {
    const auto [o, l] = at::_scaled_dot_product_flash_attention_for_cpu(s.operand(q), s.operand(k), s.operand(v), 0.0,
                                                                        /*is_causal=*/true);
    s.of(out).copy_(o);
    s.of_lse(lse).copy_(l);
  }
  return {out, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(const at::Tensor& grad, const at::Tensor& q,
                                                                  const at::Tensor& k, const at::Tensor& v,
                                                                  const at::Tensor& out, const at::Tensor& lse,
                                                                  at::IntArrayRef documents) {
  at::Tensor gq = at::empty_like(q), gk = at::empty_like(k), gv = at::empty_like(v);
  for (const Slice& s : slices(q, documents)) {
    const auto [a, b, c] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        s.operand(grad), s.operand(q), s.operand(k), s.operand(v), s.operand(out), s.of_lse(lse), 0.0,
        /*is_causal=*/true);
    s.of(gq).copy_(a);
    s.of(gk).copy_(b);
    s.of(gv).copy_(c);
  }
  return {gq, gk, gv};
}

}  // namespace ft::cpu
