// Every row of the table of data-parallel layouts (engine/parallel/policy.h) trains as one process does, to the gates
// of docs/numerics.md, and each gate fails on the bugs it is there for.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

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
constexpr double kLoss = 1.3e-6, kQloraLoss = 1e-5, kWeight = 5e-6;

Value plan_of(const Value& job) {
  const TinySizes sizes = job.get("uneven", false) ? uneven_sizes() : TinySizes{};
  Value plan = Value::map({{"model", Value::map({{"description", tiny_decoder(job.get("tied", true), sizes)},
                                                 {"quantize", job.get("quantize", "none")},
                                                 {"compute", "fp32"}})},
                           {"activation_checkpointing", job.get("activation_checkpointing", false)},
                           {"parallel", job.at("parallel")}});
  if (const Value* targets = job.find("lora"))
    plan.set("adapter", Value::map({{"r", 3}, {"alpha", 8}, {"target_modules", *targets}}));
  return plan;
}

// Trains on a row. A planted bug strikes rank 1: its labels are one too far, or its gradients are left out.
double train_row(ShardedModel& model, Batch row, int64_t step, double tokens, const std::string& bug) {
  const bool struck = model.mesh().data_rank() == 1;
  if (struck && bug == "shift_label") std::rotate(row.targets.begin(), row.targets.begin() + 1, row.targets.end());
  MicroBatch made = micro_batch(row);
  set_step(made, step, tokens);
  if (bug != "skip_rank") return model.schedule().train(made.tokens, made.context);
  const double loss = model.schedule().forward(made.tokens, made.context).item<double>();
  if (struck) made.context.loss_scale = 0;
  model.schedule().train(made.tokens, made.context);
  return loss;
}

// Largest distance, relative in norm, of any piece that this rank owns from the same piece of a checkpoint.
double worst_piece(ShardedModel& model, const Checkpoint& checkpoint) {
  double most = 0;
  for (auto& shard : model.shards()) {
    FlatRange* range = shard->trainable();
    if (!range) continue;
    for (const ShardPiece& piece : range->layout.pieces(model.split_group().rank())) {
      std::vector<float> other(static_cast<size_t>(piece.count));
      checkpoint.read(piece.parameter->name, "master", piece.begin, piece.count, other.data());
      const at::Tensor mine = range->piece(piece);
      double difference = 0, size = 0;
      for (size_t i = 0; i < other.size(); ++i) {
        difference += std::pow(static_cast<double>(mine.const_data_ptr<float>()[i]) - other[i], 2);
        size += std::pow(static_cast<double>(other[i]), 2);
      }
      if (difference > 0) most = std::max(most, std::sqrt(difference / std::max(size, 1e-30)));
    }
  }
  return most;
}

// Trains, saves, and compares what each rank owns with the checkpoint of one process, where `reference` names it.
Value train(const std::shared_ptr<ProcessGroup>& group, const Value& job) {
  const WeightSource source(nullptr, /*seed=*/3);
  ShardedModel model(plan_of(job), source, group);
  model.load(source, [](int64_t) {});
  auto optimizer = build_optimizer(job.at("optimizer"), optimizer_pieces(model), &model.split_group());
  const std::string bug = job.get("plant", "");
  Value losses = Value::list(), norms = Value::list();
  for (int64_t step = 0; step < kSteps; ++step) {
    std::vector<Batch> own;
    double tokens = 0;
    for (int64_t row = 0; row < kRows; ++row) {
      Batch batch = one_row(step % 2, row);
      tokens += static_cast<double>(batch.num_targets);
      if (row % model.mesh().num_data_ranks() == model.mesh().data_rank()) own.push_back(std::move(batch));
    }
    double loss = 0;
    for (const Batch& batch : own) loss += train_row(model, batch, step, tokens, bug);
    losses.as_list().emplace_back(model.mesh().loss_group().sum(loss));
    model.reduce_gradients();
    if (bug == "halve")
      for (auto& shard : model.shards())
        if (shard->grad().defined()) shard->grad().mul_(0.5);
    norms.as_list().emplace_back(grad_norm(model));
    optimizer->step(job.at("optimizer").at("lr").as_number());
    if (bug != "stale") model.masters_changed();
    model.zero_gradients();
  }
  const std::string out = job.at("out").as_string(), reference = job.get("reference", "");
  save_checkpoint(out, model, *optimizer, Value::map({{"step", kSteps}}));
  const double saved = group->max(worst_piece(model, Checkpoint(out)));
  const double weights = reference.empty() ? 0 : group->max(worst_piece(model, Checkpoint(reference)));
  return Value::map({{"losses", losses}, {"norms", norms}, {"saved", saved}, {"weights", weights}});
}

}  // namespace

// @param argument a list of jobs. @return their results: losses, norms, `weights`, the worst distance of a piece of any
// rank from that of one process, and `saved`, that from what was saved just before.
RANK_BODY(train_policies) {
  const Value jobs = parse_json(argument, "jobs");
  Value results = Value::list();
  for (const Value& job : jobs.as_list()) results.as_list().push_back(train(group, job));
  return write_json(results);
}

namespace {

namespace fs = std::filesystem;

// A folder that goes with the process.
const fs::path& folder() {
  static const TemporaryDirectory made;
  return made.path();
}

struct Layout {
  const char* name;
  int ranks;
  Value parallel;
};
void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name << " on " << layout.ranks << " ranks"; }

struct Trained {
  std::vector<double> losses{}, norms{};
  double saved = INFINITY, weights = INFINITY;
};
using Results = std::map<std::string, Trained>;  // by job

// What every layout trains, by name; a bug is named after a slash.
const std::vector<std::pair<std::string, Value>>& jobs() {
  static const auto made = [] {
    const Value adamw = test::adamw(), sgd = test::sgd();
    const Value full = Value::map(), lora = with(full, "lora", "all-linear"), qlora = with(lora, "quantize", "nf4");
    const Value uneven = with(full, "uneven", true);
    const auto layer = [&](const char* pattern) { return with(with(uneven, "lora", pattern), "optimizer", sgd); };
    std::vector<std::pair<std::string, Value>> all;
    for (const auto& [name, job] : {std::pair{"full", full}, {"lora", lora}, {"qlora", qlora}}) {
      all.emplace_back(name + std::string(" adamw"), with(job, "optimizer", adamw));
      all.emplace_back(name + std::string(" sgd"), with(job, "optimizer", sgd));
      for (const char* bug : {"halve", "skip_rank", "shift_label", "stale"})
        if (job.find("lora") == nullptr || job.find("quantize") != nullptr)
          all.emplace_back(name + std::string(" sgd/") + bug, with(with(job, "optimizer", sgd), "plant", bug));
    }
    all.emplace_back("uneven tied", with(uneven, "optimizer", sgd));
    all.emplace_back("uneven untied checkpointed",
                     with(with(with(uneven, "tied", false), "activation_checkpointing", true), "optimizer", sgd));
    all.emplace_back("frozen after the first layer", layer("model\\.layers\\.0\\..*"));
    all.emplace_back("frozen before the last layer", layer("model\\.layers\\.1\\..*"));
    return all;
  }();
  return made;
}

fs::path checkpoint(const std::string& layout, const std::string& job) {
  return folder() / layout / job / "checkpoint-10";
}

// @param only this job; "": all of them.
Results train(const Layout& layout, const Layout* reference, const std::string& only = "") {
  Value given = Value::list();
  std::vector<std::string> names;
  for (const auto& [name, job] : jobs()) {
    const std::string base = name.substr(0, name.find('/'));
    if ((!reference && base != name) || (!only.empty() && name != only)) continue;
    Value one = with(with(job, "parallel", layout.parallel), "out", checkpoint(layout.name, name).string());
    if (reference) one.set("reference", checkpoint(reference->name, base).string());
    fs::create_directories(checkpoint(layout.name, name).parent_path());
    names.push_back(name);
    given.as_list().push_back(std::move(one));
  }
  Results results;
  const std::string said = run_ranks(layout.ranks, "train_policies", write_json(given))[0];
  if (said.empty()) return results;  // a failure that run_ranks has told
  const Value list = parse_json(said, "results");
  for (size_t i = 0; i < names.size(); ++i) {
    const Value& one = list.as_list()[i];
    Trained& trained = results[names[i]];
    for (const Value& v : one.at("losses").as_list()) trained.losses.push_back(v.as_number());
    for (const Value& v : one.at("norms").as_list()) trained.norms.push_back(v.as_number());
    trained.saved = one.at("saved").as_number();
    trained.weights = one.at("weights").as_number();
  }
  return results;
}

const Layout kOne{"one", 1, Value::map()};

const Results& one_process() {
  static const Results results = train(kOne, nullptr);
  return results;
}

// Of a layout: trained once for all tests.
const Results& of(const Layout& layout) {
  static std::map<std::string, Results> known;
  const auto found = known.find(layout.name);
  if (found != known.end()) return found->second;
  one_process();
  return known[layout.name] = train(layout, &kOne);
}

Value zero(int stage) { return Value::map({{"zero_stage", stage}}); }
Value reshard(Value after_forward) { return Value::map({{"reshard_after_forward", std::move(after_forward)}}); }
Value mesh(int replicate, int shard) {
  return Value::map({{"mesh", Value::map({{"replicate", replicate}, {"shard", shard}})}});
}

Value wrapped(const char* policy, int least) {
  return Value::map({{"auto_wrap_policy", policy}, {"min_num_params", least}, {"prefetch", false}});
}

class Policies : public testing::TestWithParam<Layout> {};

TEST_P(Policies, keep_losses_with_adamw) {
  for (const std::string name : {"full adamw", "lora adamw", "qlora adamw"}) {
    SCOPED_TRACE(name);
    const Trained &one = one_process().at(name), &many = of(GetParam()).at(name);
    EXPECT_LE(worst(one.losses, many.losses), name == "qlora adamw" ? kQloraLoss : kLoss);
    EXPECT_LT(one.losses.back(), one.losses.front());
    EXPECT_EQ(many.saved, 0);
  }
}

TEST_P(Policies, keep_losses_norms_and_weights_with_sgd) {
  for (const auto& [name, job] : jobs()) {
    if (job.find("plant") || job.at("optimizer").get("kind", "") != "sgd") continue;
    SCOPED_TRACE(name);
    const Trained &one = one_process().at(name), &many = of(GetParam()).at(name);
    EXPECT_LE(worst(one.losses, many.losses), kLoss);
    EXPECT_LE(worst(one.norms, many.norms), kLoss);
    EXPECT_LE(many.weights, kWeight);
    EXPECT_EQ(many.saved, 0);
  }
}

TEST_P(Policies, fail_their_gates_on_planted_bugs) {
  for (const auto& [name, job] : jobs()) {
    if (!job.find("plant")) continue;
    // Parameters that stand from step to step are what can go stale.
    const int64_t stage = GetParam().parallel.get("zero_stage", 3);
    if (job.at("plant") == Value("stale") && (stage == 0 || stage == 3)) continue;
    SCOPED_TRACE(name);
    const Trained &one = one_process().at(name.substr(0, name.find('/'))), &many = of(GetParam()).at(name);
    EXPECT_GT(worst(one.losses, many.losses), kLoss);
    EXPECT_GT(worst(one.norms, many.norms), kLoss);
    EXPECT_GT(many.weights, kWeight);
  }
}

// What is kept after forward, and what is gathered together, changes when values move, never what they are.
TEST(AfterForward, changes_no_bit) {
  const std::string job = "full adamw";
  one_process();
  const Trained released = train({"zero3_of_4", 4, zero(3)}, &kOne, job)[job];
  for (const Value& after : {Value(2), Value(false)}) {
    const Trained kept = train({"kept_of_4", 4, reshard(after)}, &kOne, job)[job];
    EXPECT_EQ(kept.losses, released.losses) << describe(after);
    EXPECT_EQ(kept.norms, released.norms) << describe(after);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, Policies,
    testing::Values(Layout{"ddp", 2, zero(0)}, Layout{"zero1", 2, zero(1)}, Layout{"zero2", 2, zero(2)},
                    Layout{"zero3", 2, zero(3)}, Layout{"fsdp2_kept", 2, reshard(false)},
                    Layout{"fsdp2_kept_over_2", 4, reshard(2)}, Layout{"one_unit", 2, wrapped("NO_WRAP", 1)},
                    Layout{"by_size", 2, wrapped("SIZE_BASED_WRAP", 20000)}, Layout{"hsdp", 4, mesh(2, 2)}),
    [](const auto& given) { return given.param.name; });

}  // namespace
}  // namespace ft::test
