// What of a mixture of experts parity with transformers (parity_test.cpp) does not show: storage, refusals, and tokens
// that crowd on one expert.
#include "engine/layers/experts.h"

#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/error/error.h"
#include "engine/quant/nf4.h"
#include "tests/engine/layers/model_fixture.h"
#include "tests/thrown.h"

namespace ft::testing {
namespace {

constexpr int64_t kDim = 64, kHidden = 32, kExperts = 6;

Value linear(const char* name, int64_t in, int64_t out) {
  return Value::map({{"type", "linear"}, {"name", name}, {"in", in}, {"out", out}});
}

Value feed_forward(const std::string& name) {
  return Value::map({{"type", "swiglu"},
                     {"name", name},
                     {"gate", linear("gate_proj", kDim, kHidden)},
                     {"up", linear("up_proj", kDim, kHidden)},
                     {"down", linear("down_proj", kHidden, kDim)}});
}

Value mixture(int64_t chosen = 2, double balance = 0) {
  Value experts = Value::list();
  for (int64_t e = 0; e < kExperts; ++e) experts.as_list().push_back(feed_forward("experts." + std::to_string(e)));
  return Value::map({{"type", "experts"},
                     {"name", "mlp"},
                     {"dim", kDim},
                     {"router", "gate"},
                     {"chosen", chosen},
                     {"normalize", true},
                     {"balance", balance},
                     {"experts", std::move(experts)}});
}

// Layers of nothing but these blocks.
Value decoder(const std::vector<Value>& blocks) {
  Value layers = Value::list();
  for (size_t i = 0; i < blocks.size(); ++i)
    layers.as_list().push_back(Value::map(
        {{"type", "residual"}, {"name", "model.layers." + std::to_string(i)}, {"blocks", Value::list({blocks[i]})}}));
  const Value embedding =
      Value::map({{"type", "embedding"}, {"name", "model.embed_tokens"}, {"vocab", 98}, {"dim", kDim}});
  const Value norm = Value::map({{"type", "rmsnorm"}, {"name", "model.norm"}, {"dim", kDim}});
  return Value::map({{"type", "decoder"},
                     {"embedding", embedding},
                     {"layers", std::move(layers)},
                     {"head", Value::map({{"norm", norm}, {"tied", true}})}});
}

std::string refusal(const Value& description, const ModelOptions& options) {
  return test::refusal([&] { Model model(description, options); });
}

Parameter& parameter(Model& model, const std::string& name) {
  for (Parameter* p : model.parameters())
    if (p->name == name) return *p;
  throw std::runtime_error("no parameter " + name);
}

TEST(Experts, TheRouterIsNeitherQuantizedNorAdapted) {
  const LoraOptions lora{.r = 4, .target_modules = ".*mlp.*"};
  Model model(decoder({mixture()}), {.quantize_nf4 = true, .lora = &lora});
  EXPECT_EQ(parameter(model, "model.layers.0.mlp.gate.weight").storage, Storage::frozen);
  EXPECT_EQ(parameter(model, "model.layers.0.mlp.experts.5.down_proj.weight").storage, Storage::nf4);
  EXPECT_EQ(parameter(model, "model.layers.0.mlp.experts.5.down_proj.lora_B.weight").shape,
            (std::vector<int64_t>{kDim, 4}));
  for (const std::string& path : model.adapted()) EXPECT_FALSE(path.ends_with(".gate")) << path;
}

// An expert's matrix is quantized by itself: its offset is its own mean, as of a linear that stands alone.
TEST(Experts, EachMatrixHasBlocksOfItsOwn) {
  const LoraOptions lora{.r = 4};
  Model model(decoder({mixture()}), {.quantize_nf4 = true, .lora = &lora});
  fill(model);
  Parameter& first = parameter(model, "model.layers.0.mlp.experts.0.up_proj.weight");
  Parameter& second = parameter(model, "model.layers.0.mlp.experts.1.up_proj.weight");
  EXPECT_EQ(first.value.size(0), nf4::num_groups(kDim * kHidden));
  EXPECT_NE(first.nested_offset, second.nested_offset);
  EXPECT_TRUE(std::isfinite(backward(model, golden_batch(2, 19, 97)).loss));
}

TEST(Experts, AllTokensOnOneExpertEqualThatExpertAlone) {
  Model model(decoder({mixture(1)}), {}), alone(decoder({feed_forward("mlp")}), {});
  fill(model), fill(alone);
  c10::AutoGradMode no_graph(false);
  parameter(model, "model.layers.0.mlp.gate.weight").value.zero_();  // all alike: the first is taken
  const Batch batch = golden_batch(2, 19, 97);
  Batch for_logits = batch;
  for_logits.context.targets = at::Tensor();
  const at::Tensor got = forward(model, for_logits);
  std::vector<double> distances;
  for (int64_t e = 0; e < kExperts; ++e) {
    for (const char* part : {"gate_proj", "up_proj", "down_proj"})
      parameter(alone, std::string("model.layers.0.mlp.") + part + ".weight")
          .value.copy_(
              parameter(model, "model.layers.0.mlp.experts." + std::to_string(e) + "." + part + ".weight").value);
    distances.push_back(forward(alone, for_logits).sub(got).abs().max().item<double>());
  }
  EXPECT_LT(*std::min_element(distances.begin(), distances.end()), 1e-5);
  EXPECT_GT(*std::max_element(distances.begin(), distances.end()), 1e-3) << "experts differ";
}

TEST(Experts, ABusierExpertCostsMore) {
  // One layer, equal probabilities: F_e sums to `chosen`, so E · Σ F_e · 1/E = chosen whoever is chosen.
  Model model(decoder({mixture(2, 0.5)}), {});
  fill(model);
  const Batch batch = golden_batch(2, 19, 97);
  forward(model, batch);
  const int64_t trained = batch.context.targets.ne(-100).sum().item<int64_t>();
  const auto settle = [&] {
    return model.balance()->settle(batch.context.targets, 1.0, [](const at::Tensor&) {}).item<double>();
  };
  EXPECT_GT(settle(), 0.5 * 2 * static_cast<double>(trained)) << "tokens are routed where probabilities are high";
  {
    c10::AutoGradMode no_graph(false);
    parameter(model, "model.layers.0.mlp.gate.weight").value.zero_();
  }
  forward(model, batch);
  EXPECT_NEAR(settle(), 0.5 * 2 * static_cast<double>(trained), 1e-4);
}

TEST(Experts, AdaptersThatPeftCannotLoadAreRefusedByName) {
  const auto with = [](const LoraOptions& lora, const std::vector<Value>& blocks) {
    return refusal(decoder(blocks), {.lora = &lora});
  };
  const auto contains = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  contains(with({.dropout = 0.1}, {mixture()}), "adapter.dropout: dropout on the experts of model.layers.0.mlp");
  contains(with({.use_rslora = true}, {mixture()}), "adapter.use_rslora");
  contains(with({.use_dora = true}, {mixture()}), "adapter.use_dora");
  contains(with({.lora_bias = true}, {mixture()}), "adapter.lora_bias");
  contains(with({.rank_pattern = Value::map({{"down_proj", 8}})}, {mixture()}), "adapter.rank_pattern");
  contains(with({.target_modules = Value::list({"up_proj", "down_proj"})}, {mixture()}), "one of gate and up");
  contains(with({.target_modules = Value::list({"gate_proj", "up_proj"})}, {mixture()}), "without down");
  contains(with({.target_modules = ".*experts\\.[01]\\..*"}, {mixture()}), "LoRA on some and not on others");
  EXPECT_EQ(with({.rank_pattern = Value::map({{"q_proj", 8}})}, {mixture()}), "was taken");
  EXPECT_EQ(with({.use_rslora = true, .target_modules = Value::list({"q_proj", "down_proj"})}, {mixture()}),
            "was taken");
  EXPECT_EQ(with({}, {mixture()}), "was taken");
  EXPECT_EQ(with({.dropout = 0.1, .exclude_modules = ".*experts.*"}, {mixture(), feed_forward("mlp")}), "was taken");
}

// In target_modules PEFT takes gate_proj for the experts' wherever it stands.
TEST(Experts, DenseLayersBesideThemAreAdaptedAlone) {
  const auto adapted = [](const LoraOptions& lora) {
    return Model(decoder({mixture(), feed_forward("mlp")}), {.lora = &lora}).adapted();
  };
  EXPECT_NO_THROW(check_names_of_experts(adapted({.exclude_modules = ".*experts.*"})));
  EXPECT_NO_THROW(check_names_of_experts(adapted({.target_modules = ".*experts.*"})));
  EXPECT_ERROR(check_names_of_experts(adapted({})), config, "LoRA on model.layers.1.mlp.gate_proj and on experts'");
}

TEST(Experts, TensorParallelismIsRefused) {
  const std::string said = refusal(decoder({mixture()}), {.tensor = {.rank = 0, .size = 2}});
  EXPECT_NE(said.find("experts"), std::string::npos) << said;
  EXPECT_NE(said.find("model.layers.0.mlp"), std::string::npos) << said;
}

TEST(Experts, MoreExpertsATokenThanThereAreIsRefused) {
  EXPECT_NE(refusal(decoder({mixture(7)}), {}).find("got 7 experts a token, want 1 to 6"), std::string::npos);
}

}  // namespace
}  // namespace ft::testing
