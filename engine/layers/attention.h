#pragma once
/// Attention of a layer over what its context says: the rows at hand, or rows whose tokens lie on several ranks. Called
/// by the attention block; generation has a KV cache instead (kv_cache.h). Rank rule: collective over the context group
/// where rows are split, in the forward and again in the backward.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ft {

struct Context;

/// What becomes of the scores of queries and keys.
struct ScoreOptions {
  int64_t window = 0;  ///< tokens that a query sees, its own among them; 0: all before it
  double softcap = 0;  ///< c: scores become c · tanh(score / c); 0: they stay
};

/// Causal attention inside documents of this rank's queries, over the keys of all ranks that hold a part of the rows.
/// @param q [B, T, H, D]   @param k,v [B, T, Hkv, D], H a multiple of Hkv   @return [B, T, H, D]
/// @throws Error(config) for capped scores in a ring, whose parts are merged by sums of scores that are not.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Context& context,
                  const ScoreOptions& options);

}  // namespace ft
