#include "engine/train/out_of_memory.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>

namespace ft {
namespace {

using testing::HasSubstr;

const MemoryUse kUse{.unit = "model.layers.3",
                     .by_kind = {{"masters", int64_t{1} << 40}, {"nothing", 0}, {"optimizer", int64_t{1} << 41}}};

c10::SourceLocation here() { return {"test", __FILE__, __LINE__}; }

TEST(OutOfMemory, ReadsWhatTheDeviceSays) {
  const c10::OutOfMemoryError thrown(
      here(),
      "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.80 GiB of which 512.00 MiB is "
      "free. Process 1 has 139.3 GiB memory in use.");
  MemoryUse use = kUse;
  use.on_device = int64_t{9} << 40;
  const auto error = out_of_memory(thrown, use);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind(), ErrorKind::memory);
  EXPECT_EQ(error->path(), "model.layers.3");
  EXPECT_THAT(error->message(),
              HasSubstr("device memory is out: wanted 2.68 GB, 537 MB free; held: activations and the rest 6."));
  EXPECT_THAT(error->message(), HasSubstr(", optimizer 2.20 TB, masters 1.10 TB"));
  EXPECT_THAT(error->help(), HasSubstr("lower batch.micro"));
}

TEST(OutOfMemory, ReadsWhatTheHostSaysBiggestKindsFirst) {
  const c10::Error thrown(
      here(),
      "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
      "allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)");
  const auto error = out_of_memory(thrown, kUse);
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("host memory is out: wanted 4.00 GB, "));
  EXPECT_LT(error->message().find("optimizer"), error->message().find("masters"));
  EXPECT_THAT(error->message(), testing::Not(HasSubstr("nothing")));
  EXPECT_TRUE(out_of_memory(std::bad_alloc(), {}));
}

TEST(OutOfMemory, LeavesOtherFailuresAlone) {
  EXPECT_FALSE(out_of_memory(std::runtime_error("shapes do not fit"), kUse));
}

}  // namespace
}  // namespace ft
