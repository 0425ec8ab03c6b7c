#include "engine/data/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/error/error.h"

namespace ft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Window = std::vector<int64_t>;

/// All windows as the ranks together see them: a rank's rows in order, ranks by micro batch.
std::vector<Window> windows(int64_t rows, SamplerOptions options) {
  std::vector<Sampler> ranks;
  for (options.rank = 0; options.rank < options.world; ++options.rank) ranks.emplace_back(rows, options);
  std::vector<Window> out;
  while (ranks[0].next()) {
    for (size_t r = 1; r < ranks.size(); ++r) EXPECT_TRUE(ranks[r].next());
    Window& window = out.emplace_back();
    for (size_t m = 0; m < ranks[0].micro_batches().size(); ++m)
      for (const Sampler& rank : ranks) {
        EXPECT_EQ(rank.micro_batches().size(), ranks[0].micro_batches().size());
        EXPECT_EQ(rank.micro_batches()[m].size(), static_cast<size_t>(options.micro));
        window.insert(window.end(), rank.micro_batches()[m].begin(), rank.micro_batches()[m].end());
      }
    EXPECT_EQ(window, ranks[0].window());
  }
  for (Sampler& rank : ranks) EXPECT_FALSE(rank.next());
  return out;
}

TEST(Sampler, DealsRowsToRanksByMicroBatch) {
  Sampler rank(8, {.total = 8, .micro = 2, .rank = 1, .world = 2, .shuffle = false});
  ASSERT_TRUE(rank.next());
  EXPECT_THAT(rank.micro_batches(), ElementsAre(ElementsAre(2, 3), ElementsAre(6, 7)));
}

TEST(Sampler, AnyNumberOfRanksSeesTheSameWindows) {
  for (const Remainder remainder : {Remainder::pad, Remainder::drop, Remainder::wrap}) {
    SamplerOptions options{.total = 16, .micro = 2, .seed = 3, .remainder = remainder, .epochs = 2.5};
    const std::vector<Window> alone = windows(103, options);
    for (const int64_t world : {2, 4, 8}) {
      options.world = world;
      EXPECT_EQ(windows(103, options), alone);
    }
    options.micro = 1;
    options.world = 16;
    EXPECT_EQ(windows(103, options), alone);
  }
}

TEST(Sampler, EveryRowComesOnceAnEpoch) {
  const std::vector<Window> all = windows(103, {.total = 10, .micro = 1, .world = 2, .seed = 9, .epochs = 3});
  ASSERT_EQ(all.size(), 33u);
  std::set<Window> orders;
  for (size_t epoch = 0; epoch < 3; ++epoch) {
    Window rows;
    for (size_t w = 0; w < 11; ++w) rows.insert(rows.end(), all[11 * epoch + w].begin(), all[11 * epoch + w].end());
    orders.insert(rows);
    std::sort(rows.begin(), rows.end());
    EXPECT_EQ(std::count(rows.begin(), rows.end(), Sampler::kNoRow), 7);
    for (int64_t r = 0; r < 103; ++r) EXPECT_EQ(rows[static_cast<size_t>(7 + r)], r);
  }
  EXPECT_EQ(orders.size(), 3u);  // each epoch has an order of its own
}

TEST(Sampler, TheRemainderGoesByTheOption) {
  const auto last = [](Remainder remainder) {
    return windows(5, {.total = 2, .micro = 1, .shuffle = false, .remainder = remainder}).back();
  };
  EXPECT_THAT(last(Remainder::pad), ElementsAre(4, Sampler::kNoRow));
  EXPECT_THAT(last(Remainder::wrap), ElementsAre(4, 0));
  EXPECT_THAT(last(Remainder::drop), ElementsAre(2, 3));
  const auto report = [](Remainder r) { return Sampler(5, {.total = 2, .remainder = r}).remainder_report(); };
  EXPECT_EQ(report(Remainder::pad),
            "1 of 5 rows do not fill an epoch's last step of 2: padded with 1 rows of no weight");
  EXPECT_EQ(report(Remainder::wrap),
            "1 of 5 rows do not fill an epoch's last step of 2: filled with the epoch's first 1 rows again");
  EXPECT_EQ(report(Remainder::drop), "1 of 5 rows do not fill an epoch's last step of 2: left out, others each epoch");
  EXPECT_EQ(Sampler(6, {.total = 2}).remainder_report(), "6 rows fill 3 steps an epoch, nothing remains");
}

TEST(Sampler, WrapsMoreThanOnceWhenRowsAreFew) {
  EXPECT_THAT(windows(3, {.total = 8, .shuffle = false, .remainder = Remainder::wrap})[0],
              ElementsAre(0, 1, 2, 0, 1, 2, 0, 1));
}

TEST(Sampler, CountsStepsOfFractionalEpochs) {
  const auto steps = [](double epochs, int64_t rows = 60) {
    return Sampler(rows, {.total = 2, .epochs = epochs}).total_steps();
  };
  EXPECT_EQ(steps(1), 30);
  EXPECT_EQ(steps(0.1), 3);
  EXPECT_EQ(steps(0.11), 4);
  EXPECT_EQ(steps(2.5), 75);
  EXPECT_EQ(steps(1e-6), 1);
  EXPECT_EQ(Sampler(60, {.total = 2, .max_steps = 7}).total_steps(), 7);
}

TEST(Sampler, ResumesAnywhereOnAnyNumberOfRanks) {
  SamplerOptions options{.total = 8, .micro = 1, .seed = 4, .epochs = 3};
  const std::vector<Window> all = windows(50, options);
  for (const size_t done : {size_t{0}, size_t{3}, size_t{7}, all.size()}) {
    Sampler before(50, options);
    for (size_t i = 0; i < done; ++i) ASSERT_TRUE(before.next());
    SamplerOptions other = options;
    other.world = 4;
    other.micro = 2;
    Sampler after(50, other);
    after.restore(before.position());
    EXPECT_EQ(after.position(), before.position());
    for (size_t i = done; i < all.size(); ++i) {
      ASSERT_TRUE(after.next());
      EXPECT_EQ(after.window(), all[i]);
    }
    EXPECT_FALSE(after.next());
  }
  Sampler sampler(50, options);
  EXPECT_THROW(sampler.restore({3, 1}), Error);
  EXPECT_THROW(sampler.restore({0, 7}), Error);
  EXPECT_THROW(sampler.restore({-1, 0}), Error);
}

// The order is part of a run's meaning: it must not change with a machine, a library or a version.
TEST(Sampler, TheOrderDoesNotChange) {
  Sampler sampler(8, {.total = 8, .seed = 1, .epochs = 2});
  sampler.next();
  EXPECT_THAT(sampler.window(), ElementsAre(5, 2, 3, 6, 0, 1, 4, 7));
  sampler.next();
  EXPECT_THAT(sampler.window(), ElementsAre(6, 1, 4, 5, 0, 2, 3, 7));
}

TEST(Sampler, OrdersAreFair) {
  std::map<int64_t, int> first;
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    Sampler sampler(6, {.total = 6, .seed = seed});
    sampler.next();
    ++first[sampler.window()[0]];
  }
  for (const auto& [row, count] : first) EXPECT_NEAR(count, 1000, 150) << row;  // 5 standard deviations
}

TEST(Sampler, RefusesWhatCannotBeDealt) {
  const auto fault = [](int64_t rows, SamplerOptions options) -> std::string {
    try {
      Sampler sampler(rows, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(fault(50, {.total = 10, .micro = 2, .world = 2}),
              HasSubstr("batch.total: got total = 10 with micro = 2 on 2 ranks, want a multiple of 4"));
  EXPECT_THAT(fault(50, {.total = 2, .micro = 0}), HasSubstr("batch.total"));
  EXPECT_THAT(fault(50, {.total = 2, .epochs = 0}), HasSubstr("epochs"));
  EXPECT_THAT(fault(0, {.total = 2}), HasSubstr("no rows"));
  EXPECT_THAT(fault(3, {.total = 4, .remainder = Remainder::drop}), HasSubstr("3 rows do not fill one step of 4"));
  for (const Remainder r : {Remainder::pad, Remainder::drop, Remainder::wrap})
    EXPECT_EQ(parse_remainder(to_string(r)), r);
  EXPECT_THROW(parse_remainder("keep"), Error);
}

}  // namespace
}  // namespace ft
