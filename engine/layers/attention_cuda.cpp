// Attention for CUDA tensors: LibTorch's variable-length kernels on all documents of the batch at once. Rows are laid
// end to end, so that a document is a stretch of tokens whatever its row.
#include <ATen/ops/_efficient_attention_backward.h>
#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/error/error.h"
#include "engine/layers/cuda_ops.h"
#include "engine/layers/ordered_sums_cuda.h"

namespace ft::cuda {
namespace {

// Where documents begin and end in the tokens laid end to end.
struct Documents {
  at::Tensor begins;  // int32 [documents + 1] on the device, the number of tokens last
  int64_t longest = 0;
};

Documents lay_out(const at::Tensor& q, at::IntArrayRef lengths, int64_t window) {
  const int64_t rows = q.size(0), tokens = q.size(1);
  if (window < 0)
    throw Error(ErrorKind::shape, "got a window of " + std::to_string(window) + ", want 0 (none) or more")
        .key("ft::attention");
  FT_CHECK(rows * tokens <= INT32_MAX, "attention: fewer tokens");
  Documents documents;
  std::vector<int32_t> begins{0};
  int64_t end = 0;
  for (const int64_t length : lengths) {
    if (length < 0 || end + length > rows * tokens || (length > 0 && end % tokens + length > tokens))
      throw Error(ErrorKind::shape, "documents do not fill rows of " + std::to_string(tokens) + " tokens")
          .key("ft::attention");
    if (length == 0) continue;
    end += length;
    begins.push_back(static_cast<int32_t>(end));
    documents.longest = std::max(documents.longest, length);
  }
  if (end != rows * tokens)
    throw Error(ErrorKind::shape, "got documents of " + std::to_string(end / std::max<int64_t>(1, tokens)) +
                                      " rows, want " + std::to_string(rows))
        .key("ft::attention");
  const at::Tensor host = at::empty({static_cast<int64_t>(begins.size())}, at::TensorOptions(at::kInt));
  std::copy(begins.begin(), begins.end(), host.data_ptr<int32_t>());
  // From pageable memory CUDA takes what it copies before it returns.
  documents.begins = host.to(q.device(), /*non_blocking=*/true);
  return documents;
}

// What both passes of Flash attention are told.
struct FlashCall {
  int64_t longest;
  double scale;
  std::optional<int64_t> left, right;

  FlashCall(const Documents& documents, const at::Tensor& q, int64_t window)
      // With single tokens alone the kernel would take another path, which gives the sums in another layout.
      : longest(std::max<int64_t>(2, documents.longest)), scale(1 / std::sqrt(static_cast<double>(q.size(3)))) {
    if (window > 0) left = window - 1, right = 0;  // it counts the keys before the query's own
  }
};

constexpr int64_t kHeadUnit = 8, kWidestHead = 256;  // Flash attention's limits on the head's width

// [B, T, H, D] -> [B·T, H, D rounded up to the unit with zeros, which change no product]
at::Tensor flash_operand(const at::Tensor& x) {
  const int64_t width = x.size(3), padding = (kHeadUnit - width % kHeadUnit) % kHeadUnit;
  if (width > kWidestHead)
    throw Error(ErrorKind::shape, "got heads of " + std::to_string(width) + ", want at most " +
                                      std::to_string(kWidestHead) + " on a GPU in a 16-bit dtype")
        .key("ft::attention");
  const at::Tensor flat = x.reshape({-1, x.size(2), width});
  return (padding == 0 ? flat : at::constant_pad_nd(flat, {0, padding})).contiguous();
}

at::Tensor from_flash(const at::Tensor& y, const at::Tensor& like) {
  return y.narrow(2, 0, like.size(3)).reshape(like.sizes());
}

// fp32. The memory-efficient kernel takes one batch of all tokens and as many key as query heads.
constexpr int64_t kCausal = 1;  // its custom_mask_type: each document's own diagonal

// [B, T, Hkv, D] -> [1, B·T, H, D], each head as often as queries share it
at::Tensor efficient_operand(const at::Tensor& x, int64_t heads) {
  const int64_t own = x.size(2), width = x.size(3);
  const at::Tensor flat = x.reshape({1, -1, own, 1, width});
  return flat.expand({1, flat.size(1), own, heads / own, width}).reshape({1, flat.size(1), heads, width}).contiguous();
}

// The way back for gradients: a shared head's are summed.
at::Tensor from_efficient(const at::Tensor& g, const at::Tensor& like) {
  const int64_t own = like.size(2), shared = g.size(2) / own;
  if (shared == 1) return g.reshape(like.sizes());
  return g.view({g.size(1), own, shared, g.size(3)}).sum(2).view(like.sizes());
}

std::optional<int64_t> efficient_window(int64_t window) { return window > 0 ? std::optional(window) : std::nullopt; }

bool is_half(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf; }

}  // namespace

std::tuple<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::IntArrayRef lengths, int64_t window) {
  const c10::cuda::CUDAGuard guard(q.device());
  const Documents documents = lay_out(q, lengths, window);
  if (q.numel() == 0) return {at::empty_like(q), at::empty({0}, q.options().dtype(at::kFloat))};
  if (is_half(q)) {
    const FlashCall call(documents, q, window);
    const auto result = at::_flash_attention_forward(flash_operand(q), flash_operand(k), flash_operand(v),
                                                     documents.begins, documents.begins, call.longest, call.longest,
                                                     /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false,
                                                     call.scale, call.left, call.right);
    return {from_flash(std::get<0>(result), q), std::get<1>(result)};
  }
  const int64_t heads = q.size(2);
  const auto result = at::_efficient_attention_forward(
      efficient_operand(q, heads), efficient_operand(k, heads), efficient_operand(v, heads), /*bias=*/std::nullopt,
      documents.begins, documents.begins, documents.longest, documents.longest, /*dropout_p=*/0.0, kCausal,
      /*compute_log_sumexp=*/true, /*scale=*/std::nullopt, /*seqlen_k=*/std::nullopt, efficient_window(window));
  return {std::get<0>(result).view(q.sizes()), std::get<1>(result)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(const at::Tensor& grad, const at::Tensor& q,
                                                                  const at::Tensor& k, const at::Tensor& v,
                                                                  const at::Tensor& out, const at::Tensor& lse,
                                                                  at::IntArrayRef lengths, int64_t window) {
  const c10::cuda::CUDAGuard guard(q.device());
  const Documents documents = lay_out(q, lengths, window);
  if (q.numel() == 0) return {at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  if (is_half(q)) {
    const FlashCall call(documents, q, window);
    const OrderedSums in_order;
    // The random state is read for dropout alone.
    const at::Tensor no_random = at::empty({2}, q.options().dtype(at::kUInt64));
    const auto [gq, gk, gv] = at::_flash_attention_backward(
        flash_operand(grad), flash_operand(q), flash_operand(k), flash_operand(v), flash_operand(out), lse,
        documents.begins, documents.begins, call.longest, call.longest, /*dropout_p=*/0.0, /*is_causal=*/true,
        no_random, no_random, call.scale, call.left, call.right);
    return {from_flash(gq, q), from_flash(gk, k), from_flash(gv, v)};
  }
  const int64_t heads = q.size(2);
  const at::Tensor no_random = at::empty({}, at::TensorOptions(at::kLong));
  // One split of the keys: more would add to the queries' gradients in no fixed order.
  const auto [gq, gk, gv, unused] = at::_efficient_attention_backward(
      efficient_operand(grad, heads), efficient_operand(q, heads), efficient_operand(k, heads),
      efficient_operand(v, heads), /*bias=*/std::nullopt, efficient_operand(out, heads), documents.begins,
      documents.begins, documents.longest, documents.longest, lse, /*dropout_p=*/0.0, no_random, no_random, kCausal,
      /*bias_requires_grad=*/false, /*scale=*/std::nullopt, /*num_splits_key=*/1, efficient_window(window));
  return {gq.view(q.sizes()), from_efficient(gk, k), from_efficient(gv, v)};
}

}  // namespace ft::cuda
