#include "engine/layers/linear.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>

#include <cmath>

#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/layers/ops.h"
#include "engine/tensor/counter_random.h"

namespace ft {

Linear::Linear(Builder& builder, const Value& description, const std::string& parent)
    : Module(module_path(parent, description.at("name").as_string())),
      in_(description.at("in").as_integer()),
      out_(description.at("out").as_integer()) {
  const ModelOptions& options = builder.options();
  const Init init{Init::Kind::normal, description.get("init_std", 0.02)};
  const bool nf4 = options.quantize_nf4 && builder.in_layers();
  if (nf4 && !options.lora)
    throw Error(ErrorKind::config, "an NF4 weight is frozen, and there is no adapter to train")
        .key("model.quantize")
        .help("add adapter = ft.lora {…}, or leave quantize out");
  weight_ = &add_parameter(name() + ".weight", {out_, in_}, nf4 ? Storage::nf4 : builder.base_storage(), init);
  weight_->double_quant = options.double_quant;
  if (description.get("bias", false)) bias_ = &add_parameter(name() + ".bias", {out_}, builder.base_storage(), {});
  if (!builder.adapt(name())) return;
  const LoraOptions& lora = *options.lora;
  const auto r = static_cast<double>(lora.r);
  lora_scale_ = lora.alpha / (lora.use_rslora ? std::sqrt(r) : r);
  lora_dropout_ = lora.dropout;
  // PEFT's kaiming_uniform with a = sqrt(5): uniform in ±1/sqrt(in).
  const Init uniform{Init::Kind::uniform, 1 / std::sqrt(static_cast<double>(in_))};
  lora_a_ = &add_parameter(name() + ".lora_A.weight", {lora.r, in_}, Storage::trainable, uniform);
  lora_b_ = &add_parameter(name() + ".lora_B.weight", {out_, lora.r}, Storage::trainable, {});
}

at::Tensor Linear::forward(const at::Tensor& x, const Context& context) {
  const bool nf4 = weight_->storage == Storage::nf4;
  const ops::BaseWeight base{weight_->value, nf4, out_, weight_->nested_offset, weight_->double_quant};
  ops::LoraTerm lora;
  if (lora_a_) lora = {lora_a_->value, lora_b_->value, lora_scale_, dropout_keys(x, context), lora_dropout_};
  return ops::linear(x, base, bias_ ? bias_->value : at::Tensor(), lora, name());
}

ops::LowRank Linear::low_rank(const at::Tensor& x, const Context& context) const {
  if (!lora_a_) return {};
  const at::Tensor keys = dropout_keys(x, context);
  const at::Tensor dropped = keys.defined() ? ops::counter_dropout(x, keys, lora_dropout_) : x;
  return {at::matmul(dropped, in_dtype(lora_a_->value, x.scalar_type()).t()).mul(lora_scale_), lora_b_->value};
}

at::Tensor Linear::dropout_keys(const at::Tensor& x, const Context& context) const {
  if (!context.training || lora_dropout_ == 0) return {};
  return token_keys(context, x.size(0), x.size(1), name()).to(x.device(), /*non_blocking=*/true);
}

at::Tensor token_keys(const Context& context, int64_t rows, int64_t tokens, const std::string& module) {
  FT_CHECK(static_cast<int64_t>(context.rows.size()) == rows, module + ": dropout wants the global index of each row");
  at::Tensor keys = at::empty({rows, tokens}, at::TensorOptions(at::kLong));
  auto* out = keys.data_ptr<int64_t>();
  const uint64_t of_step = mix64(mix64(context.seed ^ hash_name(module)) + static_cast<uint64_t>(context.step));
  for (int64_t row = 0; row < rows; ++row) {
    const uint64_t of_row = mix64(of_step + static_cast<uint64_t>(context.rows[static_cast<size_t>(row)]));
    for (int64_t t = 0; t < tokens; ++t)
      *out++ = static_cast<int64_t>(mix64(of_row + static_cast<uint64_t>(context.split.place(t))));
  }
  return keys;
}

}  // namespace ft
