// Adapters that peft wrote, of every kind that the engine reads: trained as peft trains them, written as peft writes
// them, merged (tests/golden/adapters.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <span>

#include "engine/formats/safetensors.h"
#include "tests/recipes/small_model.h"
#include "tests/recipes/train_plan.h"

namespace ft::test {
namespace {

using testing::HasSubstr;

constexpr int64_t kVocab = 40, kRows = 2, kLength = 12;
constexpr double kLoss = 3e-6;  // fp32 sums in another order, three steps deep

fs::path golden(const std::string& name) { return fs::path(ft_source_dir()) / "tests/golden/adapters" / name; }

const std::string kRecipe = std::string(R"(local ft = require "ft"
local opt = ft.options {
  model = { "path" }, from = { "path" }, out = { "output", default = "run" }, steps = { "integer", default = 3 },
  quantize = { "string", default = "none" }, double_quant = { "boolean", default = true }, dora = { "boolean", default = false }, lr = { "number", default = 0.05 },
  loftq = { "integer", default = 0 }, plain = { "boolean", default = false }, unfrozen = { "list", default = {} },
}
local adapter = opt.from and ft.lora { from = opt.from, dropout = 0 }
  or opt.dora and ft.lora { r = 2, alpha = 6, use_dora = true, dropout = 0.1 }
  or opt.loftq > 0 and ft.lora { r = opt.loftq, alpha = 3 * opt.loftq, init_lora_weights = "loftq" } or nil
local plan = ft.plan {
  model = ft.hf { opt.model, quantize = opt.quantize, double_quant = opt.double_quant, compute = "fp32" },
  adapter = not opt.plain and adapter or nil, unfrozen_parameters = opt.unfrozen,
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 12, pack = false, shuffle = false } },
  optimizer = ft.sgd { lr = opt.lr, schedule = ft.constant {} },
  batch = { total = 2, micro = 1 }, epochs = 1000, max_steps = opt.steps, save = { dir = opt.out },
}
)") + test::kTrainPlan;

std::vector<float> fp32_of(const SafetensorsFile& file, const TensorEntry& entry) {
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  file.read(entry, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

class Adapters : public testing::Test {
 protected:
  void SetUp() override {
    write_rows(kVocab);
    spill(folder_ / "train.lua", kRecipe);
  }
  void write_rows(int64_t vocab) {
    std::string text;
    for (int64_t row = 0; row < kRows; ++row) {
      Json ids = Json::array();
      for (int64_t i = row * kLength; i < (row + 1) * kLength; ++i) ids.push_back((i * 7 + (i * i) % 11 + 3) % vocab);
      text += Json{{"input_ids", ids}}.dump() + "\n";
    }
    spill(folder_ / "rows.jsonl", text);
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

  TemporaryDirectory folder_;
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

// LoftQ's start makes up for what NF4 takes away: of rank 16, here for all of it, whatever alpha is.
TEST_F(Adapters, ALoftqAdapterBeginsNearerToTheBase) {
  const auto loss = [&](const std::string& out, std::vector<std::string> words) {
    words.insert(words.end(), {"--steps=1", "--nproc=1"});
    return train(golden("base_untied"), out, words).at(0);
  };
  const double base = loss("base", {"--plain"}), nf4 = loss("nf4", {"--quantize=nf4", "--dora"});
  ASSERT_GT(std::abs(nf4 - base), 1e-4 * base);
  EXPECT_NEAR(loss("all", {"--quantize=nf4", "--loftq=16"}), base, 1e-5 * base);
  const Finished planned = ft(
      {"plan", "train.lua", "--model=" + golden("base_untied").string(), "--quantize=nf4", "--loftq=2", "--nproc=1"});
  EXPECT_EQ(planned.exit_code, 0) << planned.err;
  EXPECT_THAT(planned.out, HasSubstr("LoftQ"));
  const Finished refused = ft({"check", "train.lua", "--model=" + golden("base_untied").string(), "--loftq=2"});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.err, HasSubstr("begins with what quantizing takes away, and the base is not quantized"));
}

// Its adapter goes with the quantized base alone: merging takes that without being told, and says so.
TEST_F(Adapters, ALoftqAdapterIsFoldedIntoTheQuantizedBase) {
  const std::vector<std::string> words{"--quantize=nf4", "--loftq=4", "--steps=4"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), words.begin(), words.end());
    return more;
  };
  const auto one = train(golden("base_untied"), "one", with({"--nproc=1"}));
  const auto two = train(golden("base_untied"), "two", with({"--nproc=2"}));
  ASSERT_EQ(one.size(), 4u);
  ASSERT_EQ(two.size(), 4u);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], two[i], 1e-5 * one[i]);
  const auto longer = train(golden("base_untied"), "longer", {"--quantize=nf4", "--loftq=4", "--steps=5", "--nproc=1"});
  ASSERT_EQ(longer.size(), 5u);

  const Finished merged = ft({"merge", "two", "-o", "merged"});
  ASSERT_EQ(merged.exit_code, 0) << merged.err;
  EXPECT_THAT(merged.out, HasSubstr("LoRA began by LoftQ"));
  const auto after = train(folder_ / "merged", "after", {"--plain", "--steps=1", "--nproc=1"});
  EXPECT_NEAR(after.at(0), longer[4], 1e-5 * longer[4]);
  // What is null in the base's config.json is null in the merged one: absent it would mean transformers' default.
  const Json base = Json::parse(slurp(golden("base_untied") / "config.json"));
  const Json written = Json::parse(slurp(folder_ / "merged/config.json"));
  ASSERT_TRUE(base.at("sliding_window").is_null());
  for (const auto& [key, value] : base.items()) EXPECT_TRUE(written.contains(key)) << key;
  EXPECT_TRUE(written.at("sliding_window").is_null());
  const Finished original = ft({"merge", "two", "-o", "wrong", "--base", "original"});
  EXPECT_NE(original.exit_code, 0);
  EXPECT_THAT(original.err, HasSubstr("--base: LoRA began by LoftQ"));
  EXPECT_FALSE(fs::exists(folder_ / "wrong"));
  EXPECT_NE(ft({"merge", "two", "-o", "wrong", "--format", "gguf"}).exit_code, 0);

  // Alone it remembers what it goes with.
  ASSERT_EQ(ft({"merge", "two", "--adapter-only", "-o", "adapter"}).exit_code, 0);
  const auto next = train(golden("base_untied"), "next",
                          {"--from=" + (folder_ / "adapter").string(), "--quantize=nf4", "--steps=1", "--nproc=1"});
  EXPECT_NEAR(next.at(0), longer[4], 1e-5 * longer[4]);
  const Finished refused = ft({"run", "train.lua", "--model=" + golden("base_untied").string(),
                               "--from=" + (folder_ / "adapter").string(), "--out=none", "--nproc=1"});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.err, HasSubstr("the base is not quantized"));
}

// What bitsandbytes has quantized trains as it is: NF4, its scales quantized or not, packed as bytes or as bf16; FP4 as
// what it is dequantized to. LoRA's start cannot make up for what is not known.
TEST_F(Adapters, TrainOnWeightsThatBitsandbytesQuantized) {
  write_rows(21);
  const std::string foreign = (fs::path(ft_source_dir()) / "tests/golden/foreign").string() + "/";
  const std::map<std::string, std::vector<std::string>> kinds{
      {"bnb_nf4", {"--quantize=nf4"}},
      {"bnb_nf4_flat", {"--quantize=nf4", "--double_quant=false"}},
      {"bnb_fp4", {"--quantize=none"}}};
  for (const auto& [kind, words] : kinds) {
    ASSERT_EQ(ft({"merge", foreign + kind, "--dtype", "fp32", "-o", kind}).exit_code, 0);
    const auto plain = train(folder_ / kind, "plain_" + kind, {"--plain", "--steps=1", "--nproc=1"});
    std::map<std::string, std::vector<double>> losses;
    for (const char* ranks : {"1", "2"}) {
      std::vector<std::string> more{"--dora", "--lr=0.5", "--steps=4", std::string("--nproc=") + ranks};
      more.insert(more.end(), words.begin(), words.end());
      losses[ranks] = train(foreign + kind, kind + ranks, more);
      ASSERT_EQ(losses[ranks].size(), 4u) << kind;
    }
    EXPECT_NEAR(losses["1"][0], plain.at(0), 5e-5 * plain.at(0)) << kind;  // the merged weights are rounded to bf16
    EXPECT_LT(losses["1"][3], losses["1"][0]) << kind;
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(losses["1"][i], losses["2"][i], 1e-5 * losses["1"][i]) << kind;
  }
  const Finished refused = ft(
      {"run", "train.lua", "--model=" + foreign + "bnb_nf4", "--quantize=nf4", "--loftq=2", "--out=none", "--nproc=1"});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.err, HasSubstr("is quantized already"));
}

// Another engine's checkpoint, beside a config.json, is a model to begin from.
TEST_F(Adapters, BeginFromOtherEnginesWeights) {
  write_rows(21);
  const fs::path foreign = fs::path(ft_source_dir()) / "tests/golden/foreign";
  const auto want = train(foreign / "model", "want", {"--plain", "--steps=2", "--nproc=1"});
  ASSERT_EQ(want.size(), 2u);
  for (const char* kind : {"dcp", "sharded_safetensors"}) {
    fs::copy(foreign / kind, folder_ / kind, fs::copy_options::recursive);
    fs::copy(foreign / "model/config.json", folder_ / kind / "config.json");
    const auto got = train(folder_ / kind, std::string("from_") + kind, {"--plain", "--steps=2", "--nproc=2"});
    ASSERT_EQ(got.size(), 2u) << kind;
    for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(got[i], want[i], kLoss * want[i]) << kind;
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

// What the adapter's configuration does not say, it was not made with: another scale would be another model.
TEST_F(Adapters, ARecipeAddsNothingToAnAdapter) {
  const std::map<std::string, std::string> added{
      {"alpha_pattern = { v_proj = 3 }", "adapter.alpha_pattern: got v_proj = 3, want nothing"},
      {"use_rslora = true", "adapter.use_rslora: got true, want false"},
      {"use_dora = true", "adapter.use_dora: got true, want nothing"}};
  for (const auto& [stated, message] : added) {
    std::string recipe = kRecipe;
    const std::string from = "from = opt.from, dropout = 0";
    recipe.insert(recipe.find(from) + from.size(), ", " + stated);
    spill(folder_ / "stated.lua", recipe);
    const Finished refused = ft({"check", "stated.lua", "--model=" + golden("base_untied").string(),
                                 "--from=" + golden("layers").string(), "--nproc=1"});
    EXPECT_EQ(refused.exit_code, 1) << stated;
    EXPECT_THAT(refused.err, HasSubstr(message));
  }
}

}  // namespace
}  // namespace ft::test
