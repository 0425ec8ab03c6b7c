#include "engine/layers/linear.h"

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>

#include <cmath>

#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/layers/ops.h"
#include "engine/layers/tensor_axis.h"
#include "engine/quant/nf4.h"
#include "engine/tensor/counter_random.h"

namespace ft {

Linear::Linear(Builder& builder, const Value& description, const std::string& parent)
    : Module(module_path(parent, description.at("name").as_string())),
      in_(description.at("in").as_integer()),
      out_(description.at("out").as_integer()),
      split_(builder.take_split()),
      tensor_(builder.tensor()) {
  const int64_t whole_in = in_;
  (split_.by == LinearSplit::By::in ? in_ : out_) /= split_.parts;
  add_weight(builder, {Init::Kind::normal, description.get("init_std", 0.02)});
  if (description.get("bias", false))
    bias_ = &add_parameter(name() + ".bias", {out_}, builder.base_storage(), {}, slice_of(true, false));
  if (builder.adapt(name())) add_lora(builder, whole_in);
}

void Linear::add_weight(Builder& builder, const Init& init) {
  const ModelOptions& options = builder.options();
  const bool nf4 = options.quantize_nf4 && builder.in_layers();
  if (nf4 && !options.lora)
    throw Error(ErrorKind::config, "an NF4 weight is frozen, and there is no adapter to train")
        .key("model.quantize")
        .help("add adapter = ft.lora {…}, or leave quantize out");
  const TensorSlice slice = slice_of(true, true);
  weight_ = &add_parameter(name() + ".weight", {out_, in_}, nf4 ? Storage::nf4 : builder.base_storage(), init, slice);
  weight_->double_quant = options.double_quant;
  if (!nf4 || slice.whole()) return;
  const int64_t run = slice.dim == 0 ? out_ * in_ : in_;  // elements that stay together
  if (run % nf4::kBlock != 0) {
    const auto fits = [&](int64_t ranks) {
      const int64_t whole = slice.dim == 0 ? out_ * slice.parts : in_ * slice.parts;
      return whole % ranks == 0 && (whole / ranks * (slice.dim == 0 ? in_ : 1)) % nf4::kBlock == 0;
    };
    tensor_.require([&](int64_t ranks) { return ranks != tensor_.size && fits(ranks); }, 64,
                    "the NF4 weight [" + std::to_string(weight_->full_shape()[0]) + ", " +
                        std::to_string(weight_->full_shape()[1]) + "], whose blocks are of 64 elements and whose " +
                        (slice.dim == 0 ? "rows" : "columns") + " would be cut at " + std::to_string(run) +
                        (slice.dim == 0 ? " elements," : ","),
                    name());
  }
  const bool whole_groups = slice.dim == 0 && run % nf4::kGroup == 0;
  weight_->decoded_scales = options.double_quant && !whole_groups;
  weight_->double_quant = options.double_quant && whole_groups;
}

void Linear::add_lora(Builder& builder, int64_t whole_in) {
  const LoraOptions& lora = *builder.options().lora;
  const LoraShape shape = builder.lora_shape(name());
  lora_scale_ = shape.scale;
  lora_dropout_ = lora.dropout;
  // PEFT's kaiming_uniform with a = sqrt(5): uniform in ±1/sqrt(in).
  const Init uniform{Init::Kind::uniform, 1 / std::sqrt(static_cast<double>(whole_in))};
  lora_a_ =
      &add_parameter(name() + ".lora_A.weight", {shape.r, in_}, Storage::trainable, uniform, slice_of(false, true));
  lora_b_ = &add_parameter(name() + ".lora_B.weight", {out_, shape.r}, Storage::trainable, {}, slice_of(true, false));
  if ((lora.use_dora || lora.lora_bias) && !builder.in_layers())
    throw Error(ErrorKind::config, "is not done on the head, whose loss is made without its logits")
        .key(lora.use_dora ? "adapter.use_dora" : "adapter.lora_bias")
        .help("leave " + name() + " out of target_modules, or train it whole: modules_to_save = { \"" + name() +
              "\" }");
  if (lora.lora_bias)
    lora_bias_ = &add_parameter(name() + ".lora_B.bias", {out_}, Storage::trainable, {}, slice_of(true, false));
  if (lora.use_dora) add_magnitude();
  if (lora.loftq && weight_->storage == Storage::nf4) builder.begin_by_loftq({weight_, lora_a_, lora_b_, lora_scale_});
}

// Begins as the norm of each row, so that the layer begins as its base (Liu et al., 2024, section 4.1).
void Linear::add_magnitude() {
  if (tensor_.split())
    throw Error(ErrorKind::config, "looks at whole rows of a matrix, which tensor parallelism shares out")
        .key("adapter.use_dora")
        .help("use parallel.mesh.shard, or leave use_dora out");
  magnitude_ = &add_parameter(name() + ".lora_magnitude_vector", {out_}, Storage::trainable, {});
  magnitude_->derive = [this] {
    return ops::row_norms(base(), weight_->shape, {lora_a_->value, lora_b_->value, lora_scale_, {}});
  };
}

/// Of a matrix or vector that has the weight's rows, its columns, or both.
TensorSlice Linear::slice_of(bool rows, bool columns) const {
  const bool cut = split_.by == LinearSplit::By::out ? rows : split_.by == LinearSplit::By::in && columns;
  if (!cut) return tensor_.whole();
  return tensor_.slice(split_.by == LinearSplit::By::out ? 0 : 1, split_.index, split_.parts);
}

at::Tensor Linear::forward(const at::Tensor& x, const Context& context) {
  const bool partial = split_.by == LinearSplit::By::in;
  ops::LoraTerm lora;
  if (lora_a_ && context.adapter) {
    lora = {lora_a_->value, lora_b_->value, lora_scale_, dropout_keys(context, x.device()), lora_dropout_};
    if (magnitude_) lora.magnitude = magnitude_->value;
  }
  const at::Tensor added = bias(context);
  const at::Tensor y = ops::linear(x, base(), partial ? at::Tensor() : added, lora, name());
  if (!partial) return y;
  const at::Tensor summed = sum_and_scatter_tokens(y, tensor_);
  return added.defined() ? at::add(summed, in_dtype(added, summed.scalar_type())) : summed;
}

/// The base's bias and what lora_B's adds to it; undefined without either.
at::Tensor Linear::bias(const Context& context) const {
  if (bias_) check_gathered(bias_->value, name());
  const at::Tensor own = bias_ ? bias_->value : at::Tensor();
  if (!lora_bias_ || !context.adapter) return own;
  check_gathered(lora_bias_->value, name());
  const at::Tensor added = at::mul(in_dtype(lora_bias_->value, at::kFloat), lora_scale_);
  return own.defined() ? at::add(in_dtype(own, at::kFloat), added) : added;
}

ops::LowRank Linear::low_rank(const at::Tensor& x, const Context& context) const {
  if (!lora_a_ || !context.adapter) return {};
  const at::Tensor keys = dropout_keys(context, x.device());
  const at::Tensor dropped = keys.defined() ? ops::counter_dropout(x, keys, lora_dropout_) : x;
  return {at::matmul(dropped, in_dtype(lora_a_->value, x.scalar_type()).t()).mul(lora_scale_), lora_b_->value};
}

at::Tensor Linear::dropout_keys(const Context& context, at::Device device) const {
  if (!context.training || lora_dropout_ == 0) return {};
  at::Tensor keys = token_keys(context, context.positions.size(0), context.positions.size(1), name());
  if (split_.by == LinearSplit::By::in) keys = keys_from_feature(keys, split_.index * in_);
  if (split_.by == LinearSplit::By::none) keys = own_tokens(keys, tensor_);
  return keys.to(device, /*non_blocking=*/true);
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

at::Tensor keys_from_feature(const at::Tensor& keys, int64_t first) {
  // The kernels hash (low half of the key + feature · this, high half).
  constexpr uint32_t kFeature = 0x9E3779B9u;
  const at::Tensor shifted = at::empty_like(keys);
  const auto* from = keys.const_data_ptr<int64_t>();
  auto* to = shifted.data_ptr<int64_t>();
  for (int64_t i = 0; i < keys.numel(); ++i) {
    const auto key = static_cast<uint64_t>(from[i]);
    const uint32_t low = static_cast<uint32_t>(key) + static_cast<uint32_t>(first) * kFeature;
    to[i] = static_cast<int64_t>((key & 0xFFFFFFFF00000000u) | low);
  }
  return shifted;
}

}  // namespace ft
