#pragma once
/// Ring attention (Liu et al., "Ring Attention with Blockwise Transformers", 2023): every rank keeps its queries, and
/// keys and values travel round the ranks of the context group, in turn with the products. Parts are merged by the
/// logarithms of their softmax sums in fp32; in the backward the gradients of keys and values travel with them.
/// Rank rule: forward and backward are collective, with the same number of steps on every rank whatever is masked, so
/// running a unit again repeats them. Called by attend() alone.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "engine/data/sequence_split.h"
#include "engine/parallel/process_group.h"

namespace ft {

/// Who sees whom.
struct RingMask {
  std::vector<std::vector<int64_t>> documents;  ///< lengths in each whole row
  SequenceSplit split;                          ///< this rank's part of the rows
  int64_t window = 0;                           ///< 0: none
};

/// The same bits on every run: parts are merged, and gradients added, in the order of the ring.
/// @param q [B, T, H, D] of this rank's tokens   @param k,v [B, T, Hkv, D]   @return [B, T, H, D] in q's dtype
at::Tensor ring_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const RingMask& mask,
                          ProcessGroup& group);

}  // namespace ft
