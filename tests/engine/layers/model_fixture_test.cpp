#include "tests/engine/layers/model_fixture.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "engine/layers/router_balance.h"
#include "engine/parallel/scalar_type.h"
#include "engine/quant/nf4.h"
#include "engine/tensor/counter_random.h"

namespace ft::testing {
namespace {

constexpr uint64_t kSeed = 20261121;

Value linear(const std::string& name, int64_t in, int64_t out, bool bias) {
  return Value::map({{"type", "linear"}, {"name", name}, {"in", in}, {"out", out}, {"bias", bias}});
}
Value norm(const std::string& name, int64_t dim, double eps) {
  return Value::map({{"type", "rmsnorm"}, {"name", name}, {"dim", dim}, {"eps", eps}});
}
Value joined(const char* type, const std::string& name, Value::List blocks) {
  Value made = Value::map({{"type", type}, {"blocks", Value(std::move(blocks))}});
  if (!name.empty()) made.set("name", name);
  return made;
}

Value layer(const Value& c, int64_t index) {
  const int64_t dim = c.at("hidden_size").as_integer(), hidden = c.at("intermediate_size").as_integer();
  const int64_t heads = c.at("num_attention_heads").as_integer(), kv = c.at("num_key_value_heads").as_integer();
  const int64_t head_dim = c.get("head_dim", dim / heads);
  const double eps = c.at("rms_norm_eps").as_number();
  const bool bias = c.get("attention_bias", false), mlp_bias = c.get("mlp_bias", false);
  Value attention = Value::map({{"type", "attention"},
                                {"name", "self_attn"},
                                {"heads", heads},
                                {"kv_heads", kv},
                                {"head_dim", head_dim},
                                {"rope", Value::map({{"theta", c.at("rope_parameters").at("rope_theta")}})},
                                {"q", linear("q_proj", dim, heads * head_dim, bias)},
                                {"k", linear("k_proj", dim, kv * head_dim, bias)},
                                {"v", linear("v_proj", dim, kv * head_dim, bias)},
                                {"o", linear("o_proj", heads * head_dim, dim, bias)}});
  if (c.at("model_type").as_string() == "qwen3") {
    attention.set("q_norm", norm("q_norm", head_dim, eps));
    attention.set("k_norm", norm("k_norm", head_dim, eps));
  }
  const Value mlp = Value::map({{"type", "swiglu"},
                                {"name", "mlp"},
                                {"gate", linear("gate_proj", dim, hidden, mlp_bias)},
                                {"up", linear("up_proj", dim, hidden, mlp_bias)},
                                {"down", linear("down_proj", hidden, dim, mlp_bias)}});
  return joined("chain", "model.layers." + std::to_string(index),
                {joined("residual", "", {norm("input_layernorm", dim, eps), attention}),
                 joined("residual", "", {norm("post_attention_layernorm", dim, eps), mlp})});
}

}  // namespace

Value describe_model(const Value& c) {
  const int64_t dim = c.at("hidden_size").as_integer(), vocab = c.at("vocab_size").as_integer();
  Value::List layers;
  for (int64_t i = 0; i < c.at("num_hidden_layers").as_integer(); ++i) layers.push_back(layer(c, i));
  const bool tied = c.get("tie_word_embeddings", false);
  Value head = Value::map({{"norm", norm("model.norm", dim, c.at("rms_norm_eps").as_number())}, {"tied", tied}});
  if (!tied) head.set("output", linear("lm_head", dim, vocab, false));
  const Value embedding =
      Value::map({{"type", "embedding"}, {"name", "model.embed_tokens"}, {"vocab", vocab}, {"dim", dim}});
  return Value::map({{"type", "decoder"}, {"embedding", embedding}, {"layers", Value(layers)}, {"head", head}});
}

at::Tensor formula(const std::string& name, at::IntArrayRef shape, double scale, double centre) {
  at::Tensor out = at::empty(shape, at::TensorOptions(at::kFloat));
  const CounterRandom random(kSeed, name);
  for (int64_t i = 0; i < out.numel(); ++i)
    out.data_ptr<float>()[i] = static_cast<float>(centre + scale * (2 * random.uniform(static_cast<uint64_t>(i)) - 1));
  return out;
}

Context packed_context(const std::vector<std::vector<int64_t>>& documents) {
  Context context;
  context.documents = documents;
  std::vector<int64_t> positions;
  for (const auto& row : documents)
    for (const int64_t length : row)
      for (int64_t t = 0; t < length; ++t) positions.push_back(t);
  const auto rows = static_cast<int64_t>(documents.size());
  context.positions =
      at::from_blob(positions.data(), {rows, static_cast<int64_t>(positions.size()) / rows}, at::kLong).clone();
  for (int64_t row = 0; row < rows; ++row) context.rows.push_back(row);
  return context;
}

Batch golden_batch(int64_t rows, int64_t tokens, int64_t vocab) {
  Batch batch;
  batch.context = packed_context(std::vector<std::vector<int64_t>>(static_cast<size_t>(rows), {tokens}));
  batch.tokens = at::empty({rows, tokens}, at::TensorOptions(at::kLong));
  const CounterRandom random(kSeed, "tokens");
  auto* ids = batch.tokens.data_ptr<int64_t>();
  for (int64_t i = 0; i < rows * tokens; ++i)
    ids[i] = static_cast<int64_t>(random.bits(static_cast<uint64_t>(i)) % static_cast<uint64_t>(vocab));
  batch.context.targets = at::empty({rows, tokens}, at::TensorOptions(at::kLong)).fill_(-100);
  auto* targets = batch.context.targets.data_ptr<int64_t>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = r == 0 ? 5 : 0; t + 1 < tokens; ++t) targets[r * tokens + t] = ids[r * tokens + t + 1];
  return batch;
}

void fill(Model& model, at::ScalarType frozen_dtype, at::ScalarType trainable_dtype) {
  for (Parameter* p : model.parameters()) {
    const bool is_norm = p->name.ends_with("norm.weight"), is_lora = p->name.find("lora_") != std::string::npos;
    const at::Tensor value = formula(p->name, p->shape, is_norm ? 0.3 : is_lora ? 0.2 : 0.15, is_norm ? 1 : 0);
    if (p->storage == Storage::nf4) {
      const auto made =
          nf4::quantize(DType::f32, static_cast<const std::byte*>(value.data_ptr()), p->numel(), p->double_quant);
      const auto groups = nf4::num_groups(p->numel());
      p->value = at::from_blob(const_cast<uint8_t*>(made.records.data()),
                               {groups, static_cast<int64_t>(made.records.size()) / groups}, at::kByte)
                     .clone();
      p->nested_offset = made.offset;
    } else if (p->storage == Storage::frozen) {
      p->value = value.to(frozen_dtype);
    } else {
      p->value = value.to(trainable_dtype).requires_grad_(true);
    }
  }
}

at::Tensor forward(Model& model, const Batch& batch) {
  c10::AutoGradMode no_graph(false);
  at::Tensor x = batch.tokens;
  for (ModelUnit& unit : model.units()) x = unit.module->forward(x, batch.context);
  return x;
}

Gradients backward(Model& model, const Batch& batch) {
  at::Tensor x = batch.tokens;
  for (ModelUnit& unit : model.units()) x = unit.module->forward(x, batch.context);
  std::vector<at::Tensor> inputs;
  std::vector<std::string> names;
  for (Parameter* p : model.parameters()) {
    if (p->storage != Storage::trainable) continue;
    inputs.push_back(p->value);
    names.push_back(p->name);
  }
  Gradients result;
  result.loss = x.item<double>();
  if (RouterBalance* balance = model.balance())
    result.loss +=
        balance->settle(batch.context.targets, batch.context.loss_scale, [](const at::Tensor&) {}).item<double>();
  const auto grads = torch::autograd::grad({x}, inputs, {at::ones_like(x)});
  for (size_t i = 0; i < names.size(); ++i)  // rows of an embedding come sparse
    result.of[names[i]] = grads[i].is_sparse() ? grads[i].to_dense() : grads[i];
  return result;
}

}  // namespace ft::testing
