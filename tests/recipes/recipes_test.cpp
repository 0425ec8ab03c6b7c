// What every recipe keeps to, and the ones that runs_test.cpp does not go through: each is run to its end as a user
// runs it, at a size that takes seconds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::HasSubstr;
using testing::Le;

std::vector<fs::path> recipes() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(ft_source_dir()) / "recipes"))
    if (entry.path().extension() == ".lua") files.push_back(entry.path());
  return files;
}

TEST(Recipes, AreShortAndInTheTable) {
  const std::string table = slurp(fs::path(ft_source_dir()) / "recipes/README.md");
  ASSERT_GE(recipes().size(), 4u);
  for (const fs::path& file : recipes()) {
    const std::string text = slurp(file);
    EXPECT_THAT(std::count(text.begin(), text.end(), '\n'), Le(80)) << file;
    EXPECT_THAT(table, HasSubstr("| `" + file.filename().string() + "` |"));
  }
}

/// One pre-trained base for all tests.
class SmallRecipes : public testing::Test {
 protected:
  static void SetUpTestSuite() { shared_ = folder_of_model(); }
  static void TearDownTestSuite() { shared_.reset(); }

  /// Runs a recipe into `out`. @return its rows of metrics.jsonl
  static std::vector<Json> rows_of(const std::string& name, const std::string& out,
                                   const std::vector<std::string>& more) {
    std::vector<std::string> words{"run",
                                   (fs::path(ft_source_dir()) / "recipes" / (name + ".lua")).string(),
                                   "--model=model",
                                   "--seq_len=64",
                                   "--data=chats.jsonl",
                                   "--epochs=2",
                                   "--out=" + out};
    words.insert(words.end(), more.begin(), more.end());
    const Finished done = run(words, shared_->path());
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.exit_code == 0 ? metrics(*shared_ / out) : std::vector<Json>();
  }

  /// Ends at a lower loss than the same rows give without learning, by `share` at least, and can be merged.
  static void learns(const std::string& name, double share, std::vector<std::string> more) {
    const std::vector<Json> rows = rows_of(name, name, more);
    more[0] = "--lr=1e-12";
    const std::vector<Json> idle = rows_of(name, name + "-idle", more);
    ASSERT_GT(rows.size(), 3u);
    ASSERT_EQ(rows.size(), idle.size());
    EXPECT_LT(rows.back().at("loss").get<double>(), (1 - share) * idle.back().at("loss").get<double>());
    EXPECT_LT(rows.back().at("val_loss").get<double>(), (1 - share) * idle.back().at("val_loss").get<double>());
    const Finished merged = run({"merge", name, "-o", name + "-merged"}, shared_->path());
    EXPECT_EQ(merged.exit_code, 0) << merged.err;
    EXPECT_TRUE(fs::exists(*shared_ / (name + "-merged/model.safetensors")));
  }

  static std::unique_ptr<TemporaryDirectory> shared_;
};
std::unique_ptr<TemporaryDirectory> SmallRecipes::shared_;

TEST_F(SmallRecipes, FullTrainsEveryWeight) { learns("full", 0.1, {"--lr=0.003", "--nproc=2"}); }

TEST_F(SmallRecipes, LoraTrainsInOneProcess) {
  learns("lora", 0.01, {"--lr=0.02", "--rank=4", "--rows=4", "--targets=q_proj,v_proj,up_proj,down_proj"});
  const Json plan = Json::parse(slurp(*shared_ / "lora/plan.json"));
  EXPECT_EQ(plan.at("adapter").at("target_modules"), Json({"q_proj", "v_proj", "up_proj", "down_proj"}));
  EXPECT_EQ(plan.at("parallel").at("nproc"), 1);
}

// 16 rows do not divide by three ranks: the option that the message names must do.
TEST_F(SmallRecipes, RowsFitAnyNumberOfRanks) {
  EXPECT_GT(rows_of("full", "three", {"--nproc=3", "--rows=12", "--micro=2"}).size(), 0u);
}

}  // namespace
}  // namespace ft::test
