// Greedy answers against whole forwards, across the length at which longrope's angles become others.
#include "engine/train/generate.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/ranks/tiny_model.h"
#include "tests/thrown.h"

namespace ft::test {
namespace {

// A tiny decoder whose rows of more than `original` tokens are rotated by other factors.
ShardedModel longrope_model(const WeightSource& source, int64_t original) {
  Value description = tiny_decoder(false);
  Value shorter = Value::list(), longer = Value::list();
  for (int i = 0; i < 8; ++i) shorter.as_list().emplace_back(1.0), longer.as_list().emplace_back(4.0 + i);
  for (Value& layer : description.find("layers")->as_list())
    layer.find("blocks")->as_list()[0].find("blocks")->as_list()[1].set("rope", Value::map({{"type", "longrope"},
                                                                                            {"theta", 10000.0},
                                                                                            {"original", original},
                                                                                            {"short_factor", shorter},
                                                                                            {"long_factor", longer}}));
  const Value plan =
      Value::map({{"model", Value::map({{"description", description}, {"quantize", "none"}, {"compute", "fp32"}})},
                  {"parallel", Value::map({})}});
  return {plan, source, ProcessGroup::single()};
}

int32_t next_of(ShardedModel& model, const std::vector<int32_t>& row) {
  const auto length = static_cast<int64_t>(row.size());
  const at::Tensor tokens = at::empty({1, length}, at::kLong);
  Context context;
  context.positions = at::empty({1, length}, at::kLong);
  for (int64_t t = 0; t < length; ++t) {
    tokens.data_ptr<int64_t>()[t] = row[static_cast<size_t>(t)];
    context.positions.data_ptr<int64_t>()[t] = t;
  }
  context.documents = {{length}};
  const at::Tensor logits = model.schedule().forward(tokens, context).contiguous();
  const auto* last = logits.data_ptr<float>() + logits.numel() - logits.size(-1);
  return static_cast<int32_t>(std::max_element(last, last + logits.size(-1)) - last);
}

TEST(Generate, RunsARowAgainWhereItsAnglesBecomeOthers) {
  const WeightSource source(nullptr, /*seed=*/3);
  for (const int64_t original : {9, 40}) {  // crossed while it answers, and never
    ShardedModel model = longrope_model(source, original);
    model.load(source, [](int64_t) {});
    std::vector<int32_t> row{5, 17, 3, 60, 22, 8};
    const auto answers = generate(model, {row}, {.max_new_tokens = 10});
    for (const int32_t token : answers.at(0)) {
      EXPECT_EQ(token, next_of(model, row)) << "original length " << original << ", after " << row.size() << " tokens";
      row.push_back(token);
    }
    EXPECT_EQ(row.size(), 16u);
  }
}

// The longest row decides for all, as in transformers: a short one beside it is what it is when it is as long.
TEST(Generate, TakesRowsOfDifferentLengthsOverTheSwitch) {
  const WeightSource source(nullptr, /*seed=*/3);
  ShardedModel model = longrope_model(source, 9);
  model.load(source, [](int64_t) {});
  const std::vector<int32_t> one{5, 17, 3, 60, 22, 8, 11, 12}, two{40, 2, 9};
  const auto both = generate(model, {one, two}, {.max_new_tokens = 8});
  EXPECT_EQ(both.at(0), generate(model, {one}, {.max_new_tokens = 8}).at(0));
  EXPECT_EQ(both.at(1).size(), 8u);
  EXPECT_ERROR(generate(model, {one, {}}, {.max_new_tokens = 1}), config, "empty prompt");
}

}  // namespace
}  // namespace ft::test
