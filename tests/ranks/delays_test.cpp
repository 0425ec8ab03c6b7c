// Ranks that come late, before a gather, before a reduction and before the update, change no bit of what is trained.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "engine/formats/json.h"
#include "engine/tensor/counter_random.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_training.h"

namespace ft::test {
namespace {

// Sleeps up to a millisecond, otherwise on each rank and each time.
class Delays {
 public:
  explicit Delays(int rank) : random_(static_cast<uint64_t>(rank), "delays") {}
  void operator()() { std::this_thread::sleep_for(std::chrono::microseconds(random_.below(count_++, 1000))); }
  uint64_t count() const { return count_; }

 private:
  CounterRandom random_;
  uint64_t count_ = 0;
};

// A group whose rank comes late to every gather and reduction, and so do its subgroups.
class LateGroup : public ProcessGroup {
 public:
  LateGroup(std::shared_ptr<ProcessGroup> inner, std::shared_ptr<Delays> delay)
      : ProcessGroup(inner->rank(), inner->size()), inner_(std::move(inner)), delay_(std::move(delay)) {}

  Pending all_gather_into(const at::Tensor& whole, const at::Tensor& mine) override {
    return late().all_gather_into(whole, mine);
  }
  Pending reduce_scatter_sum(const at::Tensor& mine, const at::Tensor& whole) override {
    return late().reduce_scatter_sum(mine, whole);
  }
  Pending all_reduce_sum(const at::Tensor& tensor) override { return late().all_reduce_sum(tensor); }
  Pending all_reduce_max(const at::Tensor& tensor) override { return late().all_reduce_max(tensor); }
  Pending broadcast(const at::Tensor& tensor, int root) override { return late().broadcast(tensor, root); }
  Pending all_to_all(const at::Tensor& received, const at::Tensor& sent) override {
    return late().all_to_all(received, sent);
  }
  Pending pass_on(const at::Tensor& received, const at::Tensor& sent) override {
    return late().pass_on(received, sent);
  }
  void barrier() override { inner_->barrier(); }
  std::shared_ptr<ProcessGroup> subgroup(const std::vector<int>& ranks, const std::string& name) override {
    auto made = inner_->subgroup(ranks, name);
    return made ? std::make_shared<LateGroup>(std::move(made), delay_) : nullptr;
  }

 private:
  ProcessGroup& late() {
    (*delay_)();
    return *inner_;
  }

  std::shared_ptr<ProcessGroup> inner_;
  std::shared_ptr<Delays> delay_;
};

}  // namespace

RANK_BODY(train_with_delays) {
  const Value given = parse_json(argument, "argument");
  const auto delay = std::make_shared<Delays>(group->rank());
  for (const Value& job : given.at("jobs").as_list()) {
    const Trained want = Training(job, &given.at("mesh"), group).train(0, 6);
    const uint64_t before = delay->count();
    Training late(job, &given.at("mesh"), std::make_shared<LateGroup>(group, delay));
    late.before_update = [&] { (*delay)(); };
    const Trained found = late.train(0, 6);
    EXPECT_EQ(found.losses, want.losses) << write_json(job);
    EXPECT_EQ(found.norms, want.norms) << write_json(job);
    EXPECT_GT(delay->count(), before + 30);
  }
  return "";
}

namespace {

Value mesh(int replicate, int shard, int context, int tensor) {
  return Value::map({{"replicate", replicate}, {"shard", shard}, {"context", context}, {"tensor", tensor}});
}

void expect_no_bit(int ranks, const Value& mesh, std::initializer_list<Value> jobs) {
  run_ranks(ranks, "train_with_delays", write_json(Value::map({{"mesh", mesh}, {"jobs", Value::list(jobs)}})));
}

TEST(Delays, change_no_bit) {
  const Value whole = full(adamw()), q = with(qlora(adamw()), "dropout", 0.1);
  expect_no_bit(2, mesh(1, 2, 1, 1),
                {whole, with(whole, "stage", 1), with(whole, "stage", 2), with(whole, "stage", 0)});
  expect_no_bit(4, mesh(2, 2, 1, 1), {whole, q, with(whole, "reshard", false)});
  expect_no_bit(2, mesh(1, 1, 2, 1), {whole, q});
  expect_no_bit(4, mesh(1, 2, 1, 2), {whole, q});
}

}  // namespace
}  // namespace ft::test
