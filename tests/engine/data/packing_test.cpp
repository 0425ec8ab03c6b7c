#include "engine/data/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "engine/data/token_rows.h"
#include "engine/error/error.h"
#include "engine/tensor/counter_random.h"

namespace ft {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> random_lengths(int64_t count, int64_t most, uint64_t seed) {
  const CounterRandom random(seed, "test.lengths");
  std::vector<int64_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(1 + static_cast<int64_t>(random.below(i, most)));
  return out;
}

TEST(Packing, PutsEachDocumentIntoTheFullestRowWithRoom) {
  const std::vector<int64_t> lengths{2, 7, 5, 3, 6, 1};
  // By length: 7 opens row 0, 6 row 1, 5 row 2; 3 fits row 0 to the end; 2 goes to row 1 (4 left), not row 2 (5 left);
  // 1 goes to row 1 (2 left).
  EXPECT_THAT(pack_best_fit(lengths, 10).rows, ElementsAre(ElementsAre(1, 3), ElementsAre(4, 0, 5), ElementsAre(2)));
}

TEST(Packing, HoldsEveryDocumentOnceAndNoRowTooMuch) {
  for (const int64_t capacity : {1, 17, 512}) {
    const std::vector<int64_t> lengths = random_lengths(3000, capacity, 5);
    const Packing packing = pack_best_fit(lengths, capacity);
    std::vector<int> seen(lengths.size(), 0);
    for (const auto& row : packing.rows) {
      int64_t used = 0;
      for (const int64_t document : row) used += lengths[document], ++seen[document];
      EXPECT_LE(used, capacity);
      EXPECT_GT(used, 0);
    }
    EXPECT_THAT(seen, ::testing::Each(1));
    const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    EXPECT_LE(packing.size(), (tokens + capacity - 1) / capacity * 11 / 9 + 4);
    EXPECT_EQ(packing.rows, pack_best_fit(lengths, capacity).rows);
  }
}

// Less than a second; what looked at every row for every document would not end within the time that CTest gives.
TEST(Packing, TakesAMillionDocuments) {
  const Packing packing = pack_best_fit(random_lengths(1'000'000, 2048, 1), 4096);
  EXPECT_GT(packing.size(), 0);
}

TEST(Packing, DocumentsThatStandTogetherHaveRoomEach) {
  TokenRows rows({.seq_len = 4, .together = 2});
  for (const int32_t n : {2, 3, 4, 3}) rows.add(std::vector<int32_t>(n, 1), std::vector<int32_t>(n, 1));
  const Packing packing = make_packing(rows, 4, true);
  EXPECT_THAT(packing.rows, ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  EXPECT_EQ(packing_report(rows, packing, 4), "4 documents in 2 rows of 8, 75.0% full");
}

TEST(Packing, WithoutPackingADocumentHasARow) {
  TokenRows rows;
  for (int32_t n = 2; n < 5; ++n) rows.add(std::vector<int32_t>(n, 1), std::vector<int32_t>(n, 1));
  EXPECT_THAT(make_packing(rows, 4, false).rows, ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(2)));
  EXPECT_THAT(make_packing(rows, 5, true).rows, ElementsAre(ElementsAre(2), ElementsAre(1, 0)));
  EXPECT_EQ(packing_report(rows, make_packing(rows, 5, true), 5), "3 documents in 2 rows of 5, 90.0% full");
  EXPECT_THROW(make_packing(rows, 3, true), Error);
  EXPECT_THROW(make_packing(rows, 3, false), Error);
}

}  // namespace
}  // namespace ft
