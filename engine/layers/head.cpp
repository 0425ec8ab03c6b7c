#include "engine/layers/head.h"

#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/matmul.h>

#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/layers/ops.h"
#include "engine/layers/token_log_probs.h"
#include "engine/layers/vocab_parallel.h"

namespace ft {

Head::Head(Builder& builder, const Value& description, Parameter& embedding)
    : Module("lm_head"),
      tied_(description.get("tied", false)),
      logit_scale_(description.get("logit_scale", 1.0)),
      softcap_(description.get("softcap", 0.0)),
      tensor_(builder.tensor()) {
  norm_ = &add_child(builder.block(description.at("norm"), ""));
  if (tied_) {
    weight_ = &embedding;
    return;
  }
  tensor_.share(description.at("output").at("out").as_integer(), "rows of the vocabulary", name());
  output_ = &add_child(builder.part<Linear>(description, "output", "", builder.evenly(LinearSplit::By::out)));
  weight_ = &output_->weight();
  if (output_->has_bias()) throw Error(ErrorKind::config, "the head takes no bias").key(output_->name());
}

at::Tensor Head::forward(const at::Tensor& x_in, const Context& context) {
  at::Tensor x = x_in;
  if (tensor_.split())
    x = gather_tokens(norm_->forward(x, context), tensor_, context.positions.size(0), context.positions.size(1));
  if (context.last.defined()) x = x.index({at::arange(x.size(0), at::kLong), context.last}).unsqueeze(1);
  if (!tensor_.split()) x = norm_->forward(x, context);
  if (logit_scale_ != 1) x = x.mul(logit_scale_);  // logits are linear in it, and hidden states are fewer
  if (!context.targets.defined()) return logits(x, context);
  const ops::LowRank addition = this->addition(x, context);
  if (context.log_probs) {
    if (tensor_.split())
      throw Error(ErrorKind::config, "log-probabilities over a vocabulary that is split over ranks are not done")
          .key("parallel.mesh.tensor");
    return ops::token_log_probs(x, {weight_->value, addition, softcap_, name()}, context.targets);
  }
  if (!tensor_.split() && softcap_ == 0)
    return ops::linear_cross_entropy(x, weight_->value, context.targets, context.loss_scale, name(), addition);
  check_gathered(weight_->value, name());
  return vocab_parallel_cross_entropy(x, weight_->value, context.targets, {context.loss_scale, softcap_}, addition,
                                      tensor_);
}

/// What adapters add to x·Wᵀ.
ops::LowRank Head::addition(const at::Tensor& x, const Context& context) const {
  if (output_) return output_->low_rank(x, context);
  return shared_lora_ && context.adapter ? shared_lora_->to_logits(x, context) : ops::LowRank{};
}

at::Tensor Head::logits(const at::Tensor& x, const Context& context) {
  at::Tensor own = output_ ? output_->forward(x, context) : ops::linear(x, {.value = weight_->value}, {}, {}, name());
  if (const ops::LowRank more = tied_ ? addition(x, context) : ops::LowRank{}; more.low.defined())
    own = at::add(own, at::matmul(more.low, in_dtype(more.up, own.scalar_type()).t()));
  const at::Tensor exact = own.to(at::kFloat);
  return gather_features(softcap_ == 0 ? exact : exact.div(softcap_).tanh().mul(softcap_), tensor_);
}

}  // namespace ft
