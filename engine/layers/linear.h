#pragma once
/// A linear layer: dense or NF4 weight, optional bias, optional LoRA. One autograd node (ops::linear). Also the head's
/// weight, which the loss uses without calling forward.

#include "engine/layers/builder.h"
#include "engine/layers/ops.h"

namespace ft {

class Linear : public Module {
 public:
  /// @param description keys name, in, out, bias (false), init_std (0.02)
  Linear(Builder& builder, const Value& description, const std::string& parent);

  at::Tensor forward(const at::Tensor& x, const Context& context) override;  ///< [.., in] -> [.., out]
  Parameter& weight() { return *weight_; }
  bool has_bias() const { return bias_ != nullptr; }
  /// What LoRA adds to x·Wᵀ, for a caller that makes the product itself; nothing without LoRA.
  ops::LowRank low_rank(const at::Tensor& x, const Context& context) const;

 private:
  at::Tensor dropout_keys(const at::Tensor& x, const Context& context) const;

  int64_t in_, out_;
  double lora_scale_ = 1, lora_dropout_ = 0;
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;
  Parameter* lora_a_ = nullptr;
  Parameter* lora_b_ = nullptr;
};

/// Dropout's keys for a module, [B, T] int64: a hash of (seed, step, global row, position in the row, module).
at::Tensor token_keys(const Context& context, int64_t rows, int64_t tokens, const std::string& module);

}  // namespace ft
