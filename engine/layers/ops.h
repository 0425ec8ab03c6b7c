#pragma once
/// The engine's own differentiable ops, declared to the Torch dispatcher as ft::NAME (ops.cpp), so that Lua calls them
/// by schema; layers call the functions below. Each is one autograd node over device kernels that the dispatcher
/// chooses (ft::NAME_forward, ft::NAME_backward: op_signatures.h; CUDA's come with the plugin). Nodes save views of
/// parameters, never copies or pointers: a parameter's storage may be taken away between forward and backward and put
/// back before it. `owner` names the unit for the check that it is there; "" from Lua. Shapes: B rows, T tokens a row,
/// N = B·T, D width, H heads, V vocabulary. Compute dtype: that of x, fp32, bf16 or fp16.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace ft::ops {

/// y = x / sqrt(mean(x², −1) + eps) · weight, fp32 inside.   @param x [.., D]   @param weight [D], any float dtype
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, const std::string& owner = {});

/// Rotary positions as Hugging Face lays them out: pairs (i, i + D/2).
/// @param x [B, T, H, D]   @param cos,sin fp32 [P, D/2]   @param positions [B, T] int64 below P
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, const at::Tensor& positions);

/// silu(gate) · up, computed again in the backward.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

/// Causal attention inside documents; grouped key and value heads are not repeated in memory.
/// @param q [B, T, H, D]   @param k,v [B, T, Hkv, D], H a multiple of Hkv
/// @param documents lengths in order, row after row; each row's sum to T
/// @param window keys that a query sees, its own among them, as transformers counts it; 0: all of its document's past
/// @return [B, T, H, D]
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef documents,
                     int64_t window = 0);

/// x with features dropped by a hash of (token's key, feature), the rest scaled by 1/(1-p).
/// @param x [.., D]   @param keys int64, one a token
at::Tensor counter_dropout(const at::Tensor& x, const at::Tensor& keys, double p);

/// Rows of the table in `dtype`.   @param weight [V, D]   @param tokens int64   @return [.., D]
at::Tensor embedding(const at::Tensor& weight, const at::Tensor& tokens, at::ScalarType dtype,
                     const std::string& owner = {});

/// A frozen or trained base weight: dense [out, in] of any float dtype, or NF4 group records (engine/quant/nf4.h).
struct BaseWeight {
  at::Tensor value;  ///< [out, in], or uint8 [groups, bytes of a record]
  bool nf4 = false;
  int64_t out_features = 0;  ///< nf4 only, as the rest
  double nested_offset = 0;
  bool double_quant = true;
};

/// Low-rank addition to a linear, as in Hu et al., "LoRA", 2021.
struct LoraTerm {
  at::Tensor a, b;  ///< [r, in], [out, r]; undefined: none
  double scale = 1;
  at::Tensor dropout_keys;  ///< int64, one a token; undefined: no dropout
  double dropout_p = 0;
  at::Tensor magnitude{};  ///< [out]: DoRA (dora.h); undefined: LoRA
};

/// The rows' norms of base + scale·B·A, fp32 [out]: what DoRA's magnitudes begin as.
/// @param shape of the weight, [out, in]
at::Tensor row_norms(const BaseWeight& weight, at::IntArrayRef shape, const LoraTerm& lora);

/// y = x·Wᵀ + scale·(dropout(x)·Aᵀ)·Bᵀ (+ bias) as one node. An NF4 weight is dequantized for its GEMM and again in the
/// backward; no full-precision copy of it is kept. Gradients are computed only where they are needed.
/// @param x [.., in]   @param bias [out] or undefined   @return [.., out]
at::Tensor linear(const at::Tensor& x, const BaseWeight& weight, const at::Tensor& bias, const LoraTerm& lora,
                  const std::string& owner = {});

/// A low-rank addition low·upᵀ.
struct LowRank {
  at::Tensor low, up;  ///< [.., r] in the compute dtype, [out, r]; undefined: none
};

/// scale · Σ over tokens of −log softmax(x·Wᵀ)[target], tokens with target −100 left out; fp32 scalar, summed in fp64.
/// Logits exist for a chunk of tokens at a time (64 MB at most); gradients are computed on the way.
/// @param x [.., D]   @param weight [V, D]   @param targets int64, one a token
/// @param addition to x·Wᵀ: what LoRA on the head comes to.
at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, double scale,
                                const std::string& owner = {}, const LowRank& addition = {});

}  // namespace ft::ops
