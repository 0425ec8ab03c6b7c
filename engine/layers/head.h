#pragma once
/// The last unit: final norm, then the loss straight from hidden states, or logits. With tied embeddings it reads the
/// embedding's weight, which unit 0 owns. Under tensor parallelism each rank has some rows of the weight: the loss is
/// made without gathering logits.

#include "engine/layers/builder.h"
#include "engine/layers/embedding_lora.h"
#include "engine/layers/linear.h"

namespace ft {

class Head : public Module {
 public:
  /// @param description keys norm (a block), output (linear), or tied = true in its stead; logit_scale (1),
  /// softcap (c: logits become c · tanh(logit / c); 0: none)
  /// @param embedding the weight to borrow where tied
  Head(Builder& builder, const Value& description, Parameter& embedding);

  /// @return loss_scale · Σ nll over context.targets (fp32 scalar), or logits fp32 [B, T, V]; [B, 1, V] with
  /// context.last.
  at::Tensor forward(const at::Tensor& x, const Context& context) override;
  bool tied() const { return tied_; }
  /// A tied head's logits take up what LoRA on the embedding comes to.
  void share(const EmbeddingLora& lora) { shared_lora_ = &lora; }

 private:
  at::Tensor logits(const at::Tensor& x, const Context& context);
  ops::LowRank addition(const at::Tensor& x, const Context& context) const;

  bool tied_;
  double logit_scale_, softcap_;
  TensorAxis tensor_;
  Module* norm_ = nullptr;
  Linear* output_ = nullptr;     // null where tied
  Parameter* weight_ = nullptr;  // the output's, or the embedding's
  const EmbeddingLora* shared_lora_ = nullptr;
};

}  // namespace ft
