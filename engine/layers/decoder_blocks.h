#pragma once
/// Native blocks that decoders are stated from: embedding, swiglu, and those that join others, chain, residual and sum
/// (norms, attention, linears and the head have files of their own). Each reads its own description; keys are named at
/// the constructors.

#include "engine/layers/builder.h"
#include "engine/layers/embedding_lora.h"
#include "engine/layers/linear.h"

namespace ft {

/// [B, T] tokens -> scale · their rows, [B, T, dim] in the compute dtype.
class Embedding : public Module {
 public:
  /// @param description keys name, vocab, dim, init_std (0.02), scale (1)
  Embedding(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& tokens, const Context& context) override;
  Parameter& weight() { return *weight_; }
  EmbeddingLora* lora() { return lora_; }  ///< null without
  int64_t vocab() const { return weight_->full_shape()[0]; }

 private:
  at::ScalarType compute_;
  TensorAxis tensor_;
  double scale_;
  Parameter* weight_ = nullptr;
  EmbeddingLora* lora_ = nullptr;
};

/// down(act(gate(x)) · up(x))
class Swiglu : public Module {
 public:
  /// @param description keys name, blocks gate, up, down (linear), or gate_up in the stead of two (the gate's features
  /// first); activation ("silu", or "gelu_tanh": GELU by its tanh approximation)
  Swiglu(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  TensorAxis tensor_;
  bool gelu_ = false;
  Linear *gate_ = nullptr, *up_ = nullptr, *gate_up_ = nullptr, *down_ = nullptr;
};

/// How a list of blocks makes one result.
enum class Join {
  chain,     ///< one after another
  residual,  ///< x + scale · the chain of x
  sum,       ///< what each makes of the same x, added up
};

/// Blocks that are joined. A name is optional: without one the blocks' names stand under the parent's.
class Joined : public Module {
 public:
  /// @param description keys name (none), blocks (a list), scale (1; residual only)
  Joined(Builder& builder, const Value& description, const std::string& parent, Join join);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  Join join_;
  double scale_;
  std::vector<Module*> blocks_;
};

}  // namespace ft
