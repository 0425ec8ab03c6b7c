#pragma once
/// The attention block of a decoder layer: projections, norms, rotary positions, and attention over what the context
/// says (attention.h, kv_cache.h). Built by Builder.

#include "engine/layers/attention.h"
#include "engine/layers/builder.h"
#include "engine/layers/linear.h"

namespace ft {

/// Causal self-attention with grouped heads. Under tensor parallelism each rank has some of the query heads, and the
/// key-value heads that these look at: ranks share one where there are fewer of them.
class Attention : public Module {
 public:
  /// @param description keys name, heads, kv_heads, head_dim, and blocks q, k, v, o (linear), or qkv in the stead of
  /// three (their features one after another). Optional: rope (RopeOptions; absent: tokens have no positions),
  /// rotary_dim (features of a head that are rotated, the first ones; head_dim), interleaved (false: feature i is
  /// rotated with i + rotary_dim/2; true: with its neighbour), window (tokens that a query sees, itself among them; 0:
  /// all), scale (of scores; head_dim^-0.5), softcap (c: they become c · tanh(score / c); 0), norms q_norm, k_norm
  /// (over each head, or over all heads where their dim says so).
  Attention(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  struct Projections {
    at::Tensor q, k, v;  // [B, T, features of this rank's heads]
  };
  void check_sizes() const;
  void read_rope(Builder& builder, const Value& description);
  void make_linears(Builder& builder, const Value& description);
  Projections project(const at::Tensor& x, const Context& context);
  /// [B, T, heads * head_dim] -> [B, T, heads, head_dim], normed and rotated.
  at::Tensor placed(const at::Tensor& x, Module* norm, int64_t heads, const Context& context,
                    const Rotation* rotation) const;
  at::Tensor rotate(const at::Tensor& x, const Rotation& rotation) const;

  int64_t heads_, kv_heads_, head_dim_;  // heads: this rank's
  ScoreOptions scores_;
  int64_t rotary_dim_ = 0;  // 0: nothing is rotated
  bool interleaved_ = false, whole_norms_ = false;
  double query_scale_ = 1;  // what queries are multiplied by, where scores are not scaled by head_dim^-0.5
  TensorAxis tensor_;
  std::shared_ptr<RopeTable> rope_;
  Linear *q_ = nullptr, *k_ = nullptr, *v_ = nullptr, *qkv_ = nullptr, *o_ = nullptr;
  Module *q_norm_ = nullptr, *k_norm_ = nullptr;
};

}  // namespace ft
