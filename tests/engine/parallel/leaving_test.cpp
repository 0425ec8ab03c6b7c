// Ranks that leave right after their last message, and groups that come and go: nobody may be left waiting.
#include <gtest/gtest.h>

#include "engine/parallel/process_group.h"
#include "tests/ranks/ranks.h"

namespace ft {
namespace {

using test::run_ranks;

// Pairs along the rows and columns of a grid. The second one of a name once met at the addresses that the first had
// left in the store, and waited there for each other until the time-out.
RANK_BODY(meets_and_leaves) {
  const int rank = group->rank();
  const auto pair = [&](bool row) {
    return row ? group->subgroup(rank < 2 ? std::vector{0, 1} : std::vector{2, 3}, "pair")
               : group->subgroup(rank % 2 == 0 ? std::vector{0, 2} : std::vector{1, 3}, "pair");
  };
  const auto row = pair(true), column = pair(false);
  EXPECT_EQ(row->sum(rank), rank < 2 ? 1 : 5);
  EXPECT_EQ(column->sum(rank), rank % 2 == 0 ? 2 : 4);
  const auto unused = pair(true);
  return "";
}

TEST(Leaving, NobodyIsLeftBehind) {
  for (int round = 0; round < 6; ++round) run_ranks(4, "meets_and_leaves");
}

RANK_BODY(groups_come_and_go) {
  for (int i = 0; i < 60; ++i) {
    const auto made = group->subgroup({0, 1, 2}, "round");
    for (int k = 0; made && k < i % 3; ++k) EXPECT_EQ(made->sum(1), 3);
  }
  return "";
}

TEST(Leaving, GroupsComeAndGo) { run_ranks(4, "groups_come_and_go"); }

}  // namespace
}  // namespace ft
