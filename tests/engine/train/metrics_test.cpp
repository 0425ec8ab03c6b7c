#include "engine/train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "tests/temporary_directory.h"

namespace ft {
namespace {

class MetricsTest : public testing::Test {
 protected:
  const test::TemporaryDirectory folder_;
  const std::filesystem::path path_ = folder_ / "metrics.jsonl";
};

TEST_F(MetricsTest, ARowAStep) {
  Metrics metrics(path_);
  metrics.add(Value::map({{"step", 1}, {"loss", 2.5}, {"my_key", "kept"}}));
  metrics.add(1, {.tokens = 512, .seconds = 0.5, .wait_gather = 0.25, .peak_memory = 1000});
  EXPECT_EQ(read_text(path_), "");
  metrics.add(Value::map({{"step", 1}, {"val_loss", 3.0}}));  // joins
  metrics.add(Value::map({{"step", 2}, {"loss", 2.0}, {"tokens", 7}}));
  EXPECT_EQ(
      read_text(path_),
      "{\"step\": 1, \"loss\": 2.5, \"my_key\": \"kept\", \"tokens\": 512, \"seconds\": 0.5, \"wait_gather\": 0.25, "
      "\"wait_reduce\": 0.0, \"wait_offload\": 0.0, \"wait_data\": 0.0, \"wait_save\": 0.0, \"peak_memory\": 1000, "
      "\"val_loss\": 3.0}\n");
  metrics.add(2, {.tokens = 512});
  metrics.flush();
  metrics.flush();
  EXPECT_THAT(read_text(path_),
              testing::HasSubstr("\n{\"step\": 2, \"loss\": 2.0, \"tokens\": 7,"));  // the recipe's counts
}

TEST_F(MetricsTest, NumbersThatJsonHasNot) {
  Metrics metrics(path_);
  metrics.add(Value::map({{"step", 1}, {"loss", std::nan("")}, {"list", Value::list({1.5, INFINITY})}}));
  metrics.flush();
  EXPECT_EQ(read_text(path_), "{\"step\": 1, \"loss\": null, \"list\": [1.5, null]}\n");
}

TEST_F(MetricsTest, AResumedRunDropsTheRowsItDoesAgain) {
  write_text(path_, "{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n{\"ste");
  Metrics metrics(path_, 2);
  metrics.add(Value::map({{"step", 3}, {"loss", 1.0}}));
  metrics.flush();
  EXPECT_EQ(read_text(path_), "{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3, \"loss\": 1.0}\n");
}

TEST_F(MetricsTest, WithoutAStepItIsRefused) {
  Metrics metrics(path_);
  EXPECT_THROW(metrics.add(Value::map({{"loss", 1.0}})), Error);
  EXPECT_THROW(metrics.add(Value(1)), Error);
  EXPECT_THROW(Metrics("/proc/nowhere/metrics.jsonl"), Error);
}

}  // namespace
}  // namespace ft
