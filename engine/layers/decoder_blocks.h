#pragma once
/// The native blocks that decoders are stated from, linear and head aside: embedding, rmsnorm, attention, swiglu, and
/// the two that join them, chain and residual. Each reads its own description; keys are named at the constructors.

#include "engine/layers/builder.h"
#include "engine/layers/linear.h"

namespace ft {

/// [B, T] tokens -> [B, T, dim] in the compute dtype.
class Embedding : public Module {
 public:
  /// @param description keys name, vocab, dim, init_std (0.02)
  Embedding(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& tokens, const Context& context) override;
  Parameter& weight() { return *weight_; }
  int64_t vocab() const { return weight_->full_shape()[0]; }

 private:
  at::ScalarType compute_;
  TensorAxis tensor_;
  Parameter* weight_ = nullptr;
};

/// Root mean square norm over the last dim.
class RmsNorm : public Module {
 public:
  /// @param description keys name, dim, eps (1e-6)
  RmsNorm(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  double eps_;
  Parameter* weight_ = nullptr;
};

/// Causal self-attention with grouped heads (under tensor parallelism each rank has some of the query heads, and the
/// key-value heads that these look at: ranks share one where there are fewer of them), rotary positions, a norm over
/// each head where q_norm and k_norm are given, and a window of tokens that a query sees, its own among them, where
/// `window` is.
class Attention : public Module {
 public:
  /// @param description keys name, heads, kv_heads, head_dim, rope (RopeOptions), window (0: none), blocks q, k, v, o
  /// (linear), q_norm, k_norm
  Attention(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  at::Tensor project(Linear& linear, RmsNorm* norm, int64_t heads, const at::Tensor& x, const Context& context,
                     const Rotation* rotation);

  void make_linears(Builder& builder, const Value& description);

  int64_t heads_, kv_heads_, head_dim_, window_;  // heads: this rank's
  TensorAxis tensor_;
  std::shared_ptr<RopeTable> rope_;
  Linear *q_ = nullptr, *k_ = nullptr, *v_ = nullptr, *o_ = nullptr;
  RmsNorm *q_norm_ = nullptr, *k_norm_ = nullptr;
};

/// down(silu(gate(x)) · up(x))
class Swiglu : public Module {
 public:
  /// @param description keys name, blocks gate, up, down (linear)
  Swiglu(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  TensorAxis tensor_;
  Linear *gate_ = nullptr, *up_ = nullptr, *down_ = nullptr;
};

/// Its blocks one after another; a residual adds its input to their result. A name is optional: without one the blocks'
/// names stand under the parent's.
class Chain : public Module {
 public:
  /// @param description keys name (none), blocks (a list)
  Chain(Builder& builder, const Value& description, const std::string& parent, bool residual);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  bool residual_;
  std::vector<Module*> blocks_;
};

}  // namespace ft
