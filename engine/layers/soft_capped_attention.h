#pragma once
/// Attention whose scores are capped, c · tanh(score / c), as Gemma 2 has it: no fused kernel of LibTorch's does this.
/// Made of ATen's ops for every device, a bounded stretch of queries at a time; the backward computes the scores again,
/// so that nothing of the size of scores is kept. Called by attend() and by the KV cache.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ft {

/// Causal attention inside documents; arguments as ops::attention takes them.   @param cap above 0   @return [B, T, H,
/// D]
at::Tensor soft_capped_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 at::IntArrayRef documents, int64_t window, double cap);

/// The same of queries that see what a mask says. Has no backward.
/// @param q [B, H, n, D]   @param k,v [B, Hkv, keys, D]   @param seen bool [B or 1, 1, n, keys]   @return [B, H, n, D]
at::Tensor soft_capped_rows(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& seen,
                            double cap);

}  // namespace ft
