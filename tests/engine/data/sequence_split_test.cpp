#include "engine/data/sequence_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/data/batch.h"
#include "engine/data/packing.h"
#include "engine/data/token_rows.h"

namespace ft {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

// Two rows: documents of 3 and 4 tokens, and one of 6 tokens.
Batch two_rows() {
  TokenRows rows;
  rows.add(std::vector<int32_t>{1, 2, 3}, std::vector<int32_t>{-100, 2, 3});
  rows.add(std::vector<int32_t>{4, 5, 6, 7}, std::vector<int32_t>{4, 5, 6, 7});
  rows.add(std::vector<int32_t>{11, 12, 13, 14, 15, 16}, std::vector<int32_t>{-100, -100, 13, 14, 15, 16});
  Packing packing;
  packing.rows = {{0, 1}, {2}};
  return make_batch(rows, packing, std::vector<int64_t>{0, 1}, 0);
}

TEST(SequenceSplit, TakesAChunkFromTheHeadAndOneFromTheTail) {
  const SequenceSplit split{1, 4, 16};
  std::vector<int64_t> places;
  for (int64_t t = 0; t < 2 * split.chunk(); ++t) places.push_back(split.place(t));
  EXPECT_THAT(places, ElementsAre(2, 3, 12, 13));
  EXPECT_EQ(SequenceSplit{}.place(7), 7);
}

TEST(SequenceSplit, TargetsAreThoseOfTheWholeRow) {
  const Batch first = split_batch(two_rows(), 0, 2, 9), second = split_batch(two_rows(), 1, 2, 9);
  EXPECT_EQ(first.length, 4);  // 7 tokens a row, filled up to 8
  EXPECT_EQ(first.split.length, 8);
  EXPECT_THAT(first.tokens, ElementsAre(1, 2, 7, 9, 11, 12, 0, 9));
  EXPECT_THAT(second.tokens, ElementsAre(3, 4, 5, 6, 13, 14, 15, 16));
  // The second token of a chunk learns the first of the next, which another rank holds.
  EXPECT_THAT(first.targets, ElementsAre(2, 3, -100, -100, -100, 13, -100, -100));
  EXPECT_THAT(second.targets, ElementsAre(-100, 5, 6, 7, 14, 15, 16, -100));
  EXPECT_THAT(first.positions, ElementsAre(0, 1, 3, 0, 0, 1, 0, 0));
  EXPECT_THAT(second.positions, ElementsAre(2, 0, 1, 2, 2, 3, 4, 5));
  EXPECT_EQ(first.num_targets + second.num_targets, two_rows().num_targets);
  EXPECT_EQ(first.num_targets, 3);
  for (const Batch* part : {&first, &second}) {
    EXPECT_THAT(part->documents, ElementsAre(ElementsAre(3, 4, 1), ElementsAre(6, 1, 1)));
    EXPECT_THAT(part->row_ids, ElementsAre(0, 1));
    EXPECT_EQ(part->rows, 2);
  }
}

TEST(SequenceSplit, EveryTokenIsHeldOnce) {
  for (const int64_t size : {2, 3, 4}) {
    const Batch whole = two_rows();
    std::vector<int> held(14, 0);
    int64_t targets = 0;
    for (int64_t index = 0; index < size; ++index) {
      const Batch part = split_batch(two_rows(), index, size, 0);
      targets += part.num_targets;
      for (int64_t row = 0; row < part.rows; ++row)
        for (int64_t t = 0; t < part.length; ++t) {
          const int64_t place = part.split.place(t), at = row * part.length + t;
          if (place >= whole.length) {
            EXPECT_EQ(part.targets[static_cast<size_t>(at)], -100);
            continue;
          }
          const auto from = static_cast<size_t>(row * whole.length + place);
          ++held[from];
          EXPECT_EQ(part.tokens[static_cast<size_t>(at)], whole.tokens[from]);
          EXPECT_EQ(part.targets[static_cast<size_t>(at)], whole.targets[from]);
          EXPECT_EQ(part.positions[static_cast<size_t>(at)], whole.positions[from]);
        }
    }
    EXPECT_THAT(held, Each(1)) << size;
    EXPECT_EQ(targets, whole.num_targets) << size;
  }
}

TEST(SequenceSplit, RowsOfNoWeightHaveATokenForEveryChunk) {
  const TokenRows rows;
  const Batch none = split_batch(make_batch(rows, {}, std::vector<int64_t>{-1}, 7), 1, 4, 7);
  EXPECT_EQ(none.length, 2);
  EXPECT_THAT(none.tokens, Each(7));
  EXPECT_EQ(none.num_targets, 0);
}

TEST(SequenceSplit, OneRankHasWholeRows) {
  const Batch batch = split_batch(two_rows(), 0, 1, 9);
  EXPECT_EQ(batch.length, 7);
  EXPECT_FALSE(batch.split.split());
}

}  // namespace
}  // namespace ft
