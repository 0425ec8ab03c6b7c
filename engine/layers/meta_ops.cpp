#include "engine/layers/meta_ops.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "engine/layers/attention_slices.h"
#include "engine/layers/cpu_ops.h"
#include "engine/parallel/imagined.h"

namespace ft::meta {
namespace {

constexpr int64_t kGpuLogitBytes = int64_t{256} << 20;  // linear_cross_entropy_cuda.cpp

at::Tensor dense_like(const at::Tensor& x) { return at::empty(x.sizes(), x.options()); }

at::Tensor fp32(at::IntArrayRef sizes, const at::Tensor& like) {
  return at::empty(sizes, like.options().dtype(at::kFloat));
}

// A GPU's kernel takes all slices in one call, in their own dtype.
bool in_fp32(const AttentionSlice& s) { return !ImaginedMemory::gpu() && cpu::attends_in_fp32(s); }

// What the CPU's flash kernel is given of a slice [rows, H, n, D]: a copy where it multiplies in fp32.
at::Tensor operand(const at::Tensor& x, const AttentionSlice& s, int64_t tokens) {
  if (!in_fp32(s) || x.scalar_type() == at::kFloat) return {};
  return fp32({s.rows, x.size(2), tokens, x.size(3)}, x);
}

at::Tensor result(const at::Tensor& x, const AttentionSlice& s, int64_t tokens) {
  const auto dtype = in_fp32(s) ? at::kFloat : x.scalar_type();
  return at::empty({s.rows, x.size(2), tokens, x.size(3)}, x.options().dtype(dtype));
}

at::Tensor mask(const at::Tensor& q, const AttentionSlice& s) {
  return s.window > 0 ? fp32({s.queries, s.keys}, q) : at::Tensor();
}

// One slice's forward: what stands beside q, k and v until it is merged.
void run(const at::Tensor& q, const at::Tensor& k, const AttentionSlice& s) {
  const at::Tensor operands[] = {operand(q, s, s.queries), operand(k, s, s.keys), operand(k, s, s.keys), mask(q, s)};
  const at::Tensor out = result(q, s, s.queries), lse = fp32({s.rows, q.size(2), s.queries}, q);
}

void run_backward(const at::Tensor& q, const at::Tensor& k, const AttentionSlice& s) {
  const at::Tensor operands[] = {operand(q, s, s.queries), operand(q, s, s.queries), operand(q, s, s.queries),
                                 operand(k, s, s.keys),    operand(k, s, s.keys),    mask(q, s)};
  const at::Tensor grads[] = {result(q, s, s.queries), result(k, s, s.keys), result(k, s, s.keys)};
}

int64_t count_targets(const at::Tensor& targets) {
  if (!targets.is_cpu()) return targets.numel();
  const at::Tensor dense = targets.contiguous();
  const auto* begin = dense.const_data_ptr<int64_t>();
  return std::count_if(begin, begin + dense.numel(), [](int64_t target) { return target != -100; });
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, double) {
  return {dense_like(x), fp32({x.numel() / std::max<int64_t>(1, weight.numel())}, x)};
}

std::tuple<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad, const at::Tensor& x,
                                                     const at::Tensor& weight, const at::Tensor& rstd, bool want_x,
                                                     bool want_weight) {
  constexpr int64_t kChunkRows = 64;  // as fused_cpu.cpp
  const at::Tensor dense_x = x.contiguous(), dense_grad = grad.contiguous();
  at::Tensor gx, gw;
  if (want_x) gx = dense_like(x);
  if (want_weight) {
    const at::Tensor partial = fp32({(rstd.numel() + kChunkRows - 1) / kChunkRows, weight.numel()}, x);
    gw = fp32({weight.numel()}, x);
  }
  return {gx, gw};
}

at::Tensor rope_forward(const at::Tensor& x, const at::Tensor&, const at::Tensor&, const at::Tensor&, bool) {
  const at::Tensor dense = x.contiguous();
  return dense_like(x);
}

at::Tensor swiglu_forward(const at::Tensor& gate, const at::Tensor&) { return dense_like(gate); }

std::tuple<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& grad, const at::Tensor& gate,
                                                   const at::Tensor& up) {
  const at::Tensor dense = grad.contiguous();
  return {dense_like(gate), dense_like(up)};
}

at::Tensor dropout_forward(const at::Tensor& x, const at::Tensor&, double) { return dense_like(x); }

void dropout_add(at::Tensor, const at::Tensor& x, const at::Tensor&, double) {
  const at::Tensor dense = x.contiguous();
}

std::tuple<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor&,
                                                     at::IntArrayRef documents, int64_t window) {
  at::Tensor out = dense_like(q), lse = fp32({q.size(0), q.size(2), q.size(1)}, q);
  for (const AttentionSlice& s : document_slices(q.size(0), q.size(1), documents, window)) run(q, k, s);
  return {out, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(const at::Tensor&, const at::Tensor& q,
                                                                  const at::Tensor& k, const at::Tensor& v,
                                                                  const at::Tensor&, const at::Tensor&,
                                                                  at::IntArrayRef documents, int64_t window) {
  at::Tensor gq = dense_like(q), gk = dense_like(k), gv = dense_like(v);
  for (const AttentionSlice& s : document_slices(q.size(0), q.size(1), documents, window)) run_backward(q, k, s);
  return {gq, gk, gv};
}

void attention_part(at::Tensor, at::Tensor, const at::Tensor& q, const at::Tensor& k, const at::Tensor&,
                    at::IntArrayRef slices) {
  for (const AttentionSlice& s : AttentionSlice::unpack(slices)) run(q, k, s);
}

void attention_part_backward(at::Tensor, at::Tensor, at::Tensor, const at::Tensor&, const at::Tensor& q,
                             const at::Tensor& k, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                             at::IntArrayRef slices) {
  for (const AttentionSlice& s : AttentionSlice::unpack(slices)) run_backward(q, k, s);
}

at::Tensor nf4_dequantize(const at::Tensor& records, int64_t rows, int64_t columns, double, bool,
                          at::ScalarType dtype) {
  return at::empty({rows, columns}, records.options().dtype(dtype));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> linear_cross_entropy_forward(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const std::optional<at::Tensor>& low,
    const std::optional<at::Tensor>& up, double, bool want_x, bool want_weight) {
  const int64_t width = x.size(-1), vocab = weight.size(0), count = count_targets(targets);
  const at::Tensor tokens = x.reshape({-1, width}), w = weight.to(x.scalar_type());
  at::Tensor gx, gw, glow, gup, b;
  if (low) {
    b = up->to(x.scalar_type());
    if (want_x) glow = dense_like(*low), gup = fp32(up->sizes(), x);
  }
  if (want_x) gx = dense_like(x);
  const MadeFor made_for(MemoryKind::loss);
  const int64_t logit_bytes = ImaginedMemory::gpu() ? kGpuLogitBytes : cpu::kLogitBytes;
  const int64_t chunk = std::max<int64_t>(1, logit_bytes / (vocab * static_cast<int64_t>(x.element_size())));
  const bool whole = count > 0 && count <= chunk;
  if (want_weight) gw = at::empty(weight.sizes(), x.options().dtype(whole ? x.scalar_type() : at::kFloat));
  // The first chunk is the largest.
  const int64_t size = std::min(chunk, count);
  const at::Tensor part = at::empty({size, width}, x.options()), logits = at::empty({size, vocab}, x.options());
  if (want_x) at::empty({size, width}, x.options());
  if (want_weight && !whole) at::empty(weight.sizes(), x.options());
  return {fp32({}, x), gx, gw, glow, gup};
}

}  // namespace ft::meta
