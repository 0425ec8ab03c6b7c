// LoRA that begins by LoftQ: the same bits on one, two and four ranks and on every mesh, and the same training.
#include <gtest/gtest.h>

#include <map>

#include "engine/formats/json.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_training.h"

namespace ft::test {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::vector<float>> masters(const fs::path& directory) {
  const Checkpoint checkpoint(directory);
  std::map<std::string, std::vector<float>> all;
  for (const Checkpoint::Tensor& tensor : checkpoint.tensors()) {
    if (tensor.kind != "master") continue;
    std::vector<float>& values = all[tensor.name];
    values.resize(static_cast<size_t>(tensor.numel()));
    checkpoint.read(tensor.name, "master", 0, tensor.numel(), values.data());
  }
  return all;
}

}  // namespace

// Begins on the mesh and on one process, trains ten steps, goes on from a checkpoint.
// @param argument JSON: mesh   @return of rank 0: the largest relative difference of losses
RANK_BODY(begins_by_loftq) {
  const Value mesh = parse_json(argument, "argument").at("mesh");
  const SharedDirectory directory(*group);
  const Value job = with(with(qlora(adamw()), "loftq", true), "r", 8);
  Training shared(job, &mesh, group);
  EXPECT_GT(shared.model.loftq().linears, 0);
  EXPECT_LT(shared.model.loftq().after, 0.95 * shared.model.loftq().before);
  shared.save(directory.path / "shared" / "checkpoint-0");
  const Trained found = shared.train(0, 10);
  shared.save(directory.path / "shared" / "checkpoint-10");
  double difference = 0;
  if (group->rank() == 0) {
    Training alone(job, nullptr, ProcessGroup::single());
    alone.save(directory.path / "alone" / "checkpoint-0");
    EXPECT_EQ(alone.model.loftq().linears, shared.model.loftq().linears);
    EXPECT_NEAR(alone.model.loftq().after, shared.model.loftq().after, 1e-12);
    EXPECT_EQ(masters(directory.path / "shared" / "checkpoint-0"), masters(directory.path / "alone" / "checkpoint-0"));
    const Trained want = alone.train(0, 10);
    EXPECT_LT(want.losses.back(), want.losses.front());
    difference = worst(found.losses, want.losses);
  }
  // What a checkpoint holds is not begun anew.
  const Checkpoint from(directory.path / "shared" / "checkpoint-10");
  Training again(job, &mesh, group, &from);
  EXPECT_EQ(again.model.loftq().linears, 0);
  again.save(directory.path / "again" / "checkpoint-10");
  if (group->rank() == 0) {
    EXPECT_EQ(masters(directory.path / "again" / "checkpoint-10"),
              masters(directory.path / "shared" / "checkpoint-10"));
  }
  group->barrier();
  return write_json(Value(difference));
}

namespace {

void expect_alike(int world, const Value& mesh) {
  const std::string said = run_ranks(world, "begins_by_loftq", write_json(Value::map({{"mesh", mesh}})))[0];
  ASSERT_FALSE(said.empty());
  EXPECT_LE(parse_json(said, "result").as_number(), 1e-5);
}

}  // namespace

TEST(Loftq, begins_alike_on_two_and_four_ranks) {
  expect_alike(2, Value::map({{"shard", 2}}));
  expect_alike(4, Value::map({{"shard", 4}}));
}

TEST(Loftq, begins_alike_on_replicas_and_on_a_tensor_axis) {
  expect_alike(4, Value::map({{"replicate", 2}, {"shard", 2}}));
  expect_alike(2, Value::map({{"tensor", 2}}));
}

}  // namespace ft::test
