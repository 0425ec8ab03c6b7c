#include "engine/device/cores.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace ft {
namespace {

TEST(Cores, AreThoseOfTheAffinityMask) {
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  const std::string before = core_set();
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), CPU_COUNT(&all));
  CPU_ZERO(&one);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &all)) continue;
    CPU_SET(core, &one);
    break;
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cores(), 1);
  if (CPU_COUNT(&all) > 1) {
    EXPECT_NE(core_set(), before);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
  EXPECT_EQ(core_set(), before);
}

}  // namespace
}  // namespace ft
