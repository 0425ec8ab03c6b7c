#pragma once
/// Attention of a layer over what its context says: the rows at hand, or rows whose tokens lie on several ranks. Called
/// by the attention block; generation has a KV cache instead (kv_cache.h). Rank rule: collective over the context group
/// where rows are split, in the forward and again in the backward.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ft {

struct Context;

/// Causal attention inside documents of this rank's queries, over the keys of all ranks that hold a part of the rows.
/// @param q [B, T, H, D]   @param k,v [B, T, Hkv, D], H a multiple of Hkv   @param window as in ops::attention
/// @return [B, T, H, D]
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Context& context,
                  int64_t window);

}  // namespace ft
