#pragma once
/// Log-probabilities of tokens straight from hidden states: what a loss over sequences (DPO) starts from, as the
/// cross-entropy head is of tokens. Logits exist for a chunk of tokens at a time, and only where there is a target;
/// the backward makes them again. Made of ATen's ops: any device. Called by the head.

#include <ATen/core/Tensor.h>

#include <string>

#include "engine/layers/ops.h"

namespace ft::ops {

/// The last layer: logits are x·Wᵀ, and low·upᵀ of LoRA on it, capped to softcap · tanh(logit / softcap) unless 0.
struct LogitHead {
  at::Tensor weight;  ///< [V, D]
  LowRank addition{};
  double softcap = 0;
  std::string owner{};
};

/// log softmax(logits)[target] of each token, 0 where the target is -100; fp32, of the targets' shape. One autograd
/// node; gradients come for x, the addition, and the weight where it is trained.
/// @param x [.., D]   @param targets [..] int64
at::Tensor token_log_probs(const at::Tensor& x, const LogitHead& head, const at::Tensor& targets);

}  // namespace ft::ops
