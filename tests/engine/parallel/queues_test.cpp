// What shard units ask of a device with queues: a gather's copies come after what the compute queue held when it
// started, and what is computed after its end comes after them.
#include "tests/engine/parallel/queues.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/parallel/shard_unit.h"

namespace ft::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Unit {
  Parameter weight;
  std::shared_ptr<Queues> queues = std::make_shared<Queues>();
  std::shared_ptr<ProcessGroup> group = ProcessGroup::single();
  BufferPool pool{at::kCPU};
  OffloadHome home{OffloadOptions{.pin = false}};
  std::unique_ptr<ShardUnit> unit;

  explicit Unit(bool at_home) {
    weight.name = "w";
    weight.shape = {6, 4};
    unit = std::make_unique<ShardUnit>("layer", std::vector<Parameter*>{&weight},
                                       std::vector<at::ScalarType>{at::kFloat}, *group, pool,
                                       ShardUnitOptions{.device = queues, .home = at_home ? &home : nullptr});
    unit->trainable()->owned.narrow(0, 0, 24).copy_(at::arange(24));
  }
};

TEST(Queues, AGatherCopiesBesideTheComputeQueueAndIsWaitedFor) {
  Unit one(/*at_home=*/true);
  one.unit->start_gather();
  EXPECT_THAT(one.queues->said(), ElementsAre("compute: mark 1", "copies: wait 1", "copies: mark 2"));
  one.unit->start_gather();  // nested: there is nothing more to copy
  EXPECT_THAT(one.queues->said(), IsEmpty());
  double waited = 0;
  one.unit->finish_gather(waited);
  EXPECT_THAT(one.queues->said(), ElementsAre("compute: wait 2"));
  EXPECT_TRUE(at::equal(one.weight.value, at::arange(24, at::kFloat).view({6, 4})));
  one.unit->finish_gather(waited);
  one.unit->release();
  one.unit->release();
  EXPECT_THAT(one.queues->said(), IsEmpty());
}

// Its buffer goes back: whoever takes it next must not overtake the copy.
TEST(Queues, AGatherThatNobodyFinishedIsWaitedForAtItsRelease) {
  Unit one(/*at_home=*/true);
  one.unit->start_gather();
  one.queues->said();
  one.unit->release();
  EXPECT_THAT(one.queues->said(), ElementsAre("compute: wait 2"));
}

TEST(Queues, WhatLiesThereAlreadyIsCastInTheComputeQueue) {
  Unit one(/*at_home=*/false);
  double waited = 0;
  one.unit->start_gather();
  one.unit->finish_gather(waited);
  one.unit->release();
  EXPECT_THAT(one.queues->said(), IsEmpty());
}

}  // namespace
}  // namespace ft::test
