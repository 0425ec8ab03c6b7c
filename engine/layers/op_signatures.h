#pragma once
/// What the ops that the dispatcher chooses by device take and return, once for all devices: function types, of which
/// cpu_ops.h, cuda_ops.h and meta_ops.h declare their kernels (`signature::SwigluForward swiglu_forward;`) and
/// DeviceOp makes its handles. The schemas are in ops.cpp. No gradients here: autograd's nodes call these. Inputs need
/// not be contiguous. Shapes: as ops.h.

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace ft::signature {

/// @return y and rstd, 1 / sqrt(mean(x², −1) + eps), fp32 [rows of x].
using RmsNormForward = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& x, const at::Tensor& weight, double eps);
/// @return gradients of x and weight (fp32); an undefined tensor where not wanted.
using RmsNormBackward = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& grad, const at::Tensor& x,
                                                           const at::Tensor& weight, const at::Tensor& rstd,
                                                           bool want_x, bool want_weight);
/// Backward is the same with inverse = true.
using RopeForward = at::Tensor(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                               const at::Tensor& positions, bool inverse);
using SwigluForward = at::Tensor(const at::Tensor& gate, const at::Tensor& up);
/// @return gradients of gate and up.
using SwigluBackward = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& grad, const at::Tensor& gate,
                                                          const at::Tensor& up);
/// Dropout's backward is dropout of the gradient.
using DropoutForward = at::Tensor(const at::Tensor& x, const at::Tensor& keys, double p);
/// into += dropout(x)
using DropoutAdd = void(at::Tensor into, const at::Tensor& x, const at::Tensor& keys, double p);

/// @param window keys that a query sees, its own among them; 0: all of its document's past.
/// @return out [B, T, H, D] and the logarithms of the softmax sums, fp32: [B, H, T], or as the device's backward wants
/// them.
using AttentionForward = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k,
                                                            const at::Tensor& v, at::IntArrayRef documents,
                                                            int64_t window);
/// @param out,lse what the forward returned   @return gradients of q, k and v.
using AttentionBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor& grad, const at::Tensor& q,
                                                                         const at::Tensor& k, const at::Tensor& v,
                                                                         const at::Tensor& out, const at::Tensor& lse,
                                                                         at::IntArrayRef documents, int64_t window);

/// Attention of the queries over some of their keys, merged into what other keys gave (online softmax, in fp32).
/// @param out [B, T, H, D], lse [B, H, T] fp32: mean of the values seen so far, and the logarithm of its softmax sum;
/// 0 and -inf at first   @param q [B, T, H, D]   @param k,v [B, T, Hkv, D]
/// @param slices as AttentionSlice::pack makes them; they may cross row by row, not within one query and key
using AttentionPart = void(at::Tensor out, at::Tensor lse, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, at::IntArrayRef slices);
/// Adds the gradients that come of these keys to gq, gk and gv (fp32).   @param out,lse over all keys, out in q's dtype
using AttentionPartBackward = void(at::Tensor gq, at::Tensor gk, at::Tensor gv, const at::Tensor& grad,
                                   const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                                   const at::Tensor& lse, at::IntArrayRef slices);

/// NF4 group records to [rows, columns] in `dtype` (fp32, fp16 or bf16).
using Nf4Dequantize = at::Tensor(const at::Tensor& records, int64_t rows, int64_t columns, double nested_offset,
                                 bool double_quant, at::ScalarType dtype);
/// x of any shape (fp32, fp16 or bf16) to records of the flattened tensor, uint8 [groups, bytes of a record], and its
/// nested offset, 0 without double_quant.   @throws Error(format) where x holds NaN or infinity.
using Nf4Quantize = std::tuple<at::Tensor, double>(const at::Tensor& x, bool double_quant);

/// @param low,up the low-rank term that is added to the logits, low·upᵀ: [.., r] in x's dtype and [V, r], or neither.
/// @return the loss (fp32 scalar), then the gradients of x and low in their dtype, of up in fp32 and of weight in fp32
/// or, where the logits are one chunk and nothing is summed, in x's dtype; undefined where not wanted: (loss, x,
/// weight, low, up).
using LinearCrossEntropyForward = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const std::optional<at::Tensor>& low,
    const std::optional<at::Tensor>& up, double scale, bool want_x, bool want_weight);

}  // namespace ft::signature
