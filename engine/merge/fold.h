#pragma once
/// The arithmetic of folding LoRA into a weight: W + scale·(B·A) in fp32 (Hu et al., "LoRA", 2021; PEFT's
/// get_delta_weight and merge). Pure, safe from any thread on ranges that do not overlap.

#include <cstdint>

namespace ft {

/// A flat range of a weight [out, in] and the adapter's parts that reach into it.
struct FoldRange {
  int64_t in = 0;            ///< columns of the weight
  int64_t rank = 0;          ///< r
  int64_t begin = 0;         ///< first element, counted in the flattened weight
  int64_t count = 0;         ///< elements
  const float* a = nullptr;  ///< fp32 [r, in], whole
  const float* b = nullptr;  ///< fp32 [rows, r]: the rows that the range touches, from row begin / in on
  float scale = 0;
};

/// Adds scale·(B·A) to `weight`, fp32 [count]. Sums over r go in order, without fused multiply-add: the same bits on
/// every CPU, however the weight is cut.
void fold_lora(const FoldRange& range, float* weight);

}  // namespace ft
