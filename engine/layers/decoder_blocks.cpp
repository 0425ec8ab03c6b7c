#include "engine/layers/decoder_blocks.h"

#include <ATen/ops/add.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mul.h>

#include "engine/error/error.h"
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
      tensor_(builder.tensor()),
      scale_(description.get("scale", 1.0)) {
  const int64_t rows = tensor_.share(description.at("vocab").as_integer(), "rows of the vocabulary", name());
  weight_ = &add_parameter(name() + ".weight", {rows, description.at("dim").as_integer()}, builder.base_storage(),
                           {Init::Kind::normal, description.get("init_std", 0.02)},
                           tensor_.slice(0, tensor_.rank, tensor_.size));
  if (builder.adapt(name()))
    lora_ = &add_child(std::make_unique<EmbeddingLora>(builder, name(), rows, weight_->shape[1]));
}

at::Tensor Embedding::forward(const at::Tensor& tokens, const Context& context) {
  at::Tensor rows =
      tensor_.split()
          ? sum_and_scatter_tokens(vocab_parallel_embedding(weight_->value, tokens, compute_, name(), tensor_), tensor_)
          : ops::embedding(weight_->value, tokens, compute_, name());
  if (lora_ && context.adapter) rows = at::add(rows, lora_->forward(tokens, context));
  return scale_ == 1 ? rows : rows.mul(scale_);
}

Swiglu::Swiglu(Builder& builder, const Value& description, const std::string& parent)
    : Module(path_of(description, parent)), tensor_(builder.tensor()) {
  const std::string activation = description.get("activation", "silu");
  if (activation != "silu" && activation != "gelu_tanh")
    throw Error(ErrorKind::config, "got activation '" + activation + "', want 'silu' or 'gelu_tanh'").key(name());
  gelu_ = activation == "gelu_tanh";
  const LinearSplit by_out = builder.evenly(LinearSplit::By::out);
  tensor_.share(description.at("down").at("in").as_integer(), "hidden features", name());
  if (description.find("gate_up")) {
    tensor_.require([](int64_t ranks) { return ranks == 1; }, 1, "gate and up in one matrix", name());
    gate_up_ = &add_child(builder.part<Linear>(description, "gate_up", name()));
  } else {
    gate_ = &add_child(builder.part<Linear>(description, "gate", name(), by_out));
    up_ = &add_child(builder.part<Linear>(description, "up", name(), by_out));
  }
  down_ = &add_child(builder.part<Linear>(description, "down", name(), builder.evenly(LinearSplit::By::in)));
}

at::Tensor Swiglu::forward(const at::Tensor& x_in, const Context& context) {
  const at::Tensor x = gather_tokens(x_in, tensor_, context.positions.size(0), context.positions.size(1));
  at::Tensor gate, up;
  if (gate_up_) {
    const auto halves = gate_up_->forward(x, context).chunk(2, -1);
    gate = halves[0], up = halves[1];
  } else {
    gate = gate_->forward(x, context), up = up_->forward(x, context);
  }
  return down_->forward(gelu_ ? at::mul(at::gelu(gate, "tanh"), up) : ops::swiglu(gate, up), context);
}

Joined::Joined(Builder& builder, const Value& description, const std::string& parent, Join join)
    : Module(module_path(parent, description.get("name", ""))), join_(join), scale_(description.get("scale", 1.0)) {
  for (const Value& block : description.at("blocks").as_list())
    blocks_.push_back(&add_child(builder.block(block, name())));
  if (blocks_.empty() && join_ == Join::sum)
    throw Error(ErrorKind::config, "got no blocks to add up, want one or more").key(name());
}

at::Tensor Joined::forward(const at::Tensor& x, const Context& context) {
  if (join_ == Join::sum) {
    at::Tensor sum = blocks_.front()->forward(x, context);
    for (size_t i = 1; i < blocks_.size(); ++i) sum = at::add(sum, blocks_[i]->forward(x, context));
    return sum;
  }
  at::Tensor y = x;
  for (Module* block : blocks_) y = block->forward(y, context);
  return join_ == Join::residual ? at::add(x, y, scale_) : y;
}

}  // namespace ft
