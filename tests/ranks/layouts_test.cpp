// One, two and four ranks train alike, to the gates of docs/numerics.md, and each gate fails on the bugs it is there
// for.
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "engine/formats/checkpoint.h"
#include "engine/formats/json.h"
#include "engine/optim/optimizer.h"
#include "engine/train/micro_batch.h"
#include "engine/train/save.h"
#include "engine/train/sharded_model.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_model.h"
#include "tests/ranks/tiny_rows.h"
#include "tests/ranks/tiny_step.h"
#include "tests/temporary_directory.h"

namespace ft::test {
namespace {

constexpr int64_t kRows = 4, kSteps = 10;

Value plan_of(const Value& job) {
  Value plan = Value::map({{"model", Value::map({{"description", tiny_decoder(job.get("tied", true))},
                                                 {"quantize", job.get("quantize", "none")},
                                                 {"compute", "fp32"}})},
                           {"activation_checkpointing", job.get("activation_checkpointing", false)},
                           {"parallel", Value::map({{"reshard_after_forward", job.get("reshard", true)},
                                                    {"prefetch", job.get("prefetch", true)}})}});
  if (job.get("lora", false))
    plan.set("adapter", Value::map({{"r", 4}, {"alpha", 8}, {"dropout", job.get("dropout", 0.0)}}));
  return plan;
}

// The bugs that the gates are there for, planted on demand.
void plant(const std::string& bug, ShardedModel& model) {
  for (auto& shard : model.shards()) {
    if (!shard->grad().defined()) continue;
    if (bug == "halve") shard->grad().mul_(0.5);
    if (bug != "leave_lora_b") continue;
    for (const ShardPiece& piece : shard->trainable()->layout.pieces(model.group().rank()))
      if (piece.parameter->name.find("lora_B") != std::string::npos &&
          piece.begin + piece.count == piece.parameter->numel())
        shard->grad().narrow(0, piece.local_begin + piece.count / 2, piece.count - piece.count / 2).zero_();
  }
}

}  // namespace

// Trains and saves. @param argument JSON: the job and the directory for its checkpoint. @return losses and norms.
RANK_BODY(train_tiny) {
  const Value job = parse_json(argument, "job");
  const WeightSource source(nullptr, /*seed=*/3);
  ShardedModel model(plan_of(job), source, group);
  model.load(source, [](int64_t) {});
  auto optimizer = build_optimizer(job.at("optimizer"), optimizer_pieces(model), &model.group());
  Value losses = Value::list(), norms = Value::list();
  for (int64_t step = 0; step < kSteps; ++step) {
    std::vector<Batch> own;
    double tokens = 0;
    for (int64_t row = 0; row < kRows; ++row) {
      Batch batch = one_row(step % 2, row);
      tokens += static_cast<double>(batch.num_targets);
      if (row % group->size() == group->rank()) own.push_back(std::move(batch));
    }
    double loss = 0;
    for (const Batch& batch : own) {
      MicroBatch made = micro_batch(batch);
      set_step(made, step, tokens);
      loss += model.schedule().train(made.tokens, made.context);
    }
    losses.as_list().emplace_back(group->sum(loss));
    plant(job.get("plant", ""), model);
    norms.as_list().emplace_back(grad_norm(model));
    optimizer->step(job.at("optimizer").at("lr").as_number());
    for (auto& shard : model.shards()) shard->zero_grad();
  }
  save_checkpoint(job.at("out").as_string(), model, *optimizer, Value::map({{"step", kSteps}}));
  return write_json(Value::map({{"losses", losses}, {"norms", norms}}));
}

namespace {

struct Trained {
  std::vector<double> losses, norms;
  std::map<std::string, std::vector<float>> weights;
};

Trained train_anew(int world, Value job) {
  const TemporaryDirectory folder;
  const auto out = folder / "checkpoint-10";
  job.set("out", out.string());
  const Value said = parse_json(run_ranks(world, "train_tiny", write_json(job))[0], "result");
  Trained trained;
  for (const Value& v : said.at("losses").as_list()) trained.losses.push_back(v.as_number());
  for (const Value& v : said.at("norms").as_list()) trained.norms.push_back(v.as_number());
  const Checkpoint checkpoint(out);
  for (const Checkpoint::Tensor& tensor : checkpoint.tensors()) {
    if (tensor.kind != "master") continue;
    auto& values = trained.weights[tensor.name];
    values.resize(static_cast<size_t>(tensor.numel()));
    checkpoint.read(tensor.name, "master", 0, tensor.numel(), values.data());
  }
  return trained;
}

// A job that several tests look at is trained once.
const Trained& train(int world, const Value& job) {
  static std::map<std::pair<int, std::string>, Trained> known;
  const auto [place, is_new] = known.try_emplace({world, write_json(job)});
  if (is_new) place->second = train_anew(world, job);
  return place->second;
}

// Largest relative distance, in norm, of any weight.
double worst_weight(const Trained& a, const Trained& b) {
  double most = a.weights.size() == b.weights.size() ? 0 : INFINITY;
  for (const auto& [name, values] : a.weights) {
    const auto other = b.weights.find(name);
    if (other == b.weights.end() || other->second.size() != values.size()) return INFINITY;
    double difference = 0, size = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      difference += std::pow(static_cast<double>(values[i]) - other->second[i], 2);
      size += std::pow(static_cast<double>(values[i]), 2);
    }
    most = std::max(most, std::sqrt(difference / std::max(size, 1e-30)));
  }
  return most;
}

constexpr double kLoss = 1.3e-6, kQloraLoss = 1e-5, kWeight = 5e-6;

class Layouts : public testing::TestWithParam<int> {};

TEST_P(Layouts, full_training_with_adamw_keeps_its_losses) {
  for (const bool tied : {true, false}) {
    const Trained one = train(1, with(full(adamw()), "tied", tied)),
                  many = train(GetParam(), with(full(adamw()), "tied", tied));
    EXPECT_LE(worst(one.losses, many.losses), kLoss);
    EXPECT_LT(one.losses.back(), one.losses.front());
  }
}

TEST_P(Layouts, full_training_with_sgd_keeps_losses_norms_and_weights) {
  const Trained one = train(1, full(sgd())), many = train(GetParam(), full(sgd()));
  EXPECT_LE(worst(one.losses, many.losses), kLoss);
  EXPECT_LE(worst(one.norms, many.norms), kLoss);
  EXPECT_LE(worst_weight(one, many), kWeight);
}

TEST_P(Layouts, qlora_with_adamw_keeps_its_losses) {
  const Value job = with(qlora(adamw()), "dropout", 0.1);
  EXPECT_LE(worst(train(1, job).losses, train(GetParam(), job).losses), kQloraLoss);
}

TEST_P(Layouts, qlora_with_sgd_keeps_losses_norms_and_weights) {
  const Trained one = train(1, qlora(sgd())), many = train(GetParam(), qlora(sgd()));
  EXPECT_LE(worst(one.losses, many.losses), kLoss);
  EXPECT_LE(worst(one.norms, many.norms), kLoss);
  EXPECT_LE(worst_weight(one, many), kWeight);
}

TEST_P(Layouts, checkpointing_resharding_and_prefetch_change_no_bit) {
  const Trained plain = train(GetParam(), qlora(adamw()));
  for (const auto& [key, value] :
       {std::pair{"activation_checkpointing", true}, {"reshard", false}, {"prefetch", false}}) {
    const Trained other = train(GetParam(), with(qlora(adamw()), key, value));
    EXPECT_EQ(plain.losses, other.losses) << key;
    EXPECT_EQ(plain.weights, other.weights) << key;
  }
}

TEST_P(Layouts, the_gates_fail_when_gradients_are_halved) {
  const Trained one = train(1, full(sgd())), many = train(GetParam(), with(full(sgd()), "plant", "halve"));
  EXPECT_GT(worst(one.losses, many.losses), kLoss);
  EXPECT_GT(worst(one.norms, many.norms), kLoss);
  EXPECT_GT(worst_weight(one, many), kWeight);
  const Trained q = train(1, qlora(sgd())), halved = train(GetParam(), with(qlora(sgd()), "plant", "halve"));
  EXPECT_GT(worst(q.losses, halved.losses), kLoss);
  EXPECT_GT(worst(q.norms, halved.norms), kLoss);
  EXPECT_GT(worst_weight(q, halved), kWeight);
}

TEST_P(Layouts, the_gates_fail_when_a_part_of_lora_b_is_left_untrained) {
  const Trained one = train(1, qlora(sgd())), many = train(GetParam(), with(qlora(sgd()), "plant", "leave_lora_b"));
  EXPECT_GT(worst(one.losses, many.losses), kLoss);
  EXPECT_GT(worst(one.norms, many.norms), kLoss);
  EXPECT_GT(worst_weight(one, many), kWeight);
  const Trained q = train(1, qlora(adamw())), left = train(GetParam(), with(qlora(adamw()), "plant", "leave_lora_b"));
  EXPECT_GT(worst(q.losses, left.losses), kQloraLoss);
}

TEST_P(Layouts, every_shard_of_every_lora_matrix_is_trained_and_saved) {
  const Trained before = train(GetParam(), qlora(Value::map({{"kind", "sgd"}, {"lr", 0.0}})));
  const Trained after = train(GetParam(), qlora(sgd()));
  EXPECT_EQ(after.weights.size(), 2u * 7 * 2);  // A and B of seven linears in two layers
  for (const auto& [name, values] : after.weights) {
    size_t changed = 0;
    for (size_t i = 0; i < values.size(); ++i) changed += values[i] != before.weights.at(name)[i];
    EXPECT_EQ(changed, values.size()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Layouts, testing::Values(2, 4));

}  // namespace
}  // namespace ft::test
