// A decoder with experts trains alike on one and two ranks, the auxiliary loss over all of their tokens; run again
// under activation checkpointing it comes to the same bits.
#include <gtest/gtest.h>

#include <cmath>

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

constexpr int64_t kRows = 4, kSteps = 10, kExperts = 12;

// Few tokens for many experts: some have none, on one rank or on both.
Value with_experts(double balance) {
  Value model = tiny_decoder(false);
  for (Value& layer : model.find("layers")->as_list()) {
    Value experts = Value::list();
    for (int64_t e = 0; e < kExperts; ++e)
      experts.as_list().push_back(Value::map({{"type", "swiglu"},
                                              {"name", "experts." + std::to_string(e)},
                                              {"gate", linear("gate_proj", 48, 20)},
                                              {"up", linear("up_proj", 48, 20)},
                                              {"down", linear("down_proj", 20, 48)}}));
    layer.find("blocks")->as_list()[1].find("blocks")->as_list()[1] = Value::map({{"type", "experts"},
                                                                                  {"name", "mlp"},
                                                                                  {"dim", 48},
                                                                                  {"router", "gate"},
                                                                                  {"chosen", 2},
                                                                                  {"normalize", true},
                                                                                  {"balance", balance},
                                                                                  {"init_std", 0.3},
                                                                                  {"experts", std::move(experts)}});
  }
  return model;
}

Value plan_of(const Value& job) {
  Value plan = Value::map({{"model", Value::map({{"description", with_experts(job.get("balance", 0.0))},
                                                 {"quantize", job.get("quantize", "none")},
                                                 {"compute", "fp32"}})},
                           {"activation_checkpointing", job.get("activation_checkpointing", false)},
                           {"parallel", Value::map({{"reshard_after_forward", true}})}});
  if (job.get("lora", false)) plan.set("adapter", Value::map({{"r", 4}, {"alpha", 8}, {"dropout", 0.0}}));
  return plan;
}

// The rows of one rank as one micro batch.
Batch rows_of(int64_t batch, int64_t rank, int64_t ranks) {
  std::vector<Batch> rows;
  for (int64_t row = rank; row < kRows; row += ranks) rows.push_back(one_row(batch, row));
  return joined(rows);
}

}  // namespace

// @param argument JSON: the job.   @return losses, norms of the gradients, and of the weights at the end
RANK_BODY(train_experts) {
  const Value job = parse_json(argument, "job");
  const WeightSource source(nullptr, /*seed=*/3);
  ShardedModel model(plan_of(job), source, group);
  model.load(source, [](int64_t) {});
  auto optimizer = build_optimizer(job.at("optimizer"), optimizer_pieces(model), &model.group());
  Value losses = Value::list(), norms = Value::list();
  for (int64_t step = 0; step < kSteps; ++step) {
    const Batch own = rows_of(step % 2, group->rank(), group->size());
    const double tokens = group->sum(static_cast<double>(own.num_targets));
    MicroBatch made = micro_batch(own);
    set_step(made, step, tokens);
    losses.as_list().emplace_back(group->sum(model.schedule().train(made.tokens, made.context)));
    norms.as_list().emplace_back(grad_norm(model));
    optimizer->step(job.at("optimizer").at("lr").as_number());
    for (auto& shard : model.shards()) shard->zero_grad();
  }
  return write_json(Value::map({{"losses", losses}, {"norms", norms}}));
}

namespace {

struct Trained {
  std::vector<double> losses, norms;
};

Trained train(int world, const Value& job) {
  const Value said = parse_json(run_ranks(world, "train_experts", write_json(job))[0], "result");
  Trained trained;
  for (const Value& v : said.at("losses").as_list()) trained.losses.push_back(v.as_number());
  for (const Value& v : said.at("norms").as_list()) trained.norms.push_back(v.as_number());
  return trained;
}

Value sgd(double balance) { return with(full(test::sgd()), "balance", balance); }

constexpr double kLoss = 1.3e-6;

TEST(ExpertsOnRanks, TrainAsOnOne) {
  const Trained one = train(1, sgd(0.2)), two = train(2, sgd(0.2)), unbalanced = train(1, sgd(0));
  EXPECT_LE(worst(one.losses, two.losses), kLoss);
  EXPECT_LE(worst(one.norms, two.norms), kLoss);
  EXPECT_LT(one.losses.back(), one.losses.front());
  EXPECT_GT(worst(one.losses, unbalanced.losses), 1e-2) << "the auxiliary loss is part of the loss";
  EXPECT_GT(worst(one.norms, unbalanced.norms), 1e-4) << "and of the gradients";
}

TEST(ExpertsOnRanks, QuantizedWithAdaptersTrainAsOnOne) {
  Value job = sgd(0.2);
  job.set("lora", true), job.set("quantize", "nf4");
  const Trained one = train(1, job), two = train(2, job);
  EXPECT_LE(worst(one.losses, two.losses), kLoss);
  EXPECT_LE(worst(one.norms, two.norms), kLoss);
}

TEST(ExpertsOnRanks, RunAgainTheyComeToTheSameBits) {
  Value job = sgd(0.2);
  const Trained plain = train(2, job);
  job.set("activation_checkpointing", true);
  const Trained again = train(2, job);
  EXPECT_EQ(plain.losses, again.losses);
  EXPECT_EQ(plain.norms, again.norms);
}

}  // namespace
}  // namespace ft::test
