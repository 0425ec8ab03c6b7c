#include "engine/device/memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace ft {
namespace {

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
