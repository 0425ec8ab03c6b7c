// Offloaded, pinned or pageable, ranks train to the bit as they do without: losses, gradient norms, weights and
// optimizer state. Counters and the system's own figures show that everything lay and moved where it should.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "engine/device/memory.h"
#include "engine/formats/json.h"
#include "engine/optim/optimizer.h"
#include "engine/train/micro_batch.h"
#include "engine/train/save.h"
#include "engine/train/sharded_model.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_model.h"
#include "tests/ranks/tiny_rows.h"
#include "tests/ranks/tiny_step.h"

namespace ft::test {
namespace {

constexpr int64_t kRows = 8, kSteps = 3, kDim = 48;

Value plan_of(const Value& job, const std::string& home) {
  Value parallel = Value::map({{"reshard_after_forward", job.get("reshard", true)}, {"prefetch", true}});
  parallel.set("param_dtype", job.get("param_dtype", "auto"));
  parallel.set("zero_stage", job.get("zero_stage", 3));
  parallel.set("offload_params", home != "none");
  parallel.set("cpu_offload_pin_memory", home == "pinned");
  Value plan = Value::map({{"model", Value::map({{"description", tiny_decoder(job.get("tied", false))},
                                                 {"quantize", job.get("quantize", "none")},
                                                 {"compute", "fp32"}})},
                           {"parallel", std::move(parallel)}});
  if (job.get("lora", false)) plan.set("adapter", Value::map({{"r", 4}, {"alpha", 8}, {"dropout", 0.1}}));
  return plan;
}

struct Trained {
  std::vector<double> losses, norms;
  std::vector<at::Tensor> state;  // copies of masters and optimizer state
};

// A bug that the comparisons are there for: the last bit of one gradient, on its way home once.
void flip_a_bit(ShardedModel& model) {
  const at::Tensor grad = model.shards().back()->grad();
  const at::Tensor last = grad.defined() ? grad : model.shards()[1]->grad();
  auto* bits = static_cast<uint32_t*>(last.data_ptr());
  int64_t at = 0;
  while (at + 1 < last.numel() && bits[at] == 0) ++at;
  bits[at] ^= 1;
}

Trained steps(ShardedModel& model, Optimizer& optimizer, bool planted) {
  Trained trained;
  ProcessGroup& group = model.group();
  for (int64_t step = 0; step < kSteps; ++step) {
    double tokens = 0, loss = 0;
    for (int64_t row = 0; row < kRows; ++row) tokens += static_cast<double>(one_row(step % 2, row).num_targets);
    for (int64_t row = group.rank(); row < kRows; row += group.size()) {
      const Batch batch = one_row(step % 2, row);
      MicroBatch made = micro_batch(batch);
      set_step(made, step, tokens);
      loss += model.schedule().train(made.tokens, made.context);
    }
    model.reduce_gradients();
    if (planted && step == 1 && group.rank() == 0) flip_a_bit(model);
    trained.losses.push_back(group.sum(loss));
    trained.norms.push_back(grad_norm(model));
    optimizer.step(1e-3);
    model.masters_changed();
    model.zero_gradients();
  }
  trained.state = copied_state(model, optimizer);
  return trained;
}

bool equal(const Trained& a, const Trained& b) {
  return a.losses == b.losses && a.norms == b.norms && same_bits(a.state, b.state);
}

// What gathers copy in a run: a unit in the middle is gathered again for its backward.
int64_t bytes_gathered(ShardedModel& model, bool reshard) {
  const int64_t micro_batches = kSteps * kRows / model.group().size();
  int64_t bytes = 0;
  for (size_t unit = 0; unit < model.shards().size(); ++unit) {
    const bool middle = unit > 0 && unit + 1 < model.shards().size();
    for (const FlatRange& range : model.shards()[unit]->ranges())
      bytes += range.owned.numel() * static_cast<int64_t>(c10::elementSize(range.gather_dtype)) *
               (middle && reshard ? 2 : 1);
  }
  return bytes * micro_batches;
}

// What gradients bring home: several ranks the own part of their sum in fp32; one rank each parameter's in the dtype
// it computes in, of the embedding the rows of a batch's tokens with their numbers.
int64_t bytes_reduced(ShardedModel& model) {
  const int world = model.group().size();
  int64_t bytes = 0;
  for (size_t unit = 0; unit < model.shards().size(); ++unit) {
    FlatRange* range = model.shards()[unit]->trainable();
    if (!range) continue;
    if (world > 1) {
      bytes += static_cast<int64_t>(range->owned.nbytes());
    } else if (unit == 0) {
      bytes += kLength * static_cast<int64_t>(sizeof(int64_t) + kDim * sizeof(float));
    } else {
      for (const Parameter* p : range->layout.parameters())
        bytes += p->numel() * static_cast<int64_t>(c10::elementSize(range->gather_dtype));
    }
  }
  return bytes * kSteps * kRows / world;
}

// What was pinned before is freed: threads that sent the last gradients may hold them for a moment.
void wait_until_nothing_is_locked() {
  for (int i = 0; i < 1000 && read_host_memory().locked > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(read_host_memory().locked, 0);
}

void check_home(ShardedModel& model, Optimizer& optimizer, const Value& job, bool pinned) {
  ASSERT_TRUE(model.home());
  const OffloadHome& home = *model.home();
  const bool counted = job.get("zero_stage", 3) == 3;  // others gather once a step, and reduce when they must
  if (counted) {
    EXPECT_EQ(home.bytes_to_device(), bytes_gathered(model, job.get("reshard", true)));
  } else {
    EXPECT_GT(home.bytes_to_device(), 0);
  }
  if (counted && (job.get("lora", false) || !job.get("tied", false))) {
    EXPECT_EQ(home.bytes_to_home(), bytes_reduced(model));
  } else {
    EXPECT_GT(home.bytes_to_home(), 0);
  }
  EXPECT_GT(home.seconds(), 0);
  const ShardBytes bytes = model.bytes();
  const OffloadBytes at_home = home.bytes();
  const int64_t kept = bytes.master + bytes.frozen + bytes.nf4 + optimizer.state_bytes();
  EXPECT_GE(at_home.held, kept + (pinned ? bytes.gradient : 0));
  EXPECT_EQ(at_home.pinned + at_home.refused, pinned ? at_home.held : 0);
  EXPECT_EQ(read_host_memory().locked, at_home.pinned);
}

Trained train(const std::shared_ptr<ProcessGroup>& group, const Value& job, const std::string& home, bool planted) {
  wait_until_nothing_is_locked();
  const WeightSource source(nullptr, /*seed=*/3);
  ShardedModel model(plan_of(job, home), source, group);
  model.load(source, [](int64_t) {});
  std::unique_ptr<Optimizer> optimizer;
  {
    const OffloadHome::Stay at_home(model.home());
    const int64_t held = model.home() ? model.home()->bytes().held : 0;
    const Value adamw = Value::map({{"kind", "adamw"}, {"lr", 1e-3}, {"bits", job.get("bits", 32)}});
    optimizer = build_optimizer(adamw, optimizer_pieces(model), &model.split_group());
    const int64_t state = model.home() ? model.home()->bytes().held - held : optimizer->state_bytes();
    EXPECT_GE(state, optimizer->state_bytes());
  }
  const Trained trained = steps(model, *optimizer, planted);
  if (home == "none") {
    EXPECT_FALSE(model.home());
    EXPECT_EQ(read_host_memory().locked, 0);
  } else {
    check_home(model, *optimizer, job, home == "pinned");
  }
  return trained;
}

}  // namespace

// @param argument JSON: a list of jobs. Trains each in every home, and compares. @return "equal" or "unequal" of each,
// or of a planted bug.
RANK_BODY(train_at_home) {
  std::string said;
  const Value jobs = parse_json(argument, "jobs");
  for (const Value& job : jobs.as_list()) {
    const Trained none = train(group, job, "none", false);
    EXPECT_LT(none.losses[2], none.losses[0]);
    for (const char* home : {"pageable", "pinned"}) {
      const bool same = equal(none, train(group, job, home, job.get("plant", false)));
      said += group->max(same ? 0 : 1) == 0 ? "equal " : "unequal ";
    }
  }
  return said;
}

namespace {

Value full() { return Value::map({}); }
Value lora() { return Value::map({{"lora", true}, {"bits", 8}}); }
Value qlora() { return with(lora(), "quantize", "nf4"); }

class Offload : public testing::TestWithParam<int> {
 protected:
  std::string train_all(std::initializer_list<Value> jobs) {
    return run_ranks(GetParam(), "train_at_home", write_json(Value::list(jobs)))[0];
  }
};

TEST_P(Offload, changes_no_bit_and_moves_what_it_should) {
  EXPECT_EQ(train_all({full(), lora(), qlora()}), "equal equal equal equal equal equal ");
}

TEST_P(Offload, changes_no_bit_in_bf16_with_tied_weights_8_bit_state_and_units_that_stay) {
  const Value stays = with(with(full(), "reshard", false), "bits", 8);
  EXPECT_EQ(train_all({with(stays, "param_dtype", "bf16"), with(qlora(), "reshard", false)}),
            "equal equal equal equal ");
}

TEST_P(Offload, changes_no_bit_under_the_other_policies) {
  std::string want;
  Value jobs = Value::list();
  for (const int stage : {0, 1, 2}) {
    jobs.as_list().push_back(with(full(), "zero_stage", stage));
    jobs.as_list().push_back(with(qlora(), "zero_stage", stage));
    want += "equal equal equal equal ";
  }
  EXPECT_EQ(run_ranks(GetParam(), "train_at_home", write_json(jobs))[0], want);
}

TEST_P(Offload, the_gates_fail_when_one_bit_of_a_gradient_is_lost) {
  EXPECT_EQ(train_all({with(full(), "plant", true), with(qlora(), "plant", true)}), "unequal unequal unequal unequal ");
}

INSTANTIATE_TEST_SUITE_P(Ranks, Offload, testing::Values(1, 2, 4));

}  // namespace
}  // namespace ft::test
