#include "engine/layers/embedding_lora.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/matmul.h>

#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/layers/linear.h"
#include "engine/parallel/scalar_type.h"

namespace ft {

EmbeddingLora::EmbeddingLora(Builder& builder, const std::string& name, int64_t tokens, int64_t dim)
    : Module(name), compute_(scalar_type(builder.options().compute)) {
  const LoraOptions& lora = *builder.options().lora;
  const auto refuse = [&](const char* key, const char* why) {
    throw Error(ErrorKind::config, std::string("is not done on embeddings") + why)
        .key(key)
        .help("leave " + name + " out of target_modules, or train it whole by modules_to_save");
  };
  if (lora.use_dora) refuse("adapter.use_dora", "");
  if (lora.lora_bias) refuse("adapter.lora_bias", ", by PEFT neither");
  if (builder.tensor().split()) refuse("adapter.target_modules", " whose rows tensor parallelism shares out");
  const LoraShape shape = builder.lora_shape(name);
  scale_ = shape.scale;
  dropout_ = lora.dropout;
  a_ = &add_parameter(name + ".lora_embedding_A", {shape.r, tokens}, Storage::trainable, {});
  b_ = &add_parameter(name + ".lora_embedding_B", {dim, shape.r}, Storage::trainable, {Init::Kind::normal, 1.0});
}

at::Tensor EmbeddingLora::forward(const at::Tensor& tokens, const Context&) {
  for (const Parameter* p : {a_, b_}) check_gathered(p->value, name());
  const at::Tensor rows = at::embedding(a_->value.t(), tokens).to(compute_);
  return at::matmul(rows, in_dtype(b_->value, compute_).t()).mul(scale_);
}

ops::LowRank EmbeddingLora::to_logits(const at::Tensor& x, const Context& context) const {
  at::Tensor dropped = x;
  if (context.training && dropout_ > 0) {
    const at::Tensor keys = token_keys(context, context.positions.size(0), context.positions.size(1), name());
    dropped = ops::counter_dropout(x, keys.to(x.device(), /*non_blocking=*/true), dropout_);
  }
  return {at::matmul(dropped, in_dtype(b_->value, x.scalar_type())).mul(scale_), a_->value.t()};
}

}  // namespace ft
