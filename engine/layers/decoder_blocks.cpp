#include "engine/layers/decoder_blocks.h"

#include <ATen/ops/add.h>

#include <algorithm>

#include "engine/error/error.h"
#include "engine/layers/attention.h"
#include "engine/layers/kv_cache.h"
#include "engine/layers/ops.h"
#include "engine/layers/vocab_parallel.h"
#include "engine/parallel/scalar_type.h"

namespace ft {
namespace {

std::string path_of(const Value& description, const std::string& parent) {
  return module_path(parent, description.at("name").as_string());
}

}  // namespace

Embedding::Embedding(Builder& builder, const Value& description, const std::string& parent)
    : Module(path_of(description, parent)),
      compute_(scalar_type(builder.options().compute)),
      tensor_(builder.tensor()) {
  const int64_t rows = tensor_.share(description.at("vocab").as_integer(), "rows of the vocabulary", name());
  weight_ = &add_parameter(name() + ".weight", {rows, description.at("dim").as_integer()}, builder.base_storage(),
                           {Init::Kind::normal, description.get("init_std", 0.02)},
                           tensor_.slice(0, tensor_.rank, tensor_.size));
}

at::Tensor Embedding::forward(const at::Tensor& tokens, const Context&) {
  if (!tensor_.split()) return ops::embedding(weight_->value, tokens, compute_, name());
  return sum_and_scatter_tokens(vocab_parallel_embedding(weight_->value, tokens, compute_, name(), tensor_), tensor_);
}

RmsNorm::RmsNorm(Builder& builder, const Value& description, const std::string& parent)
    : Module(path_of(description, parent)), eps_(description.get("eps", 1e-6)) {
  weight_ = &add_parameter(name() + ".weight", {description.at("dim").as_integer()}, builder.base_storage(),
                           {Init::Kind::ones}, builder.tensor().whole());
}

at::Tensor RmsNorm::forward(const at::Tensor& x, const Context&) {
  return ops::rms_norm(x, weight_->value, eps_, name());
}

Attention::Attention(Builder& builder, const Value& description, const std::string& parent)
    : Module(path_of(description, parent)),
      heads_(description.at("heads").as_integer()),
      kv_heads_(description.at("kv_heads").as_integer()),
      head_dim_(description.at("head_dim").as_integer()),
      window_(description.get("window", 0)),
      tensor_(builder.tensor()) {
  if (kv_heads_ < 1 || heads_ % kv_heads_ != 0)
    throw Error(ErrorKind::config, "got " + std::to_string(heads_) + " heads and " + std::to_string(kv_heads_) +
                                       " key-value heads, want a multiple")
        .key(name());
  if (head_dim_ % 2 != 0)
    throw Error(ErrorKind::config, "got head_dim " + std::to_string(head_dim_) + ", want an even number").key(name());
  if (window_ < 0)
    throw Error(ErrorKind::config,
                "got a window of " + std::to_string(window_) + " tokens, want 1 or more, or 0 for none")
        .key(name());
  rope_ = builder.rope_table(RopeOptions::read(description.at("rope"), name()), head_dim_);
  make_linears(builder, description);
  if (description.find("q_norm")) q_norm_ = &add_child(builder.part<RmsNorm>(description, "q_norm", name()));
  if (description.find("k_norm")) k_norm_ = &add_child(builder.part<RmsNorm>(description, "k_norm", name()));
}

// Query heads go by rank; key-value heads too, or several ranks have the one that their queries look at.
void Attention::make_linears(Builder& builder, const Value& description) {
  const auto fits = [this](int64_t ranks) {
    return heads_ % ranks == 0 && (kv_heads_ % ranks == 0 || ranks % kv_heads_ == 0);
  };
  tensor_.require(fits, heads_,
                  std::to_string(heads_) + " heads with " + std::to_string(kv_heads_) + " key-value heads", name());
  const int64_t kv_parts = std::min(kv_heads_, tensor_.size);
  const LinearSplit kv{LinearSplit::By::out, tensor_.rank * kv_parts / tensor_.size, kv_parts};
  q_ = &add_child(builder.part<Linear>(description, "q", name(), builder.evenly(LinearSplit::By::out)));
  k_ = &add_child(builder.part<Linear>(description, "k", name(), kv));
  v_ = &add_child(builder.part<Linear>(description, "v", name(), kv));
  o_ = &add_child(builder.part<Linear>(description, "o", name(), builder.evenly(LinearSplit::By::in)));
  heads_ /= tensor_.size;
  kv_heads_ /= kv_parts;
}

at::Tensor Attention::project(Linear& linear, RmsNorm* norm, int64_t heads, const at::Tensor& x, const Context& context,
                              const Rotation* rotation) {
  at::Tensor y = linear.forward(x, context).view({x.size(0), x.size(1), heads, head_dim_});
  if (norm) y = norm->forward(y, context);
  return rotation ? ops::rope(y, rotation->cos, rotation->sin, rotation->positions) : y;
}

at::Tensor Attention::forward(const at::Tensor& x_in, const Context& context) {
  const at::Tensor x = gather_tokens(x_in, tensor_, context.positions.size(0), context.positions.size(1));
  const Rotation rotation = rope_->rotation(context, x.device());
  const at::Tensor q = project(*q_, q_norm_, heads_, x, context, &rotation);
  const at::Tensor k = project(*k_, k_norm_, kv_heads_, x, context, &rotation);
  const at::Tensor v = project(*v_, nullptr, kv_heads_, x, context, nullptr);
  at::Tensor mixed;
  if (context.cache) {
    mixed = context.cache->attend(name(), q, k, v, window_);
  } else {
    mixed = attend(q, k, v, context, window_);
  }
  return o_->forward(mixed.reshape({x.size(0), x.size(1), heads_ * head_dim_}), context);
}

Swiglu::Swiglu(Builder& builder, const Value& description, const std::string& parent)
    : Module(path_of(description, parent)), tensor_(builder.tensor()) {
  const LinearSplit by_out = builder.evenly(LinearSplit::By::out);
  tensor_.share(description.at("down").at("in").as_integer(), "hidden features", name());
  gate_ = &add_child(builder.part<Linear>(description, "gate", name(), by_out));
  up_ = &add_child(builder.part<Linear>(description, "up", name(), by_out));
  down_ = &add_child(builder.part<Linear>(description, "down", name(), builder.evenly(LinearSplit::By::in)));
}

at::Tensor Swiglu::forward(const at::Tensor& x_in, const Context& context) {
  const at::Tensor x = gather_tokens(x_in, tensor_, context.positions.size(0), context.positions.size(1));
  return down_->forward(ops::swiglu(gate_->forward(x, context), up_->forward(x, context)), context);
}

Chain::Chain(Builder& builder, const Value& description, const std::string& parent, bool residual)
    : Module(module_path(parent, description.get("name", ""))), residual_(residual) {
  for (const Value& block : description.at("blocks").as_list())
    blocks_.push_back(&add_child(builder.block(block, name())));
}

at::Tensor Chain::forward(const at::Tensor& x, const Context& context) {
  at::Tensor y = x;
  for (Module* block : blocks_) y = block->forward(y, context);
  return residual_ ? at::add(x, y) : y;
}

}  // namespace ft
