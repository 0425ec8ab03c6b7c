// A part of ring attention for CUDA tensors: LibTorch's Flash (fp16, bf16) or memory-efficient (fp32) attention on each
// slice, merged by what their softmax sums come to.
#include <ATen/ops/_efficient_attention_backward.h>
#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logaddexp.h>
#include <c10/cuda/CUDAGuard.h>

#include <cmath>
#include <limits>
#include <string>

#include "engine/error/error.h"
#include "engine/layers/attention_slices.h"
#include "engine/layers/cuda_ops.h"
#include "engine/layers/ordered_sums_cuda.h"

namespace ft::cuda {
namespace {

constexpr int64_t kHeadUnit = 8;           // Flash attention wants heads of a multiple of this
constexpr int64_t kAlignLse = 32;          // the memory-efficient backward reads its sums in steps of this
constexpr int64_t kCausal = 1, kFull = 0;  // its custom_mask_type

struct Parts {
  at::Tensor q, k, v;
};

bool is_half(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf; }

double scale_of(const at::Tensor& q) { return 1 / std::sqrt(static_cast<double>(q.size(3))); }

// [B, T, H, D] -> [rows, queries, H, D]
at::Tensor queries(const at::Tensor& x, const AttentionSlice& s) {
  return x.narrow(0, s.row, s.rows).narrow(1, s.query, s.queries);
}

at::Tensor keys(const at::Tensor& x, const AttentionSlice& s) {
  return x.narrow(0, s.row, s.rows).narrow(1, s.key, s.keys);
}

// [B, H, T] -> [rows, H, queries]
at::Tensor of_lse(const at::Tensor& lse, const AttentionSlice& s) {
  return lse.narrow(0, s.row, s.rows).narrow(2, s.query, s.queries);
}

// Heads filled up with zeros, which change no product.
at::Tensor flash_operand(const at::Tensor& x) {
  const int64_t padding = (kHeadUnit - x.size(3) % kHeadUnit) % kHeadUnit;
  return (padding == 0 ? x : at::constant_pad_nd(x, {0, padding})).contiguous();
}

// Each key-value head as often as queries share it.
at::Tensor efficient_operand(const at::Tensor& x, int64_t heads) {
  const int64_t rows = x.size(0), tokens = x.size(1), own = x.size(2), width = x.size(3);
  return x.unsqueeze(3).expand({rows, tokens, own, heads / own, width}).reshape({rows, tokens, heads, width});
}

// The way back for gradients: a shared head's are summed.
at::Tensor from_efficient(const at::Tensor& g, int64_t own) {
  return g.reshape({g.size(0), g.size(1), own, g.size(2) / own, g.size(3)}).sum(3);
}

void check_window(const AttentionSlice& s) {
  if (s.window > 0)
    throw Error(ErrorKind::config, "ring attention on a GPU takes no window (" + std::to_string(s.window) + " tokens)")
        .key("parallel.context_method")
        .help("set context_method = \"ulysses\"");
}

// The slice's own result: [rows, queries, H, D], and the logarithms of its softmax sums [rows, H, queries].
std::tuple<at::Tensor, at::Tensor> run(const Parts& x, const AttentionSlice& s) {
  const at::Tensor q = queries(x.q, s), k = keys(x.k, s), v = keys(x.v, s);
  if (is_half(q)) {
    const auto result = at::_flash_attention_forward(flash_operand(q), flash_operand(k), flash_operand(v), std::nullopt,
                                                     std::nullopt, s.queries, s.keys, /*dropout_p=*/0.0, s.causal(),
                                                     /*return_debug_mask=*/false, scale_of(q));
    return {std::get<0>(result).narrow(3, 0, q.size(3)), std::get<1>(result).narrow(2, 0, s.queries)};
  }
  const int64_t heads = q.size(2);
  const auto result = at::_efficient_attention_forward(
      q.contiguous(), efficient_operand(k, heads), efficient_operand(v, heads), /*bias=*/std::nullopt, std::nullopt,
      std::nullopt, s.queries, s.keys, /*dropout_p=*/0.0, s.causal() ? kCausal : kFull, /*compute_log_sumexp=*/true);
  return {std::get<0>(result), std::get<1>(result).narrow(2, 0, s.queries)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> run_backward(const at::Tensor& grad_of, const Parts& x,
                                                            const at::Tensor& out_of, const at::Tensor& lse_of,
                                                            const AttentionSlice& s) {
  const at::Tensor q = queries(x.q, s), k = keys(x.k, s), v = keys(x.v, s), grad = queries(grad_of, s),
                   out = queries(out_of, s), lse = of_lse(lse_of, s);
  const int64_t heads = q.size(2), own = k.size(2), width = q.size(3);
  if (is_half(q)) {
    const OrderedSums in_order;
    const at::Tensor no_random = at::empty({2}, q.options().dtype(at::kUInt64));  // read for dropout alone
    const auto [gq, gk, gv] = at::_flash_attention_backward(
        flash_operand(grad), flash_operand(q), flash_operand(k), flash_operand(v), flash_operand(out), lse.contiguous(),
        /*cum_seq_q=*/at::Tensor(), /*cum_seq_k=*/at::Tensor(), s.queries, s.keys, /*dropout_p=*/0.0, s.causal(),
        no_random, no_random, scale_of(q));
    return {gq.narrow(3, 0, width), gk.narrow(3, 0, width), gv.narrow(3, 0, width)};
  }
  const int64_t padding = (kAlignLse - s.queries % kAlignLse) % kAlignLse;
  const at::Tensor sums = at::constant_pad_nd(lse, {0, padding}, std::numeric_limits<double>::infinity()).contiguous();
  const at::Tensor no_random = at::empty({}, at::TensorOptions(at::kLong));
  const auto [gq, gk, gv, unused] = at::_efficient_attention_backward(
      grad.contiguous(), q.contiguous(), efficient_operand(k, heads), efficient_operand(v, heads),
      /*bias=*/std::nullopt, out.contiguous(), std::nullopt, std::nullopt, s.queries, s.keys, sums, /*dropout_p=*/0.0,
      no_random, no_random, s.causal() ? kCausal : kFull, /*bias_requires_grad=*/false, /*scale=*/std::nullopt,
      /*num_splits_key=*/1);
  return {gq, from_efficient(gk, own), from_efficient(gv, own)};
}

}  // namespace

void attention_part(at::Tensor out, at::Tensor lse, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    at::IntArrayRef slices) {
  const c10::cuda::CUDAGuard guard(q.device());
  for (const AttentionSlice& s : AttentionSlice::unpack(slices)) {
    check_window(s);
    const auto [o, l] = run({q, k, v}, s);
    at::Tensor sums = of_lse(lse, s), mixed = queries(out, s);
    const at::Tensor merged = at::logaddexp(sums, l);  // -inf where nothing was seen before
    const auto weight = [](const at::Tensor& x) { return x.exp().transpose(1, 2).unsqueeze(-1); };
    mixed.mul_(weight(sums.sub(merged))).addcmul_(o.to(at::kFloat), weight(l.sub(merged)));
    sums.copy_(merged);
  }
}

void attention_part_backward(at::Tensor gq, at::Tensor gk, at::Tensor gv, const at::Tensor& grad, const at::Tensor& q,
                             const at::Tensor& k, const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                             at::IntArrayRef slices) {
  const c10::cuda::CUDAGuard guard(q.device());
  for (const AttentionSlice& s : AttentionSlice::unpack(slices)) {
    check_window(s);
    const auto [a, b, c] = run_backward(grad, {q, k, v}, out, lse, s);
    queries(gq, s).add_(a);
    keys(gk, s).add_(b);
    keys(gv, s).add_(c);
  }
}

}  // namespace ft::cuda
