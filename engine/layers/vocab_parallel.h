#pragma once
/// The two ops that a vocabulary shared out over the tensor group's ranks needs: each holds some rows of the embedding
/// or of the head's weight. No rank ever has all logits of a token. Collective, in the forward alone. Made of ATen's
/// ops, so that the loss also serves logits that are capped, on any number of ranks.

#include "engine/layers/ops.h"
#include "engine/layers/tensor_axis.h"

namespace ft {

/// How logits become a loss.
struct LossOptions {
  double scale = 1;    ///< of the sum of losses
  double softcap = 0;  ///< c: logits become c · tanh(logit / c); 0: they stay
};

/// ops::linear_cross_entropy with weight rows [rank · V/size, …) on this rank: the largest logit, the sum of
/// exponentials and the target's logit of each token are reduced over the ranks, so that each returns the same loss.
/// Gradients of x and of the addition's `low` are this rank's parts of sums over ranks.
/// @param x [.., D], the same on every rank   @param weight [V/size, D]   @param targets int64 below V, one a token
at::Tensor vocab_parallel_cross_entropy(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets,
                                        const LossOptions& options, const ops::LowRank& addition,
                                        const TensorAxis& axis);

/// Rows of the tokens that this rank holds, zeros for the others': summed over the ranks they are the lookup. Not
/// collective.   @param weight [V/size, D]   @param tokens [B, T] int64   @return [B, T, D]
/// @throws Error(shape) for a token that no rank has.
at::Tensor vocab_parallel_embedding(const at::Tensor& weight, const at::Tensor& tokens, at::ScalarType dtype,
                                    const std::string& owner, const TensorAxis& axis);

}  // namespace ft
