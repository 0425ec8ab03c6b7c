#include "engine/optim/learning_rate.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

Value schedule(const std::string& kind, Value warmup) { return Value::map({{"kind", kind}, {"warmup", warmup}}); }

TEST(LearningRate, FollowsTransformers) {
  std::ifstream file(std::string(FT_GOLDEN_DIR) + "/optim.json");
  const auto golden = nlohmann::json::parse(file);
  ASSERT_EQ(golden.at("schedules").size(), 27u);
  for (const auto& row : golden.at("schedules")) {
    const int64_t total = row.at("total");
    const Value described = parse_json(row.at("block").dump(), "golden");
    for (int64_t step = 0; step < total; ++step)
      EXPECT_NEAR(learning_rate(described, 0.3, step, total), row.at("rates")[static_cast<size_t>(step)], 1e-15)
          << row.at("block") << " step " << step;
  }
}

TEST(LearningRate, TakesAWarmupBelowOneAsAShare) {
  EXPECT_EQ(learning_rate(schedule("constant", 0.03), 1.0, 1, 100), 1.0 / 3);
  EXPECT_EQ(learning_rate(schedule("constant", 0.03), 1.0, 3, 100), 1.0);
  EXPECT_EQ(learning_rate(schedule("constant", 0.03), 1.0, 3, 101), 0.75);  // 3.03 rounded up
  EXPECT_EQ(learning_rate(Value(), 0.5, 7, 10), 0.5);
  EXPECT_EQ(learning_rate(schedule("linear", 0), 1.0, 5, 10), 0.5);
}

TEST(LearningRate, EndsAtItsLeastShare) {
  Value described = schedule("cosine", 0);
  described.set("min_lr_ratio", 0.1);
  EXPECT_NEAR(learning_rate(described, 2.0, 10, 10), 0.2, 1e-15);
  EXPECT_NEAR(learning_rate(described, 2.0, 5, 10), 1.1, 1e-15);
  EXPECT_NEAR(learning_rate(described, 2.0, 15, 10), 0.2, 1e-15);
}

TEST(LearningRate, RefusesWhatItDoesNotKnow) {
  EXPECT_THROW(learning_rate(schedule("polynomial", 0), 1, 0, 10), Error);
  EXPECT_THROW(learning_rate(schedule("linear", -1), 1, 0, 10), Error);
  for (const auto& [key, value] : {std::pair{"cycles", Value(0)},
                                   {"decay", Value(-1)},
                                   {"decay_type", Value("square")},
                                   {"timescale", Value(-5)},
                                   {"min_lr_ratio", Value(1.5)}}) {
    Value described = schedule("wsd", 0);
    described.set(key, value);
    EXPECT_THROW(learning_rate(described, 1, 0, 10), Error) << key;
  }
}

}  // namespace
}  // namespace ft
