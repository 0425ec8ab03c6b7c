#include "engine/data/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/data/packing.h"
#include "engine/data/token_rows.h"
#include "engine/device/terminal.h"
#include "engine/tensor/counter_random.h"

namespace ft {
namespace {

using ::testing::HasSubstr;

TokenRows rows_of(const std::vector<int64_t>& lengths, int64_t seq_len) {
  TokenRows rows({.seq_len = seq_len});
  for (const int64_t length : lengths) {
    const std::vector<int32_t> ids(static_cast<size_t>(length), 7);
    rows.add(ids, ids);
  }
  return rows;
}

TEST(Statistics, CountLengthsByPowersOfTwo) {
  const TokenRows rows = rows_of({2, 3, 3, 4, 7, 8, 33}, 0);
  const std::vector<LengthBin> bins = length_histogram(rows);
  ASSERT_EQ(bins.size(), 5u);
  EXPECT_EQ(bins[0].from, 2);
  EXPECT_EQ(bins[0].to, 3);
  EXPECT_EQ(bins[0].count, 3);
  EXPECT_EQ(bins[1].count, 2);
  EXPECT_EQ(bins[3].count, 0);
  EXPECT_EQ(bins[4].from, 32);
  EXPECT_EQ(bins[4].count, 1);
  EXPECT_TRUE(length_histogram(TokenRows()).empty());
}

TEST(Statistics, TheHistogramIsPlainWhereNothingCanBeDrawnOver) {
  const std::vector<LengthBin> bins{{512, 1023, 20}, {1024, 2047, 10}, {2048, 4095, 1}, {4096, 8191, 0}};
  const Terminal plain([](std::string_view) {}, {});
  EXPECT_EQ(histogram_text(bins, plain),
            "    512-1,023  ######################################## 20\n"
            "  1,024-2,047  ####################                     10\n"
            "  2,048-4,095  ##                                       1\n"
            "  4,096-8,191                                           0\n");
  const Terminal drawn([](std::string_view) {}, {.live = true});
  EXPECT_THAT(histogram_text(bins, drawn), HasSubstr("████████████████████                     10\n"));
}

// Lengths as conversations have them (log-normal, a few beyond the row, which are cut), and as short answers do.
TEST(Statistics, PackingFillsRowsOfAMixOfLengths) {
  constexpr int64_t kSeqLen = 2048;
  for (const auto& [median, spread] : {std::pair{300.0, 1.0}, {60.0, 0.7}, {700.0, 0.5}}) {
    std::vector<int64_t> lengths;
    const CounterRandom random(5, "lengths");
    for (uint64_t i = 0; i < 4000; ++i)
      lengths.push_back(
          std::clamp<int64_t>(std::llround(median * std::exp(spread * random.normal(i))), 2, 3 * kSeqLen));
    const TokenRows rows = rows_of(lengths, kSeqLen);
    const Value said = data_statistics(rows, make_packing(rows, kSeqLen, true), kSeqLen);
    EXPECT_GE(said.get("efficiency", 0.0), 0.97) << "median " << median;
    EXPECT_LE(said.get("efficiency", 0.0), 1.0);
    EXPECT_EQ(said.get("documents", 0), 4000);
    EXPECT_EQ(said.get("truncated", 0) > 0, rows.counts().tokens_cut > 0);
  }
}

}  // namespace
}  // namespace ft
