// Updates that run beside the next forward, or beside the backward, leave the bits of updates that run by themselves;
// they do run beside, and what reads or updates too early is noticed.
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <thread>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/train/micro_batch.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_rows.h"
#include "tests/ranks/tiny_training.h"

namespace ft::test {
namespace {

using testing::HasSubstr;

Ended train(const Value& job, const Value* mesh, const std::shared_ptr<ProcessGroup>& group) {
  Training training(job, mesh, group);
  Trained trained = training.train(0, 4);
  EXPECT_EQ(training.updates->updated() > 0, job.get("overlap", "none") != "none");
  return ended(training, std::move(trained));
}

// What `condition` says within a minute.
bool comes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 60'000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return condition();
}

// Another optimizer, with something before each of its parts.
class Before : public ElementwiseOptimizer {
 public:
  Before(ElementwiseOptimizer& inner, std::function<void(size_t first, size_t count)> act)
      : ElementwiseOptimizer(inner.num_pieces()), inner_(inner), act_(std::move(act)) {}
  bool scale_gradients(double factor) override { return inner_.scale_gradients(factor); }
  void begin_step(double lr) override { inner_.begin_step(lr); }
  void step_pieces(size_t first, size_t count) override {
    act_(first, count);
    inner_.step_pieces(first, count);
  }
  std::vector<StateTensor> state() override { return inner_.state(); }

 private:
  ElementwiseOptimizer& inner_;
  std::function<void(size_t, size_t)> act_;
};

}  // namespace

// @param argument JSON: a mesh, or null, and a list of jobs. Trains each without overlap, and with both. @return
// "equal" or "unequal" of each.
RANK_BODY(train_with_overlap) {
  const Value given = parse_json(argument, "argument");
  const Value* mesh = given.at("mesh").is_null() ? nullptr : &given.at("mesh");
  std::string answer;
  const SharedDirectory directory(*group);
  for (Value job : given.at("jobs").as_list()) {
    if (job.get("paged", false)) job.set("pages", directory.path.string());
    const Ended want = train(job, mesh, group);
    EXPECT_LT(want.trained.losses[2], want.trained.losses[0]);
    for (const char* overlap : {"forward", "backward"}) {
      if (job.find("clip") && overlap == std::string("backward")) continue;
      const bool same = equal(want, train(with(job, "overlap", overlap), mesh, group));
      EXPECT_EQ(group->max(same ? 0 : 1), 0) << overlap << " " << write_json(job);
    }
  }
  return answer;
}

namespace {

Value lion() { return Value::map({{"kind", "lion"}, {"lr", 1e-3}, {"weight_decay", 0.1}}); }
Value momentum() { return Value::map({{"kind", "sgd"}, {"lr", 0.1}, {"momentum", 0.9}, {"nesterov", true}}); }

Value mesh(int replicate, int shard, int context, int tensor) {
  return Value::map({{"replicate", replicate}, {"shard", shard}, {"context", context}, {"tensor", tensor}});
}

void expect_no_bit(int ranks, const Value& mesh, std::initializer_list<Value> jobs) {
  run_ranks(ranks, "train_with_overlap", write_json(Value::map({{"mesh", mesh}, {"jobs", Value::list(jobs)}})));
}

// The head is tied to the embedding, in all but one.
TEST(UpdateOverlap, changes_no_bit_of_any_optimizer_at_home_or_not) {
  const Value whole = full(adamw()), at_home = with(whole, "offload", true);
  for (const int ranks : {1, 2})
    expect_no_bit(
        ranks, Value(),
        {whole, at_home, with(full(adamw8()), "offload", true), with(full(sgd()), "offload", true),
         with(full(momentum()), "offload", true), with(full(lion()), "offload", true),
         with(full(adamw8()), "paged", true), with(at_home, "tied", false),
         with(with(at_home, "pin", true), "clip", 0.05), with(with(full(adamw8()), "offload", true), "clip", 0.05),
         with(lora(adamw()), "offload", true), with(with(qlora(adamw8()), "dropout", 0.1), "offload", true)});
}

TEST(UpdateOverlap, changes_no_bit_on_any_layout) {
  const Value whole = full(adamw8()), q = with(qlora(adamw8()), "offload", true);
  const Value checkpointed = with(whole, "activation_checkpointing", true);
  for (const int ranks : {1, 2})
    expect_no_bit(
        ranks, Value(),
        {with(whole, "stage", 0), with(whole, "stage", 1), with(with(whole, "stage", 1), "offload", true),
         with(whole, "stage", 2), with(whole, "reshard", false), with(with(whole, "reshard", false), "offload", true),
         checkpointed, with(checkpointed, "reshard", false)});
  expect_no_bit(4, mesh(2, 2, 1, 1), {whole, q});
  expect_no_bit(4, mesh(1, 4, 1, 1), {with(whole, "reshard", 2), q});
  expect_no_bit(2, mesh(1, 1, 2, 1), {whole, q});
  expect_no_bit(2, mesh(1, 1, 1, 2), {whole, q});
}

// The first unit whose gradients arrive is updated before the others' have: within the backward.
TEST(UpdateOverlap, begins_before_the_backward_ends) {
  Training training(with(full(adamw()), "overlap", "backward"), nullptr, ProcessGroup::single());
  Schedule& schedule = training.model.schedule();
  int64_t arrived = 0;
  training.before_last_backward = [&] {
    schedule.reduced = [&, tell = schedule.reduced](size_t shard) {
      tell(shard);
      ++arrived;
      EXPECT_TRUE(comes_true([&] { return training.updates->updated() >= arrived; })) << "of unit " << shard;
    };
  };
  training.updates->next_step(1e-3);
  training.step(0);
  EXPECT_EQ(training.updates->updated(), arrived);
  EXPECT_EQ(arrived, static_cast<int64_t>(training.model.shards().size()));
  EXPECT_EQ(training.optimizer->steps, 1);
}

// The head's update waits until the next forward has come to the first unit: it would wait for ever otherwise.
TEST(UpdateOverlap, ends_behind_the_next_forward) {
  Training training(full(adamw()), nullptr, ProcessGroup::single());
  std::atomic<bool> reached = false, held = false;
  auto& inner = dynamic_cast<ElementwiseOptimizer&>(*training.optimizer);
  Before optimizer(inner, [&](size_t first, size_t count) {
    if (first + count < inner.num_pieces()) return;
    held = true;
    EXPECT_TRUE(comes_true([&] { return reached.load(); }));
  });
  UnitUpdates updates(training.model, optimizer, Overlap::forward, [] {});
  updates.next_step(1e-3);
  training.step(0);
  updates.update(1);
  MicroBatch made = micro_batch(one_row(0, 0));
  training.model.schedule().forward(made.tokens, made.context, [&](size_t, const at::Tensor&) { reached = true; });
  EXPECT_TRUE(held);
  updates.finish();
  EXPECT_EQ(updates.updated(), static_cast<int64_t>(training.model.shards().size()));
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

// A planted bug: with the gradients of one unit another one's are taken for arrived.
std::string taken_too_early(const Value& job, size_t shard) {
  Training training(with(job, "overlap", "backward"), nullptr, ProcessGroup::single());
  Schedule& schedule = training.model.schedule();
  training.before_last_backward = [&] {
    schedule.reduced = [&schedule, shard, tell = schedule.reduced](size_t arrived) {
      tell(arrived);
      tell(shard);
    };
  };
  return message_of([&] { training.train(0, 1); });
}

TEST(UpdateOverlap, an_update_before_the_last_use_is_noticed) {
  const Value whole = with(full(adamw()), "offload", true);
  EXPECT_THAT(taken_too_early(with(whole, "reshard", false), 0),
              HasSubstr("its update would begin before its last use"));
  EXPECT_THAT(taken_too_early(with(whole, "reshard", false), 1),
              HasSubstr("its update would begin before its last use"));
  EXPECT_THAT(taken_too_early(whole, 1), HasSubstr("between a step's last backward and run:update()"));
}

TEST(UpdateOverlap, refuses_readers_between_the_backward_and_the_update) {
  Training training(with(full(adamw()), "overlap", "backward"), nullptr, ProcessGroup::single());
  training.updates->next_step(1e-3);
  training.step(0);
  const MicroBatch made = micro_batch(one_row(0, 0));
  const std::string refused = "optimizer.overlap: parameters are asked for between";
  EXPECT_THAT(message_of([&] { training.model.schedule().forward(made.tokens, made.context); }), HasSubstr(refused));
  EXPECT_THAT(message_of([&] { training.updates->finish(); }), HasSubstr(refused));
  EXPECT_THAT(message_of([&] { training.updates->last_backward(); }), HasSubstr(refused));
  EXPECT_THAT(message_of([&] { training.updates->next_step(1e-3); }), HasSubstr(refused));
}

TEST(UpdateOverlap, what_an_update_throws_is_thrown_where_the_run_waits_for_it) {
  for (const Overlap overlap : {Overlap::forward, Overlap::backward}) {
    Training training(full(adamw()), nullptr, ProcessGroup::single());
    Before optimizer(dynamic_cast<ElementwiseOptimizer&>(*training.optimizer),
                     [](size_t first, size_t) { throw std::runtime_error("pieces " + std::to_string(first)); });
    UnitUpdates updates(training.model, optimizer, overlap, [] {});
    updates.next_step(1e-3);
    training.step(0);
    EXPECT_THAT(message_of([&] {
                  updates.update(1);
                  training.step(1);
                }),
                HasSubstr("pieces "));
  }
}

// What reads masters, a checkpoint that is being written, is waited for before the first of them changes, once a step.
TEST(UpdateOverlap, asks_before_anything_changes) {
  for (const Overlap overlap : {Overlap::none, Overlap::forward, Overlap::backward}) {
    Training training(full(sgd()), nullptr, ProcessGroup::single());
    std::vector<at::Tensor> before;
    for (auto& shard : training.model.shards()) before.push_back(shard->trainable()->owned.clone());
    int64_t asked = 0;
    const auto as_before = [&] {
      for (size_t i = 0; i < before.size(); ++i)
        EXPECT_TRUE(at::equal(before[i], training.model.shards()[i]->trainable()->owned));
      ++asked;
    };
    training.updates = std::make_unique<UnitUpdates>(training.model, *training.optimizer, overlap, as_before);
    training.train(0, 1);
    EXPECT_EQ(asked, 1);
    EXPECT_FALSE(at::equal(before[0], training.model.shards()[0]->trainable()->owned));
  }
}

// From the first unit on whose gradient is no number nothing is updated, and the step can be given up.
TEST(UpdateOverlap, stops_at_a_gradient_that_is_not_finite) {
  Training training(with(full(sgd()), "overlap", "backward"), nullptr, ProcessGroup::single());
  training.before_last_backward = [&] {
    for (auto& shard : training.model.shards())
      if (shard->trainable()) shard->grad().fill_(std::numeric_limits<float>::quiet_NaN());
  };
  std::vector<at::Tensor> before;
  for (auto& shard : training.model.shards()) before.push_back(shard->trainable()->owned.clone());
  training.updates->next_step(0.5);
  training.step(0);
  EXPECT_TRUE(std::isnan(training.norm()));
  training.updates->abandon();
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(at::equal(before[i], training.model.shards()[i]->trainable()->owned));
  const MicroBatch made = micro_batch(one_row(0, 0));
  EXPECT_GT(training.model.schedule().forward(made.tokens, made.context).item<double>(), 0);
}

}  // namespace
}  // namespace ft::test
