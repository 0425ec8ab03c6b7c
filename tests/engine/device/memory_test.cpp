#include "engine/device/memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "tests/temporary_directory.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

// AddressSanitizer keeps freed blocks and locks no pages: there is nothing to see then.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

TEST(HostMemory, SeesWhatThisProcessTakes) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer holds memory back";
  const HostMemory before = read_host_memory();
  constexpr int64_t kBytes = 64 << 20;
  {
    std::vector<char> block(kBytes);
    std::memset(block.data(), 1, block.size());
    const HostMemory during = read_host_memory();
    EXPECT_GE(during.anonymous, before.anonymous + kBytes * 9 / 10);
    EXPECT_GE(during.resident, during.anonymous);
  }
  const HostMemory after = read_host_memory();
  EXPECT_GE(after.peak_resident, before.resident + kBytes * 9 / 10);
  EXPECT_LT(after.anonymous, before.anonymous + kBytes / 2);
  if (reset_peak_resident()) {
    EXPECT_LT(read_host_memory().peak_resident, after.peak_resident);
  }
}

TEST(HostMemory, TheMachineHasMoreThanThisProcess) {
  EXPECT_GT(total_host_bytes(), read_host_memory().resident);
  EXPECT_GT(available_host_bytes(), 0);
  EXPECT_LE(available_host_bytes(), total_host_bytes());
}

// A machine of 8 GiB and 4 GiB of swap, seen from a group of either version.
struct Machine {
  Machine() { put("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\nSwapTotal: 4194304 kB\n"); }
  void put(const char* file, const std::string& text) const { test::spill(path / file, text); }
  const test::TemporaryDirectory path;
};

TEST(HostMemory, IsThatOfTheControlGroup) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  const Machine machine;
  const auto expect = [&](int64_t total, int64_t available, int64_t swap, const char* where) {
    EXPECT_EQ(total_host_bytes(machine.path), total) << where;
    EXPECT_EQ(available_host_bytes(machine.path), available) << where;
    EXPECT_EQ(total_swap_bytes(machine.path), swap) << where;
  };
  expect(8 * kGiB, 6 * kGiB, 4 * kGiB, "no group");
  machine.put("proc/self/cgroup", "0::/job\n");
  machine.put("sys/fs/cgroup/job/memory.max", "max\n");
  machine.put("sys/fs/cgroup/job/memory.swap.max", "max\n");
  expect(8 * kGiB, 6 * kGiB, 4 * kGiB, "a group without limits");
  machine.put("sys/fs/cgroup/job/memory.max", std::to_string(2 * kGiB));
  machine.put("sys/fs/cgroup/job/memory.current", std::to_string(kGiB / 2));
  machine.put("sys/fs/cgroup/job/memory.swap.max", "0\n");
  expect(2 * kGiB, 3 * kGiB / 2, 0, "version 2");
  machine.put("proc/self/cgroup", "7:cpu,cpuacct:/other\n3:memory:/job\n");
  machine.put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", std::to_string(3 * kGiB));
  machine.put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", std::to_string(kGiB));
  expect(3 * kGiB, 2 * kGiB, 4 * kGiB, "version 1 that does not count swap");
  machine.put("sys/fs/cgroup/memory/job/memory.memsw.limit_in_bytes", std::to_string(4 * kGiB));
  expect(3 * kGiB, 2 * kGiB, kGiB, "version 1");
  fs::remove_all(machine.path / "sys/fs/cgroup/memory/job");
  machine.put("sys/fs/cgroup/memory/memory.limit_in_bytes", std::to_string(kGiB));
  expect(kGiB, kGiB, 4 * kGiB, "in a container, where the group is the root");
}

TEST(HostMemory, LocksPages) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer locks no pages";
  const std::vector<char> block(16384);
  const int64_t before = read_host_memory().locked;
  if (!lock_pages(block.data(), static_cast<int64_t>(block.size()))) GTEST_SKIP() << "no memory may be locked here";
  EXPECT_GE(read_host_memory().locked, before + 16384);
  EXPECT_TRUE(lock_pages(nullptr, 0));
}

}  // namespace
}  // namespace ft
