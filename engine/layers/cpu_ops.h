#pragma once
/// CPU kernels behind the ops of ops.h, as the dispatcher knows them: no gradients here. Inputs need not be contiguous.
/// Results do not depend on the number of threads: sums over tokens are made in fixed chunks, in order.

#include <ATen/core/Tensor.h>

#include <tuple>

namespace ft {
struct AttentionSlice;
}

namespace ft::cpu {

/// Logits of the loss that stand at one time.
inline constexpr int64_t kLogitBytes = int64_t{64} << 20;

/// Whether attention multiplies a slice of half-precision tensors in fp32 (attention_cpu.cpp says why).
bool attends_in_fp32(const AttentionSlice& slice);

std::tuple<at::Tensor, at::Tensor> rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, double eps);
/// @return gradients of x and weight (fp32); an undefined tensor where not wanted.
std::tuple<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad, const at::Tensor& x,
                                                     const at::Tensor& weight, const at::Tensor& rstd, bool want_x,
                                                     bool want_weight);
/// Backward is the same with inverse = true.
at::Tensor rope_forward(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, const at::Tensor& positions,
                        bool inverse);
at::Tensor swiglu_forward(const at::Tensor& gate, const at::Tensor& up);
std::tuple<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& grad, const at::Tensor& gate,
                                                   const at::Tensor& up);
/// Dropout's backward is dropout of the gradient.
at::Tensor dropout_forward(const at::Tensor& x, const at::Tensor& keys, double p);
/// into += dropout(x)
void dropout_add(at::Tensor into, const at::Tensor& x, const at::Tensor& keys, double p);

/// @param window keys that a query sees, its own among them; 0: all of its document's past.
/// @return out [B, T, H, D] and the logarithms of the softmax sums [B, H, T] fp32.
std::tuple<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::IntArrayRef documents, int64_t window);
std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(const at::Tensor& grad, const at::Tensor& q,
                                                                  const at::Tensor& k, const at::Tensor& v,
                                                                  const at::Tensor& out, const at::Tensor& lse,
                                                                  at::IntArrayRef documents, int64_t window);

/// Attention of the queries over some of their keys, merged into what other keys gave (online softmax, in fp32).
/// @param out [B, T, H, D], lse [B, H, T] fp32: mean of the values seen so far, and the logarithm of its softmax sum;
/// 0 and -inf at first   @param q [B, T, H, D]   @param k,v [B, T, Hkv, D]
/// @param slices as AttentionSlice::pack makes them; they may cross row by row, not within one query and key
void attention_part(at::Tensor out, at::Tensor lse, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    at::IntArrayRef slices);
/// Adds the gradients that come of these keys to gq, gk and gv (fp32).   @param out,lse over all keys, out in q's dtype
void attention_part_backward(at::Tensor gq, at::Tensor gk, at::Tensor gv, const at::Tensor& grad, const at::Tensor& q,
                             const at::Tensor& k, const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                             at::IntArrayRef slices);

/// NF4 group records to [rows, columns] in `dtype` (fp32, fp16 or bf16).
at::Tensor nf4_dequantize(const at::Tensor& records, int64_t rows, int64_t columns, double nested_offset,
                          bool double_quant, at::ScalarType dtype);
/// x of any shape (fp32, fp16 or bf16) to records of the flattened tensor, uint8 [groups, bytes of a record], and its
/// nested offset, 0 without double_quant.   @throws Error(format) where x holds NaN or infinity.
std::tuple<at::Tensor, double> nf4_quantize(const at::Tensor& x, bool double_quant);

/// @param low,up the low-rank term that is added to the logits, low·upᵀ: [.., r] in x's dtype and [V, r], or neither.
/// @return the loss (fp32 scalar), then the gradients of x and low in their dtype, of up in fp32 and of weight in fp32
/// or, where the logits are one chunk and nothing is summed, in x's dtype; undefined where not wanted: (loss, x,
/// weight, low, up).
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> linear_cross_entropy_forward(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const std::optional<at::Tensor>& low,
    const std::optional<at::Tensor>& up, double scale, bool want_x, bool want_weight);

}  // namespace ft::cpu
