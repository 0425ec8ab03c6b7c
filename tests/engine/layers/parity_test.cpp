// Against transformers and peft in fp32, on weights by formula (tests/golden/models.py).
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/layers/kv_cache.h"
#include "engine/tensor/counter_random.h"
#include "tests/engine/layers/model_fixture.h"

namespace ft::testing {
namespace {

using nlohmann::json;

Value to_value(const json& j) {
  if (j.is_object()) {
    Value made = Value::map();
    for (const auto& [key, item] : j.items()) made.set(key, to_value(item));
    return made;
  }
  if (j.is_array()) {
    Value made = Value::list();
    for (const json& item : j) made.as_list().push_back(to_value(item));
    return made;
  }
  if (j.is_boolean()) return j.get<bool>();
  if (j.is_number_integer()) return j.get<int64_t>();
  if (j.is_number()) return j.get<double>();
  return j.get<std::string>();
}

json golden(const std::string& name) {
  std::ifstream in(std::string(FT_GOLDEN_DIR) + "/models/" + name + ".json");
  EXPECT_TRUE(in) << name;
  return json::parse(in);
}

// What stdlib/ft/models makes of the golden's config; tests/lua/models_test.lua holds it to that.
Value description(const std::string& name) { return to_value(golden("descriptions/" + name)); }

// Estimates |got - want| / |want| from sums under random signs; see models.py.
double gradient_distance(const json& want, const std::string& name, const at::Tensor& got, uint64_t seed) {
  const at::Tensor flat = got.to(at::kDouble).flatten().contiguous();
  const double* g = flat.data_ptr<double>();
  double squares = 0;
  for (size_t k = 0; k < want["sums"].size(); ++k) {
    const CounterRandom random(seed, name + "#" + std::to_string(k));
    double sum = 0;
    for (int64_t i = 0; i < flat.numel(); ++i) sum += random.bits(static_cast<uint64_t>(i)) >> 63 ? g[i] : -g[i];
    squares += std::pow(sum - want["sums"][k].get<double>(), 2);
  }
  return std::sqrt(squares / static_cast<double>(want["sums"].size())) / want["norm"].get<double>();
}

void expect_parity(Model& model, const json& file, const json& want) {
  const auto rows = file["rows"].get<int64_t>(), tokens = file["tokens"].get<int64_t>();
  const Batch batch = golden_batch(rows, tokens, model.vocab_size());
  const Gradients got = backward(model, batch);
  const double loss = want["loss"].get<double>();
  EXPECT_NEAR(got.loss, loss, 1e-5 * loss);
  EXPECT_EQ(got.of.size(), want["grads"].size());
  for (const auto& [name, digest] : want["grads"].items()) {
    ASSERT_TRUE(got.of.contains(name)) << name;
    EXPECT_LT(gradient_distance(digest, name, got.of.at(name), file["seed"].get<uint64_t>()), 1e-4) << name;
  }
  Batch for_logits = batch;
  for_logits.context.targets = at::Tensor();
  const at::Tensor logits = forward(model, for_logits);
  ASSERT_EQ(logits.sizes(), (std::vector<int64_t>{rows, tokens, model.vocab_size()}));
  for (const auto& [place, row] : want["logits"].items()) {
    const int64_t b = std::stoll(place), t = std::stoll(place.substr(place.find(',') + 1));
    const at::Tensor stored = at::tensor(row.get<std::vector<float>>());
    EXPECT_LT(logits[b][t].sub(stored).abs().max().item<double>(), 1e-4) << place;
  }
}

class Parity : public ::testing::TestWithParam<const char*> {};

TEST_P(Parity, FullTrainingEqualsTransformers) {
  const json file = golden(GetParam());
  Model model(description(GetParam()), {});
  fill(model);
  expect_parity(model, file, file["full"]);
}

TEST_P(Parity, LoraEqualsPeft) {
  const json file = golden(GetParam());
  LoraOptions lora{.r = 4, .alpha = 10, .use_rslora = std::string(GetParam()).ends_with("_tied")};
  if (file["lora"].contains("target_modules")) {
    lora.target_modules = to_value(file["lora"]["target_modules"]);
    lora.use_rslora = false;  // which PEFT has not on experts
  }
  Model model(description(GetParam()), {.lora = &lora});
  fill(model);
  expect_parity(model, file, file["lora"]);
}

// Token by token with a cache, as `ftengine generate` decodes.
TEST_P(Parity, DecodingEqualsTheWholeForward) {
  const json file = golden(GetParam());
  Model model(description(GetParam()), {});
  fill(model);
  const auto rows = file["rows"].get<int64_t>(), tokens = file["tokens"].get<int64_t>();
  Batch whole = golden_batch(rows, tokens, model.vocab_size());
  whole.context.targets = at::Tensor();
  KvCache cache(rows, tokens);
  // Angles that depend on how much is seen are those of the whole row once all of it is seen: it is decoded at once.
  const std::string rope = file["config"].contains("rope_parameters") ? file["config"]["rope_parameters"].dump() : "";
  const bool by_length = rope.find("dynamic") != std::string::npos || rope.find("longrope") != std::string::npos;
  const at::Tensor want = forward(model, whole);
  for (int64_t begin = 0; begin < tokens;) {
    const int64_t width = by_length ? tokens : begin == 0 ? 7 : std::min<int64_t>(tokens - begin, 1 + begin % 3);
    Batch part{whole.tokens.narrow(1, begin, width), {}};
    part.context.positions = cache.next_positions(width);
    part.context.cache = &cache;
    const at::Tensor got = forward(model, part);
    EXPECT_LT(got.sub(want.narrow(1, begin, width)).abs().max().item<double>(), 1e-4) << "from token " << begin;
    cache.advance(std::vector<int64_t>(static_cast<size_t>(rows), width));
    begin += width;
  }
}

// Documents that share rows, of lengths around the windows and the original lengths, are computed as rows of their own.
TEST_P(Parity, PackedDocumentsEqualRowsOfTheirOwn) {
  const json file = golden(GetParam());
  Model model(description(GetParam()), {});
  fill(model);
  const std::vector<std::vector<int64_t>> documents{{3, 16}, {9, 4, 6}};
  Batch packed = golden_batch(2, 19, model.vocab_size());
  packed.context = packed_context(documents);
  const at::Tensor got = forward(model, packed);
  for (int64_t row = 0; row < 2; ++row) {
    int64_t begin = 0;
    for (const int64_t length : documents[static_cast<size_t>(row)]) {
      const at::Tensor alone =
          forward(model, {packed.tokens.narrow(0, row, 1).narrow(1, begin, length), packed_context({{length}})});
      EXPECT_LT(got[row].narrow(0, begin, length).sub(alone[0]).abs().max().item<double>(), 1e-4)
          << "row " << row << ", document at " << begin;
      begin += length;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Parity,
                         ::testing::Values("llama_untied", "llama_tied", "llama3_untied", "llama_yarn_tied",
                                           "qwen2_untied", "qwen2_tied", "qwen3_untied", "qwen3_tied", "mistral_untied",
                                           "mistral_tied", "granite_untied", "granite_tied", "olmo2_untied",
                                           "olmo2_tied", "smollm3_untied", "smollm3_tied", "phi3_untied", "phi3_tied",
                                           "cohere_tied", "cohere_untied", "gemma2_tied", "gemma2_untied",
                                           "gemma3_tied", "gemma3_untied", "mixtral_untied", "mixtral_tied",
                                           "qwen3_moe_untied", "qwen3_moe_tied"));

}  // namespace
}  // namespace ft::testing
