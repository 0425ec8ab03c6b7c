#include "engine/formats/trainer_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engine/formats/json.h"
#include "engine/formats/peft_names.h"

namespace ft {
namespace {

using Groups = std::vector<std::vector<std::string>>;

Groups read(const Value& golden) {
  Groups groups;
  for (const Value& group : golden.as_list()) {
    groups.emplace_back();
    for (const Value& name : group.as_list()) groups.back().push_back(plain_name(name.as_string()));
  }
  return groups;
}

std::vector<std::string> shuffled(const Groups& groups, std::mt19937& random) {
  std::vector<std::string> all;
  for (const auto& group : groups) all.insert(all.end(), group.begin(), group.end());
  std::shuffle(all.begin(), all.end(), random);
  return all;
}

// tests/golden/trainer_order.py: the groups that transformers' Trainer makes, of every model type.
TEST(TrainerOrder, IsThatOfTransformers) {
  std::mt19937 random(3);
  const Value golden = read_json(std::string(FT_GOLDEN_DIR) + "/trainer_order.json");
  ASSERT_EQ(golden.as_map().size(), 13u);
  for (const auto& [type, of_type] : golden.as_map()) {
    SCOPED_TRACE(type);
    const bool experts = type == "mixtral" || type == "qwen3_moe";
    for (const auto& [kind, wanted] : of_type.as_map()) {
      const Groups want = read(wanted);
      const auto got = trainer_groups(shuffled(want, random), type);
      if (experts && kind == "full") {
        EXPECT_FALSE(got) << "transformers names experts otherwise than files do";
      } else {
        ASSERT_TRUE(got) << kind;
        EXPECT_EQ(*got, want) << kind;
      }
    }
  }
}

TEST(TrainerOrder, IsNotGuessed) {
  const std::vector<std::string> plain{"model.norm.weight", "model.embed_tokens.weight"};
  EXPECT_EQ(trainer_groups(plain, "llama"), (Groups{{plain[1]}, {plain[0]}}));
  EXPECT_FALSE(trainer_groups(plain, "another"));
  for (const char* name : {"model.layers.0.mlp.router.weight", "model.layers.x.mlp.up_proj.weight", "model.layers.0",
                           "model.layers.7.", "model.embed_tokens.lora_embedding_A", "",
                           "model.layers.0.mlp.up_proj.lora_A.weight"}) {  // beside what is trained whole
    std::vector<std::string> names = plain;
    names.emplace_back(name);
    EXPECT_FALSE(trainer_groups(names, "llama")) << name;
  }
}

}  // namespace
}  // namespace ft
