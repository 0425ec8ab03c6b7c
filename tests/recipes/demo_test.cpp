// The main recipe with no arguments, on the model and the data that lie in recipes/demo: what a newcomer sees first.
#include <gtest/gtest.h>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

TEST(Demo, LearnsWhatTheBaseCannotDo) {
  const TemporaryDirectory folder;
  Program recipe({"run", (fs::path(ft_source_dir()) / "recipes/qlora_fsdp2.lua").string(), "--out=run"}, folder.path());
  const Finished done = recipe.wait(std::chrono::seconds(600));  // 45 s on two quiet cores
  ASSERT_EQ(done.exit_code, 0) << done.err;
  std::vector<double> exact_match;
  for (const Json& row : metrics(folder / "run"))
    if (row.contains("exact_match")) exact_match.push_back(row.at("exact_match").get<double>());
  ASSERT_EQ(exact_match.size(), 2u) << "before and after";
  EXPECT_LE(exact_match[0], 0.10);
  EXPECT_GE(exact_match[1], 0.90);
  const Finished answer = run({"generate", "run", "--prompt", "Reverse this list: ladder fig plum"}, folder.path());
  EXPECT_EQ(answer.out, "In reverse order: plum fig ladder\n");
}

}  // namespace
}  // namespace ft::test
