#include "engine/data/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "engine/data/packing.h"
#include "engine/data/token_rows.h"

namespace ft {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

class BatchTest : public ::testing::Test {
 protected:
  BatchTest() {
    rows_.add(std::vector<int32_t>{1, 2, 3}, std::vector<int32_t>{-100, 2, 3});
    rows_.add(std::vector<int32_t>{4, 5}, std::vector<int32_t>{4, 5});
    rows_.add(std::vector<int32_t>{6, 7, 8, 9}, std::vector<int32_t>{-100, -100, 8, 9});
    packing_.rows = {{0, 1}, {2}};
  }
  TokenRows rows_;
  Packing packing_;
};

TEST_F(BatchTest, ShiftsTargetsWithinDocuments) {
  const Batch b = make_batch(rows_, packing_, std::vector<int64_t>{0, 1}, 0);
  EXPECT_EQ(b.rows, 2);
  EXPECT_EQ(b.length, 5);
  EXPECT_THAT(b.tokens, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 0));
  EXPECT_THAT(b.targets, ElementsAre(2, 3, -100, 5, -100, -100, 8, 9, -100, -100));
  EXPECT_THAT(b.positions, ElementsAre(0, 1, 2, 0, 1, 0, 1, 2, 3, 0));
  EXPECT_THAT(b.documents, ElementsAre(ElementsAre(3, 2), ElementsAre(4, 1)));
  EXPECT_THAT(b.row_ids, ElementsAre(0, 1));
  EXPECT_EQ(b.num_targets, 5);
}

TEST_F(BatchTest, RowsOfNoWeightHavePaddingAlone) {
  const Batch b = make_batch(rows_, packing_, std::vector<int64_t>{1, -1}, 7);
  EXPECT_THAT(b.tokens, ElementsAre(6, 7, 8, 9, 7, 7, 7, 7));
  EXPECT_THAT(b.documents, ElementsAre(ElementsAre(4), ElementsAre(4)));
  EXPECT_EQ(b.num_targets, 2);
  const Batch none = make_batch(rows_, packing_, std::vector<int64_t>{-1, -1}, 7);
  EXPECT_EQ(none.length, 1);
  EXPECT_THAT(none.targets, Each(-100));
  EXPECT_EQ(none.num_targets, 0);
}

TEST_F(BatchTest, TargetsDoNotDependOnPacking) {
  Packing apart;
  apart.rows = {{0}, {1}, {2}};
  const Batch packed = make_batch(rows_, packing_, std::vector<int64_t>{0, 1}, 0);
  const Batch alone = make_batch(rows_, apart, std::vector<int64_t>{0, 1, 2}, 0);
  EXPECT_EQ(packed.num_targets, alone.num_targets);
  EXPECT_EQ(packed.num_targets, rows_.num_targets());
  for (const Batch* b : {&packed, &alone})
    for (const auto& lengths : b->documents)
      EXPECT_EQ(std::accumulate(lengths.begin(), lengths.end(), int64_t{0}), b->length);
}

}  // namespace
}  // namespace ft
