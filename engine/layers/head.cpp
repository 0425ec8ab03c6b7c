#include "engine/layers/head.h"

#include <ATen/ops/arange.h>

#include "engine/error/error.h"
#include "engine/layers/ops.h"

namespace ft {

Head::Head(Builder& builder, const Value& description, Parameter& embedding)
    : Module("lm_head"), tied_(description.get("tied", false)) {
  norm_ = &add_child(builder.block(description.at("norm"), ""));
  if (tied_) {
    weight_ = &embedding;
    return;
  }
  output_ = &add_child(builder.part<Linear>(description, "output", ""));
  weight_ = &output_->weight();
  if (output_->has_bias()) throw Error(ErrorKind::config, "the head takes no bias").key(output_->name());
}

at::Tensor Head::forward(const at::Tensor& x_in, const Context& context) {
  at::Tensor x = x_in;
  if (context.last.defined()) x = x.index({at::arange(x.size(0), at::kLong), context.last}).unsqueeze(1);
  x = norm_->forward(x, context);
  if (context.targets.defined())
    return ops::linear_cross_entropy(x, weight_->value, context.targets, context.loss_scale, name(),
                                     output_ ? output_->low_rank(x, context) : ops::LowRank{});
  if (output_) return output_->forward(x, context).to(at::kFloat);
  return ops::linear(x, {.value = weight_->value}, {}, {}, name()).to(at::kFloat);
}

}  // namespace ft
