#include "engine/formats/lora_targets.h"

#include <gtest/gtest.h>

#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/formats/peft_adapter.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

LoraTargets targets(const std::string& adapter_config) {
  return LoraTargets(LoraOptions::read(plan_options(parse_json(adapter_config, "adapter_config.json"))));
}

// What peft 0.21 adapts of a Llama whose head is its own, asked for the same.
TEST(LoraTargets, LayersAreNotAskedOfWholePaths) {
  const LoraTargets made = targets(R"({"layers_to_transform": [1], "target_modules":
      ["up_proj", "embed_tokens", "lm_head", "model.layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj"]})");
  EXPECT_TRUE(made.match("model.layers.1.mlp.up_proj", true));
  EXPECT_FALSE(made.match("model.layers.0.mlp.up_proj", true));
  EXPECT_TRUE(made.match("lm_head", false));
  EXPECT_FALSE(made.match("model.embed_tokens", false));
  EXPECT_TRUE(made.match("model.layers.0.self_attn.q_proj", true));
  EXPECT_FALSE(made.match("model.layers.0.self_attn.k_proj", true));
}

TEST(LoraTargets, WhatIsExcludedOrSavedIsNotAdapted) {
  const LoraTargets made = targets(R"({"target_modules": ["lm_head", "model.layers.0.mlp.up_proj"],
      "layers_to_transform": 3, "exclude_modules": ["layers.0.mlp.up_proj"], "modules_to_save": ["lm_head"]})");
  EXPECT_FALSE(made.match("model.layers.0.mlp.up_proj", true));
  EXPECT_FALSE(made.match("lm_head", false));
}

TEST(PeftOptions, ArePeftsOwnWhereTheFileIsSilent) {
  const LoraShape shape = targets(R"({"target_modules": ["q_proj"]})").shape("model.layers.0.self_attn.q_proj");
  EXPECT_EQ(shape.r, 8);
  EXPECT_EQ(shape.scale, 1.0);
  const Value options = plan_options(parse_json(R"({"lora_alpha": 3, "use_rslora": null})", "a"));
  EXPECT_EQ(options.at("alpha").as_number(), 3);
  EXPECT_EQ(options.at("r").as_integer(), 8);
  EXPECT_FALSE(options.at("use_rslora").as_bool());
}

TEST(PeftAdapter, SaysWhatToDoWithAnOlderFile) {
  const test::TemporaryDirectory directory;
  write_text(directory / "adapter_config.json", "{}");
  write_text(directory / "adapter_model.bin", "");
  EXPECT_ERROR(PeftAdapter(directory.path()), config, "adapter_model.bin: holds an adapter as PEFT wrote them before");
}

}  // namespace
}  // namespace ft
