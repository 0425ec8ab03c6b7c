#include "engine/layers/attention_block.h"

#include <ATen/ops/cat.h>

#include <algorithm>
#include <cmath>

#include "engine/error/error.h"
#include "engine/layers/kv_cache.h"
#include "engine/layers/ops.h"

namespace ft {

Attention::Attention(Builder& builder, const Value& description, const std::string& parent)
    : Module(module_path(parent, description.at("name").as_string())),
      heads_(description.at("heads").as_integer()),
      kv_heads_(description.at("kv_heads").as_integer()),
      head_dim_(description.at("head_dim").as_integer()),
      scores_{description.get("window", 0), description.get("softcap", 0.0)},
      tensor_(builder.tensor()) {
  check_sizes();
  const double usual = 1 / std::sqrt(static_cast<double>(head_dim_));
  query_scale_ = description.get("scale", usual) / usual;
  if (description.find("rope")) read_rope(builder, description);
  make_linears(builder, description);
}

void Attention::check_sizes() const {
  if (kv_heads_ < 1 || heads_ % kv_heads_ != 0)
    throw Error(ErrorKind::config, "got " + std::to_string(heads_) + " heads and " + std::to_string(kv_heads_) +
                                       " key-value heads, want a multiple")
        .key(name());
  if (scores_.window < 0)
    throw Error(ErrorKind::config,
                "got a window of " + std::to_string(scores_.window) + " tokens, want 1 or more, or 0 for none")
        .key(name());
}

void Attention::read_rope(Builder& builder, const Value& description) {
  rotary_dim_ = description.get("rotary_dim", head_dim_);
  interleaved_ = description.get("interleaved", false);
  if (rotary_dim_ == head_dim_ && head_dim_ % 2 != 0)
    throw Error(ErrorKind::config, "got head_dim " + std::to_string(head_dim_) + ", want an even number").key(name());
  if (rotary_dim_ < 2 || rotary_dim_ % 2 != 0 || rotary_dim_ > head_dim_)
    throw Error(ErrorKind::config, "got rotary_dim " + std::to_string(rotary_dim_) +
                                       ", want an even number up to head_dim, " + std::to_string(head_dim_))
        .key(name());
  const RopeOptions rope = RopeOptions::read(description.at("rope"), name());
  for (const auto* factors : {&rope.short_factor, &rope.long_factor})
    if (rope.type == "longrope" && static_cast<int64_t>(factors->size()) != rotary_dim_ / 2)
      throw Error(ErrorKind::config, "got " + std::to_string(factors->size()) + " factors of longrope, want " +
                                         std::to_string(rotary_dim_ / 2) + ", half the features that are rotated")
          .key(name());
  rope_ = builder.rope_table(rope, rotary_dim_);
}

// Query heads go by rank; key-value heads too, or several ranks have the one that their queries look at.
void Attention::make_linears(Builder& builder, const Value& description) {
  const auto fits = [this](int64_t ranks) {
    return heads_ % ranks == 0 && (kv_heads_ % ranks == 0 || ranks % kv_heads_ == 0);
  };
  tensor_.require(fits, heads_,
                  std::to_string(heads_) + " heads with " + std::to_string(kv_heads_) + " key-value heads", name());
  const int64_t kv_parts = std::min(kv_heads_, tensor_.size);
  const LinearSplit q{builder.evenly(LinearSplit::By::out)};
  const LinearSplit kv{LinearSplit::By::out, tensor_.rank * kv_parts / tensor_.size, kv_parts};
  if (description.find("qkv")) {
    tensor_.require([](int64_t ranks) { return ranks == 1; }, 1, "queries, keys and values in one matrix", name());
    qkv_ = &add_child(builder.part<Linear>(description, "qkv", name()));
  } else {
    q_ = &add_child(builder.part<Linear>(description, "q", name(), q));
    k_ = &add_child(builder.part<Linear>(description, "k", name(), kv));
    v_ = &add_child(builder.part<Linear>(description, "v", name(), kv));
  }
  o_ = &add_child(builder.part<Linear>(description, "o", name(), builder.evenly(LinearSplit::By::in)));
  if (const Value* norm = description.find("q_norm")) {
    whole_norms_ = norm->at("dim").as_integer() != head_dim_;
    if (whole_norms_) tensor_.require([](int64_t ranks) { return ranks == 1; }, 1, "a norm over all heads", name());
    q_norm_ = &add_child(builder.part<Module>(description, "q_norm", name(), q));
  }
  if (description.find("k_norm")) k_norm_ = &add_child(builder.part<Module>(description, "k_norm", name(), kv));
  builder.take_split();  // norms without a head's own weights leave it
  heads_ /= tensor_.size;
  kv_heads_ /= kv_parts;
}

Attention::Projections Attention::project(const at::Tensor& x, const Context& context) {
  if (!qkv_) return {q_->forward(x, context), k_->forward(x, context), v_->forward(x, context)};
  const at::Tensor all = qkv_->forward(x, context);
  const int64_t of_q = heads_ * head_dim_, of_kv = kv_heads_ * head_dim_;
  return {all.narrow(-1, 0, of_q), all.narrow(-1, of_q, of_kv), all.narrow(-1, of_q + of_kv, of_kv)};
}

at::Tensor Attention::rotate(const at::Tensor& x, const Rotation& rotation) const {
  at::Tensor turning = rotary_dim_ == head_dim_ ? x : x.narrow(-1, 0, rotary_dim_);
  // Neighbours come to lie half apart, and stay there: queries and keys alike, which no product shows.
  if (interleaved_) turning = turning.unflatten(-1, {rotary_dim_ / 2, 2}).transpose(-1, -2).flatten(-2);
  const at::Tensor turned = ops::rope(turning, rotation.cos, rotation.sin, rotation.positions);
  if (rotary_dim_ == head_dim_) return turned;
  return at::cat({turned, x.narrow(-1, rotary_dim_, head_dim_ - rotary_dim_)}, -1);
}

at::Tensor Attention::placed(const at::Tensor& x, Module* norm, int64_t heads, const Context& context,
                             const Rotation* rotation) const {
  at::Tensor y = norm && whole_norms_ ? norm->forward(x, context) : x;
  y = y.view({y.size(0), y.size(1), heads, head_dim_});
  if (norm && !whole_norms_) y = norm->forward(y, context);
  return rotation ? rotate(y, *rotation) : y;
}

at::Tensor Attention::forward(const at::Tensor& x_in, const Context& context) {
  const at::Tensor x = gather_tokens(x_in, tensor_, context.positions.size(0), context.positions.size(1));
  std::optional<Rotation> rotation;
  if (rope_) rotation = rope_->rotation(context, x.device());
  const Rotation* turn = rotation ? &*rotation : nullptr;
  const Projections made = project(x, context);
  at::Tensor q = placed(made.q, q_norm_, heads_, context, turn);
  if (query_scale_ != 1) q = q.mul(query_scale_);
  const at::Tensor k = placed(made.k, k_norm_, kv_heads_, context, turn);
  const at::Tensor v = placed(made.v, nullptr, kv_heads_, context, nullptr);
  const at::Tensor mixed =
      context.cache ? context.cache->attend(name(), q, k, v, scores_) : attend(q, k, v, context, scores_);
  return o_->forward(mixed.reshape({x.size(0), x.size(1), heads_ * head_dim_}), context);
}

}  // namespace ft
