#include "engine/parallel/offload_home.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "engine/device/memory.h"
#include "engine/parallel/shard_unit.h"

namespace ft {
namespace {

using testing::HasSubstr;

// Page locks that are counted, and that give out at a limit.
struct Locks {
  size_t limit = SIZE_MAX, locked = 0;
  PageLocking locking() {
    return {.lock =
                [this](void*, size_t bytes) {
                  if (locked + bytes > limit) return false;
                  locked += bytes;
                  return true;
                },
            .unlock = [this](void*, size_t bytes) { locked -= bytes; }};
  }
};

TEST(OffloadHome, gives_zeros_that_are_pinned_or_not_and_counts_them_until_they_are_freed) {
  Locks locks;
  for (const bool pin : {true, false}) {
    OffloadHome home({.pin = pin, .locking = locks.locking()});
    {
      const at::Tensor small = home.zeros(1000, at::kFloat), large = home.zeros(3 << 20, at::kByte);
      EXPECT_EQ(small.abs().max().item<float>(), 0.f);
      EXPECT_EQ(large.max().item<int>(), 0);
      EXPECT_EQ(reinterpret_cast<size_t>(large.data_ptr()) % (2 << 20), 0u);  // huge pages fit
      small.fill_(1);
      large.fill_(1);
      EXPECT_EQ(home.bytes().held, 4096 + (3 << 20));
      EXPECT_EQ(home.bytes().pinned, pin ? 4096 + (3 << 20) : 0);
      EXPECT_EQ(static_cast<int64_t>(locks.locked), home.bytes().pinned);
    }
    EXPECT_EQ(home.bytes().held, 0);
    EXPECT_EQ(home.bytes().pinned, 0);
    EXPECT_EQ(locks.locked, 0u);
    EXPECT_FALSE(home.refusal());
    EXPECT_EQ(home.zeros(0, at::kFloat).numel(), 0);
  }
}

TEST(OffloadHome, counts_what_crosses_and_computes_what_tensors_in_one_place_do) {
  OffloadHome home({.pin = false});
  constexpr int64_t kCount = 600'001;  // more than the staging, with a rest
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const int64_t to_device = home.bytes_to_device(), to_home = home.bytes_to_home();
    const auto width = static_cast<int64_t>(c10::elementSize(dtype));
    const at::Tensor here = home.zeros(kCount, at::kFloat);
    const at::Tensor first = at::randn({kCount}).to(dtype), second = at::randn({kCount}).to(dtype);
    home.to_home(here, first);
    home.add_at_home(here, second);
    EXPECT_TRUE(at::equal(here, first.to(at::kFloat).add(second.to(at::kFloat))));
    EXPECT_EQ(home.bytes_to_home() - to_home, 2 * kCount * width);
    const at::Tensor there = at::zeros({kCount}, dtype);
    home.to_device(there, here);
    EXPECT_TRUE(at::equal(there, here.to(dtype)));
    EXPECT_EQ(home.bytes_to_device() - to_device, kCount * width);
    const at::Tensor copy = home.brought_home(first);
    EXPECT_NE(copy.data_ptr(), first.data_ptr());
    EXPECT_TRUE(at::equal(copy, first));
    EXPECT_EQ(home.bytes_to_home() - to_home, 3 * kCount * width);
  }
  EXPECT_GT(home.seconds(), 0);
}

TEST(OffloadHome, takes_in_the_tensors_that_are_made_during_a_stay) {
  OffloadHome home({.pin = false});
  const int64_t before = home.bytes().held;
  std::vector<at::Tensor> small;
  at::Tensor large;
  {
    const OffloadHome::Stay stay(&home);
    for (int i = 0; i < 100; ++i) small.push_back(at::ones({100}));
    large = at::zeros_like(at::ones({1 << 20}));
  }
  EXPECT_EQ(at::zeros({1 << 20}).numel(), 1 << 20);
  // A hundred small ones share a mapping; the one that was only copied in its shape is gone.
  EXPECT_EQ(home.bytes().held - before, (256 << 10) + (4 << 20));
  for (const at::Tensor& tensor : small) EXPECT_EQ(tensor.sum().item<float>(), 100.f);
  EXPECT_EQ(large.sum().item<float>(), 0.f);
  { const OffloadHome::Stay nowhere(nullptr); }
  large.reset();
  EXPECT_EQ(home.bytes().held - before, 256 << 10);
}

TEST(OffloadHome, says_what_was_refused_and_leaves_it_pageable) {
  Locks locks{.limit = 1 << 20};
  OffloadHome home({.pin = true, .locking = locks.locking()});
  const at::Tensor first = home.zeros(1 << 20, at::kByte);
  EXPECT_FALSE(home.refusal());
  at::Tensor second = home.zeros(1 << 20, at::kFloat);
  second.fill_(1);
  EXPECT_EQ(home.bytes().pinned, 1 << 20);
  EXPECT_EQ(home.bytes().refused, 4 << 20);
  ASSERT_TRUE(home.refusal());
  EXPECT_THAT(*home.refusal(), HasSubstr("got 1.05 MB page-locked, want 5.24 MB"));
  EXPECT_THAT(*home.refusal(), HasSubstr("RLIMIT_MEMLOCK is "));
  EXPECT_THAT(*home.refusal(), HasSubstr("cpu_offload_pin_memory: false"));
  second.reset();
  EXPECT_FALSE(home.refusal());
  EXPECT_EQ(home.bytes().refused, 0);
}

// What the thread may do without CAP_IPC_LOCK, under which no limit holds.
void without_the_right_to_lock(const std::function<void()>& action) {
  std::thread([&] {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    ASSERT_EQ(syscall(SYS_capget, &header, data), 0);
    data[0].effective &= ~(1u << CAP_IPC_LOCK);
    ASSERT_EQ(syscall(SYS_capset, &header, data), 0);
    action();
  }).join();
}

TEST(OffloadHome, ends_no_run_where_the_system_refuses_to_lock) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &before), 0);
  rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
  without_the_right_to_lock([] {
    const int64_t locked = read_host_memory().locked;
    OffloadHome home(OffloadOptions{});
    const at::Tensor tensor = home.zeros(1 << 20, at::kFloat);
    tensor.fill_(1);
    EXPECT_EQ(home.bytes().refused, 4 << 20);
    EXPECT_EQ(read_host_memory().locked, locked);
    ASSERT_TRUE(home.refusal());
    EXPECT_THAT(*home.refusal(), HasSubstr("want 4.19 MB (RLIMIT_MEMLOCK is 0 B, RAM "));
  });
  EXPECT_EQ(setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

TEST(OffloadHome, locks_pages_of_the_system_only_where_it_is_to_pin) {
  const int64_t before = read_host_memory().locked;
  OffloadHome pageable({.pin = false});
  const at::Tensor left = pageable.zeros(1 << 20, at::kFloat);
  EXPECT_EQ(read_host_memory().locked, before);
  OffloadHome pinned(OffloadOptions{});
  const at::Tensor held = pinned.zeros(1 << 16, at::kFloat);
  if (pinned.bytes().refused > 0) GTEST_SKIP() << "no memory may be locked here";
  EXPECT_EQ(read_host_memory().locked, before + (256 << 10));
}

// A unit computes on what was copied to it, never on what lies at home.
TEST(OffloadHome, a_unit_on_one_rank_computes_on_copies_and_brings_its_gradients_home) {
  OffloadHome home({.pin = false});
  Parameter weight, frozen;
  weight.name = "w";
  weight.shape = {6, 4};
  frozen.name = "f";
  frozen.shape = {5};
  frozen.storage = Storage::frozen;
  BufferPool pool(at::kCPU);
  const auto group = ProcessGroup::single();
  ShardUnit unit("layer", {&weight, &frozen}, {at::kFloat, at::kBFloat16}, *group, pool, {.home = &home});
  FlatRange& range = *unit.trainable();
  range.owned.narrow(0, 0, 24).copy_(at::arange(24));
  double waited = 0;
  unit.start_gather();
  unit.finish_gather(waited);
  EXPECT_TRUE(at::equal(weight.value, at::arange(24, at::kFloat).view({6, 4})));
  EXPECT_NE(weight.value.data_ptr(), range.owned.data_ptr());
  const auto gathered = static_cast<int64_t>(range.owned.nbytes() + unit.ranges()[1].owned.nbytes());
  EXPECT_EQ(home.bytes_to_device(), gathered);
  unit.release();
  for (int i = 0; i < 3; ++i) {
    unit.start_reduce({at::ones({6, 4})});
    unit.finish_reduce(waited);
  }
  EXPECT_EQ(home.bytes_to_home(), 3 * 24 * 4);
  EXPECT_EQ(unit.grad().sum().item<float>(), 72.f);
}

}  // namespace
}  // namespace ft
