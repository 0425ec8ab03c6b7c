#include "engine/parallel/host_allocator.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace ft {
namespace {

TEST(LowestFit, TakesTheLowestPlaceThatFits) {
  LowestFit places;
  const uint64_t a = places.take(100), b = places.take(50), c = places.take(200), d = places.take(10);
  EXPECT_EQ(std::vector<uint64_t>({a, b, c, d}), std::vector<uint64_t>({0, 100, 150, 350}));
  places.give_back(b);
  places.give_back(c);  // joined with b's: 250 from 100 on
  EXPECT_EQ(places.take(240), 100u);
  places.give_back(d);  // what is free at the end belongs to nobody
  EXPECT_EQ(places.end(), 340u);
  EXPECT_EQ(places.take(30), 340u);
}

TEST(LowestFit, NeverGivesOneByteTwice) {
  LowestFit places;
  std::mt19937 random(3);
  std::map<uint64_t, uint64_t> mine;
  uint64_t in_use = 0, most = 0;
  for (int i = 0; i < 20000; ++i) {
    if (mine.size() < 40 && random() % 2) {
      const uint64_t bytes = 1 + random() % 5000, place = places.take(bytes);
      const auto next = mine.lower_bound(place);
      if (next != mine.end()) {
        ASSERT_LE(place + bytes, next->first);
      }
      if (next != mine.begin()) {
        ASSERT_LE(std::prev(next)->first + std::prev(next)->second, place);
      }
      mine.emplace(place, bytes);
      most = std::max(most, in_use += bytes);
    } else if (!mine.empty()) {
      const auto one = std::next(mine.begin(), static_cast<int64_t>(random() % mine.size()));
      EXPECT_EQ(places.give_back(one->first), one->second);
      in_use -= one->second;
      mine.erase(one);
    }
  }
  EXPECT_LT(places.end(), 2 * most);
}

}  // namespace
}  // namespace ft
