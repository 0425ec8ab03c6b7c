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
  Linear& output = add_child(builder.part<Linear>(description, "output", ""));
  weight_ = &output.weight();
  if (output.parameters().size() != 1)
    throw Error(ErrorKind::config, "the head takes neither a bias nor LoRA")
        .key(output.name())
        .help("leave it out of adapter.target_modules");
}

at::Tensor Head::forward(const at::Tensor& x_in, const Context& context) {
  at::Tensor x = x_in;
  if (context.last.defined()) x = x.index({at::arange(x.size(0), at::kLong), context.last}).unsqueeze(1);
  x = norm_->forward(x, context);
  if (context.targets.defined())
    return ops::linear_cross_entropy(x, weight_->value, context.targets, context.loss_scale, name());
  return ops::linear(x, {.value = weight_->value}, {}, {}, name()).to(at::kFloat);
}

}  // namespace ft
