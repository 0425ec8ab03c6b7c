#pragma once
/// DeepSpeed-Ulysses (Jacobs et al., 2023): before attention the ranks of a context group exchange tokens for heads, so
/// that each has whole rows of some heads, and after it they exchange back. Rank rule: both ways are collective, in the
/// forward and again in the backward. Made for one call by attend().

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "engine/data/sequence_split.h"
#include "engine/parallel/process_group.h"

namespace ft {

class Ulysses {
 public:
  Ulysses(const SequenceSplit& split, ProcessGroup& group) : split_(split), group_(&group) {}

  struct Heads {
    at::Tensor q, k, v;  ///< [B, length of whole rows, heads of this rank, D]
  };
  /// One all-to-all. Where there are fewer key-value heads than ranks, ranks whose queries share one get it each.
  /// @param q [B, T, H, D]   @param k,v [B, T, Hkv, D]
  /// @throws Error(config) where the ranks cannot share the heads evenly, with the sizes that can.
  Heads to_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const;
  /// The way back of what attention made of them: [B, length, heads of this rank, D] -> [B, T, H, D].
  at::Tensor to_tokens(const at::Tensor& x) const;

 private:
  at::Tensor in_order(const at::Tensor& received) const;

  SequenceSplit split_;
  ProcessGroup* group_;
};

}  // namespace ft
