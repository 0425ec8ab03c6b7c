// What a policy's columns make of a unit's traffic: which collectives it takes part in, and when.
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <numeric>

#include "engine/parallel/shard_unit.h"
#include "tests/ranks/ranks.h"

namespace ft {
namespace {

// Hands everything on, and counts it.
class Counted : public ProcessGroup {
 public:
  explicit Counted(std::shared_ptr<ProcessGroup> group)
      : ProcessGroup(group->rank(), group->size()), group_(std::move(group)) {}
  Pending all_gather_into(const at::Tensor& whole, const at::Tensor& mine) override {
    gathered += mine.numel();
    ++gathers;
    return group_->all_gather_into(whole, mine);
  }
  Pending reduce_scatter_sum(const at::Tensor& mine, const at::Tensor& whole) override {
    ++reductions;
    return group_->reduce_scatter_sum(mine, whole);
  }
  Pending all_reduce_sum(const at::Tensor& tensor) override { return group_->all_reduce_sum(tensor); }
  Pending all_reduce_max(const at::Tensor& tensor) override { return group_->all_reduce_max(tensor); }
  Pending broadcast(const at::Tensor& tensor, int root) override { return group_->broadcast(tensor, root); }
  Pending all_to_all(const at::Tensor& received, const at::Tensor& sent) override {
    return group_->all_to_all(received, sent);
  }
  Pending pass_on(const at::Tensor& received, const at::Tensor& sent) override {
    return group_->pass_on(received, sent);
  }
  void barrier() override { group_->barrier(); }
  std::shared_ptr<ProcessGroup> subgroup(const std::vector<int>& ranks, const std::string& name) override {
    return group_->subgroup(ranks, name);
  }

  int gathers = 0, reductions = 0;
  int64_t gathered = 0;  // elements of this rank's own parts

 private:
  std::shared_ptr<ProcessGroup> group_;
};

// 24 trained elements that count from 1, and 5 frozen ones that count from 100.
struct OneUnit {
  Parameter weight, frozen;
  BufferPool pool{at::kCPU};
  std::unique_ptr<ShardUnit> unit;
  double waited = 0;

  OneUnit(ProcessGroup& group, const ShardUnitOptions& options) {
    weight.name = "w";
    weight.shape = {6, 4};
    frozen.name = "f";
    frozen.shape = {5};
    frozen.storage = Storage::frozen;
    unit = std::make_unique<ShardUnit>("layer", std::vector<Parameter*>{&weight, &frozen},
                                       std::vector<at::ScalarType>{at::kFloat, at::kFloat}, group, pool, options);
    for (FlatRange& range : unit->ranges()) {
      const float first = range.storage == Storage::trainable ? 1.f : 100.f;
      for (const ShardPiece& piece : range.layout.pieces(group.rank()))
        range.piece(piece).copy_(at::arange(piece.count, at::kFloat).add_(first + static_cast<float>(piece.begin)));
    }
  }
  void gather() {
    unit->start_gather();
    unit->finish_gather(waited);
  }
  bool holds(float first) const {
    return at::equal(weight.value, at::arange(24, at::kFloat).add_(first).view({6, 4})) &&
           at::equal(frozen.value, at::arange(5, at::kFloat).add_(100));
  }
  void reduce(float value) {
    unit->start_reduce({at::full({6, 4}, value)});
    unit->finish_reduce(waited);
  }
  // This rank's part of the gradient, where it owns any of the weight.
  bool grad_is(float value, int rank) {
    const at::Tensor grad = unit->grad();
    for (const ShardPiece& piece : unit->trainable()->layout.pieces(rank))
      if (!at::equal(grad.narrow(0, piece.local_begin, piece.count), at::full({piece.count}, value))) return false;
    return true;
  }
};

RANK_BODY(whole_parameters) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Counted counted(group);
    OneUnit one(counted, {.param_dtype = dtype, .keep_whole = true});
    one.gather();
    EXPECT_EQ(counted.gathers, 2);
    EXPECT_TRUE(one.weight.value[5][3].item<float>() == 24.f && one.frozen.value[4].item<float>() == 104.f);
    EXPECT_EQ(one.pool.held_bytes(), 0);
    const void* at_first = one.weight.value.const_data_ptr();
    one.unit->release();
    EXPECT_EQ(one.weight.value.storage().data(), nullptr);  // what is released is not to be read
    one.gather();
    EXPECT_EQ(counted.gathers, 2);  // it stands where it stood
    EXPECT_EQ(one.weight.value.const_data_ptr(), at_first);
    one.unit->release();
    one.unit->trainable()->owned.add_(1);
    one.unit->masters_changed();
    one.gather();
    EXPECT_EQ(counted.gathers, 3);  // the trained ones alone
    EXPECT_EQ(one.weight.value[0][0].item<float>(), 2.f);
    EXPECT_EQ(one.weight.value[5][3].item<float>(), 25.f);
    one.unit->release();
    // Masters of the parameters' dtype are a part of the whole.
    const FlatRange& trained = *one.unit->trainable();
    EXPECT_EQ(trained.owned.is_alias_of(trained.whole), dtype == at::kFloat);
  }
  return "";
}

RANK_BODY(late_gradients) {
  Counted counted(group);
  OneUnit one(counted, {.keep_whole = true, .reduce_late = true});
  for (int step = 0; step < 2; ++step) {
    for (int micro = 0; micro < 3; ++micro) one.reduce(static_cast<float>(group->rank() + 1));
    EXPECT_EQ(counted.reductions, step);
    EXPECT_THROW(one.unit->grad(), std::exception);  // not yet those of all ranks
    one.unit->start_late_reduce();
    one.unit->finish_reduce(one.waited);
    EXPECT_EQ(counted.reductions, step + 1);
    EXPECT_TRUE(one.grad_is(3 * (1 + 2), group->rank()));
    one.unit->zero_grad();
  }
  if (group->rank() == 0) one.reduce(5);  // the other had none: both take part
  one.unit->start_late_reduce();
  one.unit->finish_reduce(one.waited);
  EXPECT_TRUE(one.grad_is(5, group->rank()));
  OneUnit split(counted, {});
  counted.reductions = 0;
  for (int micro = 0; micro < 3; ++micro) split.reduce(1);
  split.unit->start_late_reduce();  // has nothing to do
  split.unit->finish_reduce(split.waited);
  EXPECT_EQ(counted.reductions, 3);
  EXPECT_TRUE(split.grad_is(6, group->rank()));
  return "";
}

RANK_BODY(neighbours_keep) {
  const int first = group->rank() / 2 * 2;
  Counted all(group), near(group->subgroup({first, first + 1}, "near"));
  OneUnit one(all, {.neighbours = &near});
  for (int turn = 0; turn < 2; ++turn) {
    all.gathers = near.gathers = 0;
    one.gather();
    EXPECT_TRUE(one.holds(1));
    one.unit->release_to_neighbours();
    EXPECT_EQ(one.weight.value.storage().data(), nullptr);
    EXPECT_EQ(all.gathers, 2);
    one.gather();
    EXPECT_TRUE(one.holds(1));
    EXPECT_EQ(all.gathers, 2);
    EXPECT_EQ(near.gathers, 2);
    one.unit->release();
    one.gather();  // nothing is kept any more
    EXPECT_TRUE(one.holds(1));
    EXPECT_EQ(near.gathers, 2);
    EXPECT_EQ(all.gathers, 4);
    one.unit->release();
  }
  EXPECT_EQ(near.gathered,
            2 * 2 * all.gathered / 4);  // half of the unit, where its ranks owned a quarter, twice for four
  return "";
}

TEST(PolicyUnit, KeepsWholeParametersUntilMastersChange) { test::run_ranks(2, "whole_parameters"); }
TEST(PolicyUnit, ReducesLateGradientsOnceAStep) { test::run_ranks(2, "late_gradients"); }
TEST(PolicyUnit, GathersFromNeighboursWhatTheyKept) { test::run_ranks(4, "neighbours_keep"); }

}  // namespace
}  // namespace ft
