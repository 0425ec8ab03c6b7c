#pragma once
/// The tensor axis as layers see it: the ranks that share each layer's matrices (Shoeybi et al., "Megatron-LM", 2019).
/// Column-parallel linears make some of the features, row-parallel ones take those in and make partial sums. Between
/// blocks tokens are split over the ranks, norms and residuals work on a share of them (Korthikanti et al., "Reducing
/// Activation Recomputation in Large Transformer Models", 2022): gathered before column-parallel linears, summed and
/// scattered after row-parallel ones. Made by ShardedModel, handed to layers by their Builder.
///
/// Rank rule: all functions but share() are collective over the group, in the forward and again in the backward, which
/// runs on the schedule's thread; every rank walks the same graph, so the order is the same everywhere.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "engine/parallel/parameter.h"
#include "engine/parallel/process_group.h"

namespace ft {

struct TensorAxis {
  int64_t rank = 0, size = 1;
  ProcessGroup* group = nullptr;  ///< null on one rank, and where a model is only described; outlives the model

  bool split() const { return size > 1; }
  /// What every rank of the group has whole.
  TensorSlice whole() const { return {.copies = size, .copy = rank}; }
  /// Part `index` of `parts` along `dim`; size / parts neighbours have the same.
  TensorSlice slice(size_t dim, int64_t index, int64_t parts) const {
    return {dim, index, parts, size / parts, rank % (size / parts)};
  }
  /// whole / size.   @throws Error(config) naming the module and the sizes that fit where it does not divide.
  int64_t share(int64_t whole, const char* what, const std::string& module) const;
  /// Refuses a block that cannot be shared.   @param fits whether a number of ranks would do
  template <class Fits>
  void require(const Fits& fits, int64_t most, const std::string& what, const std::string& module) const {
    if (fits(size)) return;
    std::string sizes;
    for (int64_t ranks = 2; ranks <= most; ++ranks)
      if (fits(ranks)) sizes += (sizes.empty() ? "" : ", ") + std::to_string(ranks);
    refuse(what, module, sizes);
  }

 private:
  [[noreturn]] void refuse(const std::string& what, const std::string& module, const std::string& sizes) const;
};

/// This rank's share of the tokens, [1, n, D], padded with zeros where they do not divide -> all tokens [B, T, D].
/// Backward: sums the ranks' gradients in fp32 and leaves each its share. One rank: x itself, as below.
at::Tensor gather_tokens(const at::Tensor& x, const TensorAxis& axis, int64_t rows, int64_t tokens);

/// Sums the ranks' [B, T, D] in fp32, in rank order; each gets its share [1, n, D] in x's dtype. Backward: gathers.
at::Tensor sum_and_scatter_tokens(const at::Tensor& x, const TensorAxis& axis);

/// This rank's share of what all ranks hold alike, one a token: [B, T] -> [1, n], padded with zeros. Not collective.
at::Tensor own_tokens(const at::Tensor& whole, const TensorAxis& axis);

/// [.., d] -> [.., size · d], the ranks' features side by side. Has no backward.
at::Tensor gather_features(const at::Tensor& x, const TensorAxis& axis);

}  // namespace ft
