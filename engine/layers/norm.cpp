#include "engine/layers/norm.h"

#include <ATen/ops/mul.h>
#include <ATen/ops/native_layer_norm.h>

#include "engine/layers/compute.h"
#include "engine/layers/ops.h"

namespace ft {

RmsNorm::RmsNorm(Builder& builder, const Value& description, const std::string& parent)
    : Module(module_path(parent, description.at("name").as_string())),
      eps_(description.get("eps", 1e-6)),
      offset_(description.get("offset", 0.0)) {
  weight_ = &add_parameter(name() + ".weight", {description.at("dim").as_integer()}, builder.base_storage(),
                           {offset_ == 0 ? Init::Kind::ones : Init::Kind::zeros}, builder.tensor().whole());
}

at::Tensor RmsNorm::forward(const at::Tensor& x, const Context&) {
  if (offset_ == 0) return ops::rms_norm(x, weight_->value, eps_, name());
  check_gathered(weight_->value, name());
  // In fp32: half dtypes have no room for a small weight beside the 1.
  return ops::rms_norm(x, weight_->value.to(at::kFloat).add(offset_), eps_, name());
}

LayerNorm::LayerNorm(Builder& builder, const Value& description, const std::string& parent)
    : Module(module_path(parent, description.at("name").as_string())), eps_(description.get("eps", 1e-5)) {
  const LinearSplit split = builder.take_split();
  const int64_t dim = description.at("dim").as_integer(), heads = description.get("heads", 0);
  const bool cut = heads > 0 && split.by == LinearSplit::By::out;
  std::vector<int64_t> shape{dim};
  if (heads > 0) shape.insert(shape.begin(), heads / split.parts);
  const TensorAxis& tensor = builder.tensor();
  weight_ = &add_parameter(name() + ".weight", shape, builder.base_storage(), {Init::Kind::ones},
                           cut ? tensor.slice(0, split.index, split.parts) : tensor.whole());
}

at::Tensor LayerNorm::forward(const at::Tensor& x, const Context&) {
  check_gathered(weight_->value, name());
  const at::Tensor normed = std::get<0>(at::native_layer_norm(x.to(at::kFloat), {x.size(-1)}, {}, {}, eps_));
  return at::mul(normed, weight_->value.to(at::kFloat)).to(x.scalar_type());
}

}  // namespace ft
