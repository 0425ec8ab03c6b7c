// Models as a whole: units and names, what trains and what is quantized, packing, dropout, and refusals.
#include "engine/layers/model.h"

#include <ATen/ops/cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "engine/error/error.h"
#include "engine/layers/cpu_ops.h"
#include "tests/engine/layers/model_fixture.h"
#include "tests/thrown.h"

namespace ft::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

double distance(const at::Tensor& got, const at::Tensor& want) {
  return got.to(at::kFloat).sub(want).norm().item<double>() / want.norm().item<double>();
}

Value small_config(bool tied = false) {
  return Value::map({{"model_type", "qwen3"},
                     {"hidden_size", 32},
                     {"intermediate_size", 48},
                     {"num_hidden_layers", 2},
                     {"num_attention_heads", 4},
                     {"num_key_value_heads", 2},
                     {"head_dim", 16},
                     {"vocab_size", 61},
                     {"tie_word_embeddings", tied},
                     {"rms_norm_eps", 1e-6},
                     {"rope_parameters", Value::map({{"rope_theta", 10000.0}})}});
}

std::string error_of(const Value& description, const ModelOptions& options) {
  const Error error = test::thrown([&] { Model model(description, options); });
  EXPECT_EQ(error.kind(), ErrorKind::config);
  return error.what();
}

TEST(Model, HasAUnitForTheEmbeddingEachLayerAndTheHead) {
  Model model(describe_model(small_config()), {});
  std::vector<std::string> names;
  for (const ModelUnit& unit : model.units()) names.push_back(unit.name);
  EXPECT_THAT(names, ElementsAre("model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head"));
  EXPECT_EQ(model.num_layers(), 2);
  EXPECT_EQ(model.vocab_size(), 61);
  std::vector<std::string> of_layer;
  for (const Parameter* p : model.units()[1].parameters) of_layer.push_back(p->name);
  const std::string at = "model.layers.0.";
  EXPECT_THAT(
      of_layer,
      ElementsAre(at + "input_layernorm.weight", at + "self_attn.q_proj.weight", at + "self_attn.k_proj.weight",
                  at + "self_attn.v_proj.weight", at + "self_attn.o_proj.weight", at + "self_attn.q_norm.weight",
                  at + "self_attn.k_norm.weight", at + "post_attention_layernorm.weight", at + "mlp.gate_proj.weight",
                  at + "mlp.up_proj.weight", at + "mlp.down_proj.weight"));
  EXPECT_THAT(model.units()[3].parameters, ::testing::SizeIs(2));
  EXPECT_FALSE(model.units()[3].checkpoint);
}

TEST(Model, TiedHeadBorrowsTheEmbedding) {
  Model model(describe_model(small_config(true)), {});
  EXPECT_THAT(model.units().back().borrows, ElementsAre(0));
  EXPECT_THAT(model.units().back().parameters, ::testing::SizeIs(1));
  EXPECT_EQ(model.units().back().parameters[0]->name, "model.norm.weight");
}

TEST(Model, LoraFreezesTheBaseAndNf4ReachesTheLayersLinearsAlone) {
  const LoraOptions lora{.r = 4};
  Model model(describe_model(small_config()), {.quantize_nf4 = true, .lora = &lora});
  EXPECT_EQ(model.adapted().size(), 14u);
  for (const Parameter* p : model.parameters()) {
    const bool layer_linear = std::regex_match(p->name, std::regex(R"(model\.layers\..*_proj\.weight)"));
    const bool adapter = p->name.find(".lora_") != std::string::npos;
    EXPECT_EQ(p->storage, adapter ? Storage::trainable : layer_linear ? Storage::nf4 : Storage::frozen) << p->name;
    if (p->name.ends_with("up_proj.lora_A.weight")) {
      EXPECT_THAT(p->shape, ElementsAre(4, 32));
      EXPECT_EQ(p->init.kind, Init::Kind::uniform);
      EXPECT_NEAR(p->init.scale, 1 / std::sqrt(32.0), 1e-12);
    }
    if (p->name.ends_with("up_proj.lora_B.weight")) {
      EXPECT_THAT(p->shape, ElementsAre(48, 4));
      EXPECT_EQ(p->init.kind, Init::Kind::zeros);
    }
  }
}

TEST(Model, BiasesStayFrozenAndInFullBesideNf4AndLora) {
  const LoraOptions lora{.r = 4};
  Value config = small_config();
  config.set("attention_bias", true);
  config.set("mlp_bias", true);
  const Value description = describe_model(config);
  Model quantized(description, {.quantize_nf4 = true, .lora = &lora}), dense(description, {.lora = &lora});
  fill(quantized);
  fill(dense);
  int biases = 0;
  for (size_t i = 0; i < quantized.parameters().size(); ++i) {
    const Parameter& p = *quantized.parameters()[i];
    if (p.storage == Storage::nf4)
      dense.parameters()[i]->value =
          cpu::nf4_dequantize(p.value, p.shape[0], p.shape[1], p.nested_offset, p.double_quant, at::kFloat);
    if (!p.name.ends_with(".bias")) continue;
    EXPECT_EQ(p.storage, Storage::frozen) << p.name;
    ++biases;
  }
  EXPECT_EQ(biases, 14);
  const Batch batch = golden_batch(2, 19, 61);
  const Gradients got = backward(quantized, batch), want = backward(dense, batch);
  EXPECT_NEAR(got.loss, want.loss, 1e-6 * want.loss);
  for (const auto& [name, grad] : want.of) EXPECT_LT(distance(got.of.at(name), grad), 1e-5) << name;
}

TEST(Model, TargetModulesAsNamesAndAsPattern) {
  LoraOptions lora{.r = 4, .target_modules = Value::list({"q_proj", "mlp.up_proj"})};
  Model by_name(describe_model(small_config()), {.lora = &lora});
  EXPECT_THAT(by_name.adapted(), ElementsAre("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj",
                                             "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"));
  lora.target_modules = R"(model\.layers\.(?!0).*\.[kv]_proj)";
  Model by_pattern(describe_model(small_config()), {.lora = &lora});
  EXPECT_THAT(by_pattern.adapted(), ElementsAre("model.layers.1.self_attn.k_proj", "model.layers.1.self_attn.v_proj"));
}

TEST(Model, TakesLoraOnTheHead) {
  LoraOptions lora{.r = 4, .alpha = 6, .target_modules = Value::list({"lm_head"})};
  Model model(describe_model(small_config()), {.lora = &lora});
  EXPECT_THAT(model.adapted(), ElementsAre("lm_head"));
  fill(model);
  Batch batch = golden_batch(2, 9, model.vocab_size());
  const double loss = forward(model, batch).item<double>();
  const at::Tensor targets = std::exchange(batch.context.targets, at::Tensor()).reshape({-1});
  const at::Tensor logits = forward(model, batch).reshape({-1, model.vocab_size()}).to(at::kDouble);
  const at::Tensor picked = logits.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
  const double want =
      logits.logsumexp(1).sub(picked).mul(targets.ne(-100)).sum().item<double>() * batch.context.loss_scale;
  EXPECT_NEAR(loss / want, 1, 1e-6);
}

TEST(Model, RefusesWhatItCannotBuild) {
  const Value good = describe_model(small_config());
  LoraOptions lora{.r = 4, .target_modules = Value::list({"qproj"})};
  EXPECT_THAT(error_of(good, {.lora = &lora}),
              HasSubstr("adapter.target_modules: no linear of the model matches ['qproj']"));
  lora.target_modules = "(unclosed";
  EXPECT_THAT(error_of(good, {.lora = &lora}), HasSubstr("adapter.target_modules: got pattern '(unclosed': missing"));
  EXPECT_THAT(error_of(good, {.quantize_nf4 = true}), HasSubstr("model.quantize: an NF4 weight is frozen"));
  Value unknown = good;
  unknown.find("layers")->as_list()[1].find("blocks")->as_list()[0].find("blocks")->as_list()[1].set("type",
                                                                                                     "attension");
  EXPECT_THAT(error_of(unknown, {}), HasSubstr("model.layers.1: unknown block 'attension'"));
  Value missing = good;
  missing.find("layers")->as_list()[0].find("blocks")->as_list()[1].find("blocks")->as_list()[1].set("gate", Value());
  error_of(missing, {});
}

TEST(Model, PackedDocumentsEqualSeparateRows) {
  Model model(describe_model(small_config()), {});
  fill(model);
  const Batch all = golden_batch(1, 20, 61);
  Batch packed = all;
  const at::Tensor targets = packed.context.targets;
  packed.context = packed_context({{6, 1, 9, 4}});
  const at::Tensor logits = forward(model, packed);
  int64_t begin = 0;
  for (const int64_t length : {6, 1, 9, 4}) {
    const Batch alone{all.tokens.narrow(1, begin, length), packed_context({{length}})};
    EXPECT_LT(distance(logits.narrow(1, begin, length), forward(model, alone)), 1e-5) << begin;
    begin += length;
  }
  EXPECT_GT(distance(logits, forward(model, {all.tokens, packed_context({{20}})})), 1e-2);
}

// Two settings under which a document's end decides what its tokens see and how they are rotated.
TEST(Model, PackedDocumentsEqualSeparateRowsUnderAWindowAndDynamicRope) {
  Value description = describe_model(small_config());
  for (Value& layer : description.find("layers")->as_list()) {
    Value& attention = layer.find("blocks")->as_list()[0].find("blocks")->as_list()[1];
    attention.set("window", 4);
    attention.set("rope", Value::map({{"theta", 10000.0}, {"type", "dynamic"}, {"factor", 2.0}, {"original", 5}}));
  }
  Model model(description, {});
  fill(model);
  const Batch all = golden_batch(1, 20, 61);
  const at::Tensor logits = forward(model, {all.tokens, packed_context({{6, 1, 9, 4}})});
  int64_t begin = 0;
  for (const int64_t length : {6, 1, 9, 4}) {
    const Batch alone{all.tokens.narrow(1, begin, length), packed_context({{length}})};
    EXPECT_LT(distance(logits.narrow(1, begin, length), forward(model, alone)), 1e-5) << begin;
    begin += length;
  }
  EXPECT_GT(distance(logits, forward(model, {all.tokens, packed_context({{20}})})), 1e-2);
}

TEST(Model, LogitsOfTheLastTokensAlone) {
  Model model(describe_model(small_config()), {});
  fill(model);
  Batch batch = golden_batch(2, 8, 61);
  batch.context.targets = at::Tensor();
  const at::Tensor all = forward(model, batch);
  batch.context.last = batch.tokens.select(1, 0).mul(0).add(5);
  batch.context.last[1] = 7;
  const at::Tensor some = forward(model, batch);
  EXPECT_LT(distance(some[0][0], all[0][5]), 1e-5);
  EXPECT_LT(distance(some[1][0], all[1][7]), 1e-5);
}

TEST(Model, QuantizedEqualsTheModelOfItsDequantizedWeights) {
  const LoraOptions lora{.r = 4, .dropout = 0.1};
  const Value description = describe_model(small_config(true));
  Model quantized(description, {.quantize_nf4 = true, .lora = &lora}), dense(description, {.lora = &lora});
  fill(quantized);
  fill(dense);
  for (size_t i = 0; i < quantized.parameters().size(); ++i) {
    const Parameter& p = *quantized.parameters()[i];
    if (p.storage == Storage::nf4)
      dense.parameters()[i]->value =
          cpu::nf4_dequantize(p.value, p.shape[0], p.shape[1], p.nested_offset, p.double_quant, at::kFloat);
  }
  Batch batch = golden_batch(2, 19, 61);
  batch.context.training = true;
  const Gradients got = backward(quantized, batch), want = backward(dense, batch);
  EXPECT_NEAR(got.loss, want.loss, 1e-6 * want.loss);
  for (const auto& [name, grad] : want.of) EXPECT_LT(distance(got.of.at(name), grad), 1e-5) << name;
}

TEST(Model, DropoutDependsOnWhatIsComputedNotOnWhere) {
  const LoraOptions lora{.r = 4, .dropout = 0.3};
  Model model(describe_model(small_config()), {.lora = &lora});
  fill(model);
  Batch batch = golden_batch(2, 19, 61);
  batch.context.training = true;
  batch.context.seed = 7;
  batch.context.step = 3;
  batch.context.rows = {40, 12};
  const double both = forward(model, batch).item<double>();
  EXPECT_EQ(forward(model, batch).item<double>(), both);  // a checkpointed unit is run again

  double apart = 0;  // each row on a rank of its own
  for (int64_t row = 0; row < 2; ++row) {
    Batch one = batch;
    one.tokens = batch.tokens.narrow(0, row, 1);
    one.context.positions = batch.context.positions.narrow(0, row, 1);
    one.context.targets = batch.context.targets.narrow(0, row, 1);
    one.context.documents = {{19}};
    one.context.rows = {batch.context.rows[static_cast<size_t>(row)]};
    apart += forward(model, one).item<double>();
  }
  EXPECT_NEAR(apart, both, 1e-5 * both);

  const auto changed = [&](const std::function<void(Context&)>& change) {
    Batch other = batch;
    change(other.context);
    return std::abs(forward(model, other).item<double>() - both);
  };
  EXPECT_GT(changed([](Context& c) { c.step = 4; }), 1e-3);
  EXPECT_GT(changed([](Context& c) { c.seed = 8; }), 1e-3);
  EXPECT_GT(changed([](Context& c) { c.rows = {40, 13}; }), 1e-3);
  EXPECT_GT(changed([](Context& c) { c.training = false; }), 1e-3);
}

TEST(Model, ComputesInBf16FromWeightsOfAnyDtype) {
  const LoraOptions lora{.r = 4};
  const Value description = describe_model(small_config());
  Model exact(description, {.lora = &lora}), low(description, {.compute = DType::bf16, .lora = &lora});
  fill(exact);
  fill(low, at::kFloat, at::kBFloat16);
  const Batch batch = golden_batch(2, 19, 61);
  const Gradients want = backward(exact, batch), got = backward(low, batch);
  EXPECT_NEAR(got.loss, want.loss, 1e-2 * want.loss);
  for (const auto& [name, grad] : want.of) {
    EXPECT_EQ(got.of.at(name).scalar_type(), at::kBFloat16) << name;
    EXPECT_LT(distance(got.of.at(name), grad), 0.1) << name;
  }
  // Frozen weights in bf16 or fp16 under fp32 compute: the model of the rounded weights, nothing else lost.
  for (const at::ScalarType stored : {at::kBFloat16, at::kHalf}) {
    Model rounded(description, {.lora = &lora}), mixed(description, {.lora = &lora});
    fill(mixed, stored);
    fill(rounded);
    for (Parameter* p : rounded.parameters())
      if (p->storage == Storage::frozen) p->value = p->value.to(stored).to(at::kFloat);
    EXPECT_EQ(backward(mixed, batch).loss, backward(rounded, batch).loss);
  }
}

}  // namespace
}  // namespace ft::testing
