#include "engine/device/cores.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>

#include "tests/temporary_directory.h"

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

// Quotas in processor time: of half a core, of both versions, and none.
TEST(Cores, AreWhatTheControlGroupsQuotaComesTo) {
  const test::TemporaryDirectory system;
  const auto put = [&](const char* file, const std::string& text) { test::spill(system / file, text); };
  const int own = usable_cores(system);  // of the affinity mask alone: there is no group there
  put("proc/self/cgroup", "0::/job\n");
  put("sys/fs/cgroup/job/cpu.max", "max 100000\n");
  EXPECT_EQ(usable_cores(system), own);
  put("sys/fs/cgroup/job/cpu.max", "50000 100000\n");
  EXPECT_EQ(usable_cores(system), 1);
  put("sys/fs/cgroup/job/cpu.max", "150000 100000\n");
  EXPECT_EQ(usable_cores(system), std::min(own, 2));
  put("proc/self/cgroup", "4:cpu,cpuacct:/job\n");
  put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(usable_cores(system), own);
  put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "90000\n");
  EXPECT_EQ(usable_cores(system), 1);
}

}  // namespace
}  // namespace ft
