#pragma once
/// The norms that decoders are stated from. Built by Builder; a norm over heads or over a whole projection is made by
/// the attention block, which tells how the tensor group's ranks share it.

#include "engine/layers/builder.h"

namespace ft {

/// Root mean square norm over the last dim, times weight + offset.
class RmsNorm : public Module {
 public:
  /// @param description keys name, dim, eps (1e-6), offset (0: weights around 1; Gemma's are around 0, with an offset
  /// of 1)
  RmsNorm(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  double eps_, offset_;
  Parameter* weight_ = nullptr;
};

/// Mean taken off, divided by the standard deviation over the last dim, times weight: no bias. In fp32, as
/// transformers' CohereLayerNorm.
class LayerNorm : public Module {
 public:
  /// @param description keys name, dim, eps (1e-5), heads (0: none): one weight [heads, dim] for x [.., heads, dim]
  LayerNorm(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  double eps_;
  Parameter* weight_ = nullptr;
};

}  // namespace ft
