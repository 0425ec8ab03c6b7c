#include "engine/schema/schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/schema/registry.h"

namespace ft {
namespace {

Schema toy() {
  return {
      .name = "toy",
      .doc = "A toy.",
      .options = {{.key = "size", .kinds = kInteger, .doc = "how large", .fallback = 4, .above = 0},
                  {.key = "rate", .kinds = kNumber, .doc = "how fast", .fallback = 0.5, .at_least = 0, .below = 1},
                  {.key = "mode", .kinds = kString, .doc = "which way", .fallback = "up", .allowed = {"up", "down"}},
                  {.key = "names", .kinds = kList, .doc = "of things"}},
      .renames = {{"speed", "rate", "is called rate here"}},
      .replacements = {{"mode", "sideways", "write \"up\""}}};
}

std::vector<Fault> faults_of(Value value, Value* checked = nullptr) {
  std::vector<Fault> faults;
  check(toy(), value, "toy", faults);
  if (checked) *checked = value;
  return faults;
}

TEST(Schema, fills_in_defaults_and_keeps_what_is_given) {
  Value out;
  EXPECT_TRUE(faults_of(Value::map({{"size", 7}}), &out).empty());
  EXPECT_EQ(out.at("size").as_integer(), 7);
  EXPECT_EQ(out.at("rate").as_number(), 0.5);
  EXPECT_EQ(out.at("kind").as_string(), "toy");
  EXPECT_EQ(out.find("names"), nullptr);
}

TEST(Schema, takes_an_empty_list_for_an_empty_table) {
  Value out;
  EXPECT_TRUE(faults_of(Value::list(), &out).empty());
  EXPECT_EQ(out.at("size").as_integer(), 4);
}

TEST(Schema, refuses_an_unknown_key_with_the_nearest_known_one) {
  const auto faults = faults_of(Value::map({{"sise", 7}}));
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].message, "unknown key 'sise'");
  EXPECT_EQ(faults[0].help, "did you mean 'size'?  keys: mode, names, rate, size");
}

TEST(Schema, reports_every_fault) {
  const auto faults = faults_of(Value::map({{"size", 0}, {"rate", 1.0}, {"mode", "left"}, {"names", "x"}}));
  ASSERT_EQ(faults.size(), 4u);
  EXPECT_EQ(faults[0].message, "got 0, want above 0");
  EXPECT_EQ(faults[1].message, "got 1, want below 1");
  EXPECT_EQ(faults[2].message, "got 'left', want up or down");
  EXPECT_EQ(faults[3].message, "got string 'x', want list");
}

TEST(Schema, refuses_a_fraction_where_an_integer_is_wanted_and_takes_a_whole_number) {
  EXPECT_EQ(faults_of(Value::map({{"size", 1.5}})).at(0).message, "got number 1.5, want integer");
  Value out;
  EXPECT_TRUE(faults_of(Value::map({{"size", 2.0}}), &out).empty());
  EXPECT_TRUE(out.at("size").is_integer());
}

TEST(Schema, refuses_numbers_that_are_none) {
  EXPECT_EQ(faults_of(Value::map({{"rate", std::nan("")}})).size(), 1u);
  EXPECT_EQ(faults_of(Value::map({{"size", 1e300}})).size(), 1u);
}

TEST(Schema, reads_a_renamed_key_with_a_warning) {
  Value out;
  const auto faults = faults_of(Value::map({{"speed", 0.25}}), &out);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_TRUE(faults[0].warning);
  EXPECT_EQ(faults[0].message, "is called rate here; read as toy.rate");
  EXPECT_EQ(out.at("rate").as_number(), 0.25);
}

TEST(Schema, refuses_a_key_given_under_both_its_names) {
  const auto faults = faults_of(Value::map({{"speed", 0.25}, {"rate", 0.5}}));
  EXPECT_TRUE(std::any_of(faults.begin(), faults.end(), [](const Fault& f) { return !f.warning; }));
}

TEST(Schema, answers_another_tools_value_with_the_way_out) {
  const auto faults = faults_of(Value::map({{"mode", "sideways"}}));
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].help, "write \"up\"");
}

TEST(Schema, reads_command_line_text_as_the_kind_that_is_wanted) {
  const Option number{.key = "lr", .kinds = kNumber, .doc = "", .above = 0};
  Value value("2e-4");
  std::vector<Fault> faults;
  check_option(number, value, "", faults, true);
  EXPECT_TRUE(faults.empty());
  EXPECT_EQ(value.as_number(), 2e-4);
  value = Value("2e-4x");
  check_option(number, value, "", faults, true);
  EXPECT_EQ(faults.at(0).message, "got string '2e-4x', want number");
}

TEST(Registry, every_block_names_schemas_that_exist_and_every_default_passes_its_own_check) {
  for (const Schema& schema : schemas())
    for (const Option& option : schema.options) {
      SCOPED_TRACE(schema.name + "." + option.key);
      for (const std::string& name : option.schemas) EXPECT_NE(find_schema(name), nullptr) << name;
      if (option.fallback.is_null()) continue;
      Value value = option.fallback;
      std::vector<Fault> faults;
      check_option(option, value, option.key, faults);
      EXPECT_TRUE(faults.empty()) << render(faults);
    }
}

TEST(Registry, renames_lead_to_keys_that_exist) {
  for (const Schema& schema : schemas())
    for (const Rename& rename : schema.renames) {
      EXPECT_NE(schema.find(rename.to), nullptr) << schema.name << "." << rename.to;
      EXPECT_EQ(schema.find(rename.from), nullptr) << schema.name << "." << rename.from;
    }
}

}  // namespace
}  // namespace ft
