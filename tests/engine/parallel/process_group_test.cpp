#include "engine/parallel/process_group.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <numeric>
#include <thread>

#include "engine/error/error.h"
#include "tests/ranks/ranks.h"

namespace ft {
namespace {

using test::run_ranks;
using test::run_ranks_raw;

// What rank r contributes at index i: exact in fp32, so that sums have one right answer.
float number(int rank, int64_t i) { return static_cast<float>((rank + 1) * 1000 + i % 997); }

at::Tensor numbers(int rank, int64_t count) {
  at::Tensor tensor = at::empty({count}, at::kFloat);
  for (int64_t i = 0; i < count; ++i) tensor.data_ptr<float>()[i] = number(rank, i);
  return tensor;
}

RANK_BODY(gathers_every_part) {
  const int64_t n = 100003;
  for (const bool in_place : {true, false}) {
    const at::Tensor whole = at::zeros({n * group->size()}, at::kFloat);
    const at::Tensor slice = whole.narrow(0, group->rank() * n, n);
    if (in_place) slice.copy_(numbers(group->rank(), n));
    Pending pending = group->all_gather_into(whole, in_place ? slice : numbers(group->rank(), n));
    pending.wait();
    pending.wait();  // idempotent
    for (int r = 0; r < group->size(); ++r) EXPECT_TRUE(at::equal(whole.narrow(0, r * n, n), numbers(r, n))) << r;
  }
  return "";
}

// Signalling NaNs and the rest of the byte patterns: a copy as floats may change them.
RANK_BODY(bytes_stay_bytes) {
  for (const at::ScalarType dtype : {at::kByte, at::kFloat, at::kBFloat16, at::kHalf, at::kDouble, at::kBool}) {
    const int64_t bytes = 1 << 16, n = bytes / static_cast<int64_t>(c10::elementSize(dtype));
    const at::Tensor whole = at::zeros({n * group->size()}, dtype);
    const at::Tensor mine = whole.narrow(0, group->rank() * n, n);
    const auto pattern = [](int rank, int64_t i) { return static_cast<uint8_t>(i ^ (i >> 8) ^ (rank * 37)); };
    auto* own = static_cast<uint8_t*>(mine.data_ptr());
    for (int64_t i = 0; i < bytes; ++i) own[i] = pattern(group->rank(), i);
    group->all_gather_into(whole, mine).wait();
    int64_t wrong = 0;
    for (int r = 0; r < group->size(); ++r)
      for (int64_t i = 0; i < bytes; ++i)
        wrong += static_cast<const uint8_t*>(whole.data_ptr())[r * bytes + i] != pattern(r, i);
    EXPECT_EQ(wrong, 0) << c10::toString(dtype);
    group->broadcast(mine, 0).wait();
    for (int64_t i = 0; i < bytes; ++i) wrong += own[i] != pattern(0, i);
    EXPECT_EQ(wrong, 0) << "broadcast " << c10::toString(dtype);
  }
  return "";
}

RANK_BODY(reduces_to_the_owner) {
  const int64_t n = 4099;
  for (int turn = 0; turn < 3; ++turn) {  // the second takes the scratch buffer of the first
    const at::Tensor whole = numbers(group->rank() + turn, n * group->size());
    const at::Tensor before = whole.clone(), mine = at::empty({n}, at::kFloat);
    group->reduce_scatter_sum(mine, whole).wait();
    at::Tensor want = at::zeros({n}, at::kFloat);
    for (int r = 0; r < group->size(); ++r)
      want.add_(numbers(r + turn, n * group->size()).narrow(0, group->rank() * n, n));
    EXPECT_TRUE(at::equal(mine, want));
    EXPECT_TRUE(at::equal(whole, before));
  }
  return "";
}

// Addition in rank order, so that no schedule of messages can change a bit: 1e8 swallows the 1 only in this order.
RANK_BODY(sums_in_rank_order) {
  const float values[] = {1.f, 1e8f, -1e8f, 1.f};
  const at::Tensor whole = at::full({group->size() * 8}, values[group->rank()]), mine = at::empty({8}, at::kFloat);
  group->reduce_scatter_sum(mine, whole).wait();
  float want = 0;
  for (int r = 0; r < group->size(); ++r) want += values[r];
  for (int i = 0; i < 8; ++i) EXPECT_EQ(mine.data_ptr<float>()[i], want);
  const double doubles[] = {1e-17, 1.0, -1.0, 1e-17};
  double double_want = 0;
  for (int r = 0; r < group->size(); ++r) double_want += doubles[r];
  EXPECT_EQ(group->sum(doubles[group->rank()]), double_want);
  return "";
}

RANK_BODY(small_collectives) {
  const int world = group->size(), rank = group->rank();
  EXPECT_EQ(group->sum(rank + 0.5), world * (world - 1) / 2 + 0.5 * world);
  EXPECT_EQ(group->max(-rank), 0);
  at::Tensor counts = at::full({3}, rank + 1, at::kLong);
  group->all_reduce_sum(counts).wait();
  EXPECT_EQ(counts.data_ptr<int64_t>()[2], world * (world + 1) / 2);
  at::Tensor largest = at::full({5}, static_cast<float>(rank), at::kFloat);
  group->all_reduce_max(largest).wait();
  EXPECT_EQ(largest.data_ptr<float>()[4], static_cast<float>(world - 1));
  const auto texts = group->all_gather_text(std::string(rank * 3, 'a' + rank));
  for (int r = 0; r < world; ++r) EXPECT_EQ(texts[r], std::string(r * 3, 'a' + r));
  EXPECT_EQ(group->broadcast_text(rank == world - 1 ? "from the last" : "", world - 1), "from the last");
  EXPECT_EQ(group->all_gather_text("").size(), static_cast<size_t>(world));
  group->barrier();
  return "";
}

// Many on their way at once, waited for out of order, large and small mixed: what prefetch and reduction do.
RANK_BODY(many_at_once) {
  struct One {
    at::Tensor whole, mine;
    Pending pending;
    bool gather;
  };
  std::vector<One> flight;
  for (int k = 0; k < 24; ++k) {
    const int64_t n = k % 3 == 0 ? 300007 : 1 + k;
    if (k % 2 == 0) {
      const at::Tensor whole = at::zeros({n * group->size()}, at::kFloat);
      whole.narrow(0, group->rank() * n, n).copy_(numbers(group->rank() + k, n));
      flight.push_back({whole, {}, group->all_gather_into(whole, whole.narrow(0, group->rank() * n, n)), true});
    } else {
      const at::Tensor whole = numbers(group->rank() + k, n * group->size()), mine = at::empty({n}, at::kFloat);
      flight.push_back({whole, mine, group->reduce_scatter_sum(mine, whole), false});
    }
    if (group->rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  for (size_t k = flight.size(); k-- > 0;) {
    One& one = flight[k];
    one.pending.wait();
    const int64_t n = one.whole.numel() / group->size();
    if (one.gather) {
      for (int r = 0; r < group->size(); ++r) EXPECT_TRUE(at::equal(one.whole.narrow(0, r * n, n), numbers(r + k, n)));
    } else {
      at::Tensor want = at::zeros({n}, at::kFloat);
      for (int r = 0; r < group->size(); ++r)
        want.add_(numbers(r + k, n * group->size()).narrow(0, group->rank() * n, n));
      EXPECT_TRUE(at::equal(one.mine, want)) << k;
    }
  }
  return "";
}

RANK_BODY(exchanges_parts) {
  const int64_t n = 70001;
  const int size = group->size(), rank = group->rank();
  const at::Tensor sent = at::zeros({size * n}, at::kFloat), received = at::zeros({size * n}, at::kFloat);
  for (int r = 0; r < size; ++r) sent.narrow(0, r * n, n).copy_(numbers(rank * size + r, n));
  Pending pending = group->all_to_all(received, sent);
  pending.wait();
  for (int r = 0; r < size; ++r) EXPECT_TRUE(at::equal(received.narrow(0, r * n, n), numbers(r * size + rank, n))) << r;
  group->all_to_all(at::empty({0}, at::kFloat), at::empty({0}, at::kFloat)).wait();
  return "";
}

// Several steps on their way at once, of sizes beyond what sockets buffer, on ranks that come at different times.
RANK_BODY(goes_round_the_ring) {
  const int64_t n = 900001;
  const int size = group->size(), rank = group->rank();
  at::Tensor here = numbers(rank, n), coming = at::empty({n}, at::kFloat);
  const at::Tensor small = numbers(rank + 50, 3), other = at::empty({3}, at::kFloat);
  for (int step = 0; step < 2 * size; ++step) {
    if (rank == step % size) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    EXPECT_TRUE(at::equal(here, numbers((rank - step % size + size) % size, n))) << step;
    Pending large = group->pass_on(coming, here), little = group->pass_on(other, small);
    little.wait();
    large.wait();
    EXPECT_TRUE(at::equal(other, numbers((rank - 1 + size) % size + 50, 3)));
    std::swap(here, coming);
  }
  return "";
}

RANK_BODY(subgroups) {
  // Two rows of two, and two columns: a mesh.
  const int rank = group->rank();
  const auto row = group->subgroup(rank < 2 ? std::vector{0, 1} : std::vector{2, 3}, rank < 2 ? "row0" : "row1");
  const auto column =
      group->subgroup(rank % 2 == 0 ? std::vector{0, 2} : std::vector{1, 3}, rank % 2 == 0 ? "c0" : "c1");
  EXPECT_EQ(row->rank(), rank % 2);
  EXPECT_EQ(row->sum(rank), rank < 2 ? 1 : 5);
  EXPECT_EQ(column->sum(rank), rank % 2 == 0 ? 2 : 4);
  EXPECT_EQ(group->subgroup({2}, "alone") != nullptr, rank == 2);
  return "";
}

RANK_BODY(one_rank_leaves) {
  group->barrier();
  if (group->rank() == group->size() - 1) {
    if (argument == "killed") raise(SIGKILL);
    group->report_failure("data.jsonl:3: not JSON");
    throw Error(ErrorKind::format, "data.jsonl:3: not JSON");
  }
  group->sum(1);  // the others are in a collective
  return "";
}

class OverRanks : public testing::TestWithParam<int> {};

// Together, since starting the ranks takes longer than all of them.
RANK_BODY(collectives) {
  for (const auto body : {rank_body_gathers_every_part, rank_body_bytes_stay_bytes, rank_body_reduces_to_the_owner,
                          rank_body_sums_in_rank_order, rank_body_small_collectives, rank_body_many_at_once,
                          rank_body_exchanges_parts, rank_body_goes_round_the_ring})
    body(group, argument);
  return "";
}

TEST_P(OverRanks, Collectives) { run_ranks(GetParam(), "collectives"); }
INSTANTIATE_TEST_SUITE_P(Ranks, OverRanks, testing::Values(1, 2, 4));

TEST(ProcessGroup, Subgroups) { run_ranks(4, "subgroups"); }

TEST(ProcessGroup, ADeadRankEndsTheOthersAtOnce) {
  for (const char* how : {"killed", "throws"}) {
    const auto results = run_ranks_raw(3, "one_rank_leaves", {.argument = how});
    EXPECT_EQ(results[2].exit_code, std::strcmp(how, "killed") == 0 ? 128 + SIGKILL : 1);
    for (int r : {0, 1}) {
      EXPECT_EQ(results[r].exit_code, 1);
      if (std::strcmp(how, "killed") == 0)
        EXPECT_THAT(results[r].output, testing::HasSubstr("lost rank "));
      else
        EXPECT_THAT(results[r].output, testing::HasSubstr("rank 2: data.jsonl:3: not JSON"));
      EXPECT_THAT(results[r].output, testing::Not(testing::HasSubstr("frame #")));
    }
  }
}

}  // namespace
}  // namespace ft
