#pragma once
/// LoRA on a table of rows, the embedding: A [r, tokens] holds a column for each token, B [dim, r] (Hu et al., 2021;
/// peft.tuners.lora.Embedding, which has no dropout here). With tied embeddings the head adds the same product to its
/// logits. Whole on every rank; no collectives.

#include "engine/layers/builder.h"
#include "engine/layers/ops.h"

namespace ft {

class EmbeddingLora : public Module {
 public:
  /// @param name the embedding's   @throws Error(config) for DoRA, biases and tensor parallelism, which it has not.
  EmbeddingLora(Builder& builder, const std::string& name, int64_t tokens, int64_t dim);

  /// What is added to the rows of [B, T] tokens: [B, T, dim] in the compute dtype.
  at::Tensor forward(const at::Tensor& tokens, const Context& context) override;
  /// What is added to a tied head's logits x·Wᵀ.   @param x [.., dim]
  ops::LowRank to_logits(const at::Tensor& x, const Context& context) const;

 private:
  at::ScalarType compute_;
  double scale_ = 1, dropout_ = 0;
  Parameter* a_ = nullptr;
  Parameter* b_ = nullptr;
};

}  // namespace ft
