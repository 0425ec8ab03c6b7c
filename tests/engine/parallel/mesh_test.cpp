#include "engine/parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error/error.h"
#include "tests/ranks/ranks.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using testing::ElementsAre;

TEST(MeshShape, TensorMovesFastest) {
  const MeshShape shape{.replicate = 2, .shard = 3, .context = 1, .tensor = 2};
  EXPECT_EQ(shape.world_size(), 12);
  EXPECT_THAT(shape.coordinates(0), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(shape.coordinates(1), ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(shape.coordinates(2), ElementsAre(0, 1, 0, 0));
  EXPECT_THAT(shape.coordinates(11), ElementsAre(1, 2, 0, 1));
  EXPECT_THAT(shape.neighbours(3, {Axis::tensor}), ElementsAre(2, 3));
  EXPECT_THAT(shape.neighbours(3, {Axis::shard}), ElementsAre(1, 3, 5));
  EXPECT_THAT(shape.neighbours(3, {Axis::replicate}), ElementsAre(3, 9));
  EXPECT_THAT(shape.neighbours(3, {Axis::replicate, Axis::tensor}), ElementsAre(2, 3, 8, 9));
  EXPECT_EQ(shape.text(), "2 × replicate, 3 × shard, 2 × tensor");
  EXPECT_EQ(MeshShape{}.text(), "1 rank");
}

RANK_BODY(meshes) {
  const int rank = group->rank();
  const Mesh grid({.replicate = 2, .shard = 2}, group);
  EXPECT_EQ(grid.group(Axis::shard).sum(rank), rank < 2 ? 1 : 5);
  EXPECT_EQ(grid.group(Axis::replicate).sum(rank), rank % 2 == 0 ? 2 : 4);
  EXPECT_EQ(grid.group(Axis::tensor).size(), 1);
  EXPECT_EQ(grid.data_rank(), rank);
  EXPECT_EQ(grid.num_data_ranks(), 4);
  const Mesh ring({.shard = 2, .context = 2}, group);
  EXPECT_EQ(ring.shard_group().size(), 4);
  EXPECT_EQ(ring.data_rank(), rank / 2);
  EXPECT_EQ(ring.coordinate(Axis::context), rank % 2);
  EXPECT_EQ(ring.data_group().sum(rank), rank % 2 == 0 ? 2 : 4);
  EXPECT_EQ(&ring.loss_group(), group.get());
  Mesh lanes({.shard = 2, .tensor = 2}, group);
  EXPECT_EQ(lanes.loss_group().sum(rank), rank % 2 == 0 ? 2 : 4);
  EXPECT_EQ(&lanes.loss_group(), &lanes.shard_group());  // a group that stands is used again
  EXPECT_EQ(lanes.group({Axis::shard, Axis::tensor}), group);
  return "";
}

TEST(Mesh, GroupsAlongItsAxes) { test::run_ranks(4, "meshes"); }

TEST(MeshShape, WorksOutTheShardAxis) {
  EXPECT_EQ(MeshShape::from_plan(Value::map(), 6).text(), "6 × shard");
  const auto plan = [](Value mesh) { return Value::map({{"mesh", std::move(mesh)}}); };
  EXPECT_EQ(MeshShape::from_plan(plan(Value::map({{"tensor", 2}})), 6).text(), "3 × shard, 2 × tensor");
  EXPECT_EQ(MeshShape::from_plan(plan(Value::map({{"replicate", 2}, {"shard", 2}})), 4).text(),
            "2 × replicate, 2 × shard");
  EXPECT_EQ(MeshShape::from_plan(plan(Value::map()), 1).text(), "1 rank");
}

std::string refusal(const Value& mesh, int ranks) {
  return test::refusal([&] { MeshShape::from_plan(Value::map({{"mesh", mesh}}), ranks); });
}

TEST(MeshShape, SaysWhatWouldFit) {
  const std::string two_by_two = refusal(Value::map({{"shard", 2}, {"tensor", 2}}), 6);
  EXPECT_THAT(two_by_two, testing::HasSubstr("parallel.mesh: the axes (2 × shard, 2 × tensor) make 4 ranks, but there "
                                             "are 6"));
  EXPECT_THAT(two_by_two,
              testing::HasSubstr("write mesh = { shard = 3, tensor = 2 } for 6 ranks, or start 4 (--nproc)"));
  EXPECT_THAT(refusal(Value::map({{"tensor", 4}}), 6), testing::HasSubstr("mesh = { shard = 3, tensor = 2 } for 6"));
  EXPECT_THAT(refusal(Value::map({{"replicate", 2}, {"context", 2}}), 2),
              testing::HasSubstr("mesh = { shard = 1, context = 2 } for 2 ranks, or start 4"));
  EXPECT_THAT(refusal(Value::map({{"tensor", 0}}), 2),
              testing::HasSubstr("parallel.mesh.tensor: got 0, want at least"));
}

TEST(Mesh, MustFitTheWorld) {
  EXPECT_THAT(test::refusal([] { const Mesh mesh({.shard = 2, .tensor = 2}, ProcessGroup::single()); }),
              testing::HasSubstr("parallel.mesh: the axes (2 × shard, 2 × tensor) make 4 ranks, but there are 1"));
}

}  // namespace
}  // namespace ft
