#include "engine/train/checkpoint_saver.h"

#include <ATen/ops/arange.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/formats/checkpoint.h"
#include "tests/engine/parallel/queues.h"
#include "tests/temporary_directory.h"

namespace ft {
namespace {

using testing::ElementsAre;

// More than a chunk of 8 MB, and not a whole number of them.
TEST(CheckpointSaver, ReadsOnAQueueOfItsOwnBehindTheUpdate) {
  const test::TemporaryDirectory folder;
  const auto queues = std::make_shared<test::Queues>();
  const int64_t count = (int64_t{5} << 20) + 3;
  const at::Tensor values = at::arange(count, at::kFloat);
  CheckpointSaver saver(ProcessGroup::single(), queues);
  ASSERT_TRUE(saver.start(
      folder / "checkpoint-1",
      {{{.name = "w", .kind = "master", .dtype = DType::f32, .shape = {count}, .begin = 0, .count = count}, values}},
      Value::map({{"step", 1}})));
  saver.wait_for_reads();
  EXPECT_THAT(queues->said(), ElementsAre("compute: mark 1", "saving: wait 1"));
  saver.finish();
  const Checkpoint checkpoint(folder / "checkpoint-1");
  std::vector<float> read(static_cast<size_t>(count));
  checkpoint.read("w", "master", 0, count, read.data());
  EXPECT_EQ(std::memcmp(read.data(), values.const_data_ptr(), values.nbytes()), 0);
}

}  // namespace
}  // namespace ft
