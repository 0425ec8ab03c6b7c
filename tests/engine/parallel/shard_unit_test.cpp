#include "engine/parallel/shard_unit.h"

#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace ft {
namespace {

struct OneUnit {
  Parameter weight, frozen;
  std::shared_ptr<ProcessGroup> group = ProcessGroup::single();
  BufferPool pool{at::kCPU};
  std::unique_ptr<ShardUnit> unit;

  explicit OneUnit(at::ScalarType param_dtype = at::kFloat, OffloadHome* home = nullptr) {
    weight.name = "w";
    weight.shape = {6, 4};
    frozen.name = "f";
    frozen.shape = {5};
    frozen.storage = Storage::frozen;
    unit = std::make_unique<ShardUnit>("layer", std::vector<Parameter*>{&weight, &frozen},
                                       std::vector<at::ScalarType>{at::kFloat, at::kBFloat16}, *group, pool,
                                       ShardUnitOptions{.param_dtype = param_dtype, .home = home});
  }
  void gather() {
    double waited = 0;
    unit->start_gather();
    unit->finish_gather(waited);
  }
};

TEST(ShardUnit, gives_parameters_their_values_only_while_it_is_gathered) {
  OneUnit one;
  one.unit->trainable()->owned.narrow(0, 0, 24).copy_(at::arange(24));
  EXPECT_EQ(one.weight.value.storage().data(), nullptr);
  one.gather();
  EXPECT_TRUE(at::equal(one.weight.value, at::arange(24, at::kFloat).view({6, 4})));
  EXPECT_TRUE(one.weight.value.requires_grad());
  EXPECT_EQ(one.frozen.value.scalar_type(), at::kBFloat16);
  one.unit->release();
  EXPECT_EQ(one.weight.value.storage().data(), nullptr);
}

TEST(ShardUnit, gathers_trainable_parameters_in_the_parameter_dtype_from_fp32_masters) {
  OneUnit one(at::kBFloat16);
  one.unit->trainable()->owned.fill_(1.00390625);  // 1 + 2^-8: lost in bf16, kept by the master
  one.gather();
  EXPECT_EQ(one.weight.value.scalar_type(), at::kBFloat16);
  EXPECT_EQ(one.weight.value[0][0].item<float>(), 1.f);
  EXPECT_EQ(one.unit->trainable()->owned[0].item<float>(), 1.00390625f);
  EXPECT_EQ(one.pool.held_bytes(), 0);  // one rank's cast lives from gather to release
}

TEST(ShardUnit, counts_nested_gathers) {
  OneUnit one;
  one.gather();
  one.gather();
  one.unit->release();
  EXPECT_NE(one.weight.value.storage().data(), nullptr);
  one.unit->release();
  EXPECT_EQ(one.weight.value.storage().data(), nullptr);
}

TEST(ShardUnit, keeps_a_graph_made_before_a_release_exact_after_the_next_gather) {
  OneUnit one;
  const at::Tensor values = at::randn({6, 4});
  one.unit->trainable()->owned.narrow(0, 0, 24).copy_(values.view({-1}));
  one.gather();
  const at::Tensor x = at::randn({3, 4}).requires_grad_(true);
  const at::Tensor y = at::matmul(x, one.weight.value.t()).sigmoid();
  one.unit->release();
  one.gather();
  const auto got = torch::autograd::grad({y}, {x, one.weight.value}, {at::ones_like(y)});
  const at::Tensor w = values.clone().requires_grad_(true), x2 = x.detach().clone().requires_grad_(true);
  const at::Tensor y2 = at::matmul(x2, w.t()).sigmoid();
  const auto want = torch::autograd::grad({y2}, {x2, w}, {at::ones_like(y2)});
  EXPECT_TRUE(at::equal(got[0], want[0]));
  EXPECT_TRUE(at::equal(got[1], want[1]));
}

TEST(ShardUnit, adds_gradients_of_several_micro_batches) {
  OneUnit one;
  double waited = 0;
  for (int i = 0; i < 2; ++i) {
    one.unit->start_reduce({at::ones({6, 4})});
    one.unit->finish_reduce(waited);
  }
  one.unit->start_reduce({at::Tensor()});  // unused: zero
  one.unit->finish_reduce(waited);
  EXPECT_EQ(one.unit->grad().sum().item<float>(), 48.f);
  one.unit->zero_grad();
  EXPECT_EQ(one.unit->grad().sum().item<float>(), 0.f);
}

TEST(BufferPool, hands_a_buffer_out_again_after_its_guard_died) {
  BufferPool pool(at::kCPU);
  void* first = nullptr;
  {
    const auto buffer = pool.take(1000);
    first = buffer.data();
    EXPECT_NE(pool.take(1000).data(), first);
  }
  const int64_t held = pool.held_bytes();
  const auto again = pool.take(2000);  // same size class
  EXPECT_EQ(pool.held_bytes(), held);
}

TEST(ShardUnit, adds_what_another_unit_lends_and_rows_that_come_sparse) {
  OneUnit one;
  const at::Tensor lent = at::randn({6, 4}), rows = at::randn({3, 4});
  const at::Tensor index = at::tensor({4, 1, 4}, at::kLong);
  double waited = 0;
  for (int turn = 0; turn < 2; ++turn) {  // the second turn finds memory that holds the first one's gradients
    one.unit->lend_grad(one.weight, lent);
    one.unit->start_reduce({at::_sparse_coo_tensor_unsafe(index.unsqueeze(0), rows, {6, 4})});
    one.unit->finish_reduce(waited);
    at::Tensor want = lent.clone();
    want.index_add_(0, index, rows);
    EXPECT_TRUE(at::equal(one.unit->grad().narrow(0, 0, 24).view({6, 4}), want));
    EXPECT_EQ(one.unit->grad().narrow(0, 24, one.unit->grad().numel() - 24).abs().sum().item<float>(), 0.f);
    one.unit->zero_grad();
  }
}

TEST(ShardUnit, gives_its_gradients_memory_back_between_steps_unless_it_is_pinned) {
  for (const bool keep : {false, true}) {
    OffloadHome home({.pin = keep});
    OneUnit one(at::kFloat, &home);
    const at::Tensor view = one.unit->grad_later();
    const void* first = one.unit->grad().data_ptr();
    EXPECT_EQ(view.data_ptr(), first);  // views are pointed at the memory as it comes
    one.unit->zero_grad();
    EXPECT_EQ(view.storage().data() != nullptr, keep);
    EXPECT_EQ(one.unit->grad().abs().sum().item<float>(), 0.f);
  }
}

}  // namespace
}  // namespace ft
