// Adapters that peft wrote, of every kind that the engine reads: trained as peft trains them, written as peft writes
// them, merged (tests/golden/adapters.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <span>

#include "engine/formats/safetensors.h"
#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::HasSubstr;

constexpr int64_t kVocab = 40, kRows = 2, kLength = 12;
constexpr double kLoss = 3e-6;  // fp32 sums in another order, three steps deep

fs::path golden(const std::string& name) { return fs::path(ft_source_dir()) / "tests/golden/adapters" / name; }

constexpr const char* kRecipe = R"(local ft = require "ft"
local opt = ft.options {
  model = { "path" }, from = { "path" }, out = { "output", default = "run" }, steps = { "integer", default = 3 },
  quantize = { "string", default = "none" }, dora = { "boolean", default = false }, lr = { "number", default = 0.05 },
  plain = { "boolean", default = false }, unfrozen = { "list", default = {} },
}
local adapter = opt.from and ft.lora { from = opt.from, dropout = 0 }
  or opt.dora and ft.lora { r = 2, alpha = 6, use_dora = true, dropout = 0.1 } or nil
local plan = ft.plan {
  model = ft.hf { opt.model, quantize = opt.quantize, compute = "fp32" },
  adapter = not opt.plain and adapter or nil, unfrozen_parameters = opt.unfrozen,
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 12, pack = false, shuffle = false } },
  optimizer = ft.sgd { lr = opt.lr, schedule = ft.constant {} },
  batch = { total = 2, micro = 1 }, epochs = 1000, max_steps = opt.steps, save = { dir = opt.out },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  run:update()
  run:log { step = step, loss = run:sum(loss) }
end
run:finish()
)";

std::vector<float> fp32_of(const SafetensorsFile& file, const TensorEntry& entry) {
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  file.read(entry, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

class Adapters : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int64_t row = 0; row < kRows; ++row) {
      Json ids = Json::array();
      for (int64_t i = row * kLength; i < (row + 1) * kLength; ++i) ids.push_back((i * 7 + (i * i) % 11 + 3) % kVocab);
      text += Json{{"input_ids", ids}}.dump() + "\n";
    }
    spill(folder_ / "rows.jsonl", text);
    spill(folder_ / "train.lua", kRecipe);
  }
  std::vector<double> train(const fs::path& model, const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> words{"run", "train.lua", "--model=" + model.string(), "--out=" + out};
    words.insert(words.end(), more.begin(), more.end());
    const Finished done = run(words, folder_.path());
    EXPECT_EQ(done.exit_code, 0) << done.err;
    std::vector<double> losses;
    if (done.exit_code == 0)
      for (const Json& row : metrics(folder_ / out)) losses.push_back(row.at("loss"));
    return losses;
  }
  Finished ft(std::vector<std::string> words) { return run(words, folder_.path()); }

  Folder folder_;
};

class PeftCase : public Adapters, public testing::WithParamInterface<const char*> {
 protected:
  fs::path base() const { return golden(std::string(GetParam()).ends_with("_tied") ? "base_tied" : "base_untied"); }
  fs::path adapter() const { return golden(GetParam()); }
};

TEST_P(PeftCase, trains_and_merges_as_peft_does) {
  const SafetensorsFile values(adapter() / "values.safetensors");
  std::vector<double> wanted(4);
  values.read(*values.find("losses"), 0, std::as_writable_bytes(std::span(wanted)));
  for (const char* ranks : {"1", "2"}) {
    const std::string out = std::string("run") + ranks;
    const auto losses = train(base(), out, {"--from=" + adapter().string(), std::string("--nproc=") + ranks});
    ASSERT_EQ(losses.size(), 3u);
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], wanted[i], kLoss * wanted[i]) << ranks;
  }
  // What was trained, folded into the base: the loss that peft has after its steps.
  if (std::string(GetParam()) == "bias") {
    const Finished refused = ft({"merge", "run1", "-o", "merged"});
    EXPECT_EQ(refused.exit_code, 0) << refused.err;  // q and v have biases of their own here
  } else {
    const Finished merged = ft({"merge", "run2", "-o", "merged"});
    ASSERT_EQ(merged.exit_code, 0) << merged.err;
  }
  const auto after = train(folder_ / "merged", "after", {"--plain", "--steps=1", "--nproc=1"});
  ASSERT_EQ(after.size(), 1u);
  EXPECT_NEAR(after[0], wanted[3], kLoss * wanted[3]);
}

TEST_P(PeftCase, is_written_as_peft_writes_it) {
  train(base(), "run", {"--from=" + adapter().string(), "--nproc=2"});
  const Finished merged = ft({"merge", "run", "--adapter-only", "-o", "written"});
  ASSERT_EQ(merged.exit_code, 0) << merged.err;
  const SafetensorsFile ours(folder_ / "written/adapter_model.safetensors"),
      theirs(adapter() / "trained/adapter_model.safetensors");
  for (const TensorEntry& want : theirs.entries()) {
    if (want.name.ends_with(".base_layer.weight")) continue;  // the base's own
    const TensorEntry* got = ours.find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    ASSERT_EQ(got->shape, want.shape) << want.name;
    const auto a = fp32_of(ours, *got), b = fp32_of(theirs, want);
    double difference = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) difference += std::pow(a[i] - b[i], 2), size += std::pow(b[i], 2);
    EXPECT_LE(std::sqrt(difference / size), 1e-5) << want.name;
  }
  for (const TensorEntry& got : ours.entries()) EXPECT_NE(theirs.find(got.name), nullptr) << got.name;
  // It leads on from where the run ended.
  const SafetensorsFile values(adapter() / "values.safetensors");
  std::vector<double> wanted(4);
  values.read(*values.find("losses"), 0, std::as_writable_bytes(std::span(wanted)));
  const auto next = train(base(), "next", {"--from=" + (folder_ / "written").string(), "--steps=1", "--nproc=1"});
  ASSERT_EQ(next.size(), 1u);
  EXPECT_NEAR(next[0], wanted[3], kLoss * wanted[3]);
}

INSTANTIATE_TEST_SUITE_P(, PeftCase,
                         testing::Values("dora", "patterns", "bias", "layers", "saved", "saved_tied", "embedding",
                                         "embedding_tied"),
                         [](const auto& one) { return std::string(one.param); });

// A new DoRA adapter begins as its base, whatever that is stored in, and trains alike on every layout.
TEST_F(Adapters, ANewDoraAdapterBeginsAsTheBase) {
  for (const char* quantize : {"none", "nf4"}) {
    const std::string q = std::string("--quantize=") + quantize, at = quantize;
    const auto one = train(golden("base_untied"), at + "1", {"--dora", "--nproc=1", "--lr=0.5", "--steps=6", q});
    const auto two = train(golden("base_untied"), at + "2", {"--dora", "--nproc=2", "--lr=0.5", "--steps=6", q});
    ASSERT_EQ(one.size(), 6u);
    ASSERT_EQ(two.size(), 6u);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], two[i], 1e-5 * one[i]) << at;
    EXPECT_LT(one[5], one[0]);
    if (at == "none") {
      const auto base = train(golden("base_untied"), "base", {"--plain", "--steps=1", "--nproc=1"});
      EXPECT_NEAR(one[0], base.at(0), 1e-6 * base.at(0));
    }
  }
}

// Full fine-tuning of some parameters: the others keep their bits, and patterns that match nothing are refused.
TEST_F(Adapters, UnfrozenParametersAloneAreTrained) {
  const std::string some = "--unfrozen=model.layers.1.,lm_head";
  const auto one = train(golden("base_untied"), "one", {"--plain", "--steps=4", some, "--nproc=1"});
  const auto two = train(golden("base_untied"), "two", {"--plain", "--steps=4", some, "--nproc=2"});
  ASSERT_EQ(one.size(), 4u);
  ASSERT_EQ(two.size(), 4u);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], two[i], kLoss * one[i]);
  EXPECT_LT(one[3], one[0]);
  ASSERT_EQ(ft({"merge", "two", "-o", "merged"}).exit_code, 0);
  const SafetensorsFile before(golden("base_untied") / "model.safetensors"),
      after(folder_ / "merged/model.safetensors");
  for (const TensorEntry& entry : before.entries()) {
    const bool trained = entry.name.find("layers.1.") != std::string::npos || entry.name.starts_with("lm_head");
    EXPECT_EQ(fp32_of(before, entry) != fp32_of(after, *after.find(entry.name)), trained) << entry.name;
  }
  const Finished refused = ft({"run", "train.lua", "--model=" + golden("base_untied").string(), "--plain",
                               "--unfrozen=layers.9", "--out=none", "--nproc=1"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("no parameter's name matches 'layers.9' from its start"));
  EXPECT_FALSE(fs::exists(folder_ / "none"));
}

// On a tied model PEFT would part embedding and head: that is asked for, never done in silence.
TEST_F(Adapters, TiedEmbeddingsAreNotPartedInSilence) {
  const fs::path copy = folder_ / "adapter";
  fs::copy(golden("saved_tied"), copy);
  edit_json(copy / "adapter_config.json", [](Json& config) { config["ensure_weight_tying"] = false; });
  const Finished refused = ft({"run", "train.lua", "--model=" + golden("base_tied").string(), "--from=" + copy.string(),
                               "--out=none", "--nproc=1"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("ensure_weight_tying = true"));
}

}  // namespace
}  // namespace ft::test
