// Rows split over ranks train as whole rows on one process do: padded rows and packed documents, by ring and by
// Ulysses, with ranks of the shard axis beside them. Each gate fails on the bugs it is there for.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/data/token_rows.h"
#include "engine/formats/json.h"
#include "engine/optim/optimizer.h"
#include "engine/tensor/counter_random.h"
#include "engine/train/micro_batch.h"
#include "engine/train/save.h"
#include "engine/train/sharded_model.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_model.h"
#include "tests/ranks/tiny_step.h"

namespace ft::test {
namespace {

constexpr int64_t kRows = 4, kLength = 46, kVocab = 97, kSteps = 10, kMicro = 2;

// Documents of a row, all of `length` tokens or fewer: the rest is padding.
std::vector<int64_t> documents_of(const std::string& layout, int64_t row) {
  if (layout == "padded") return {kLength - 7 * row};
  // The cuts of 2 and 4 ranks lie at 12, 24, 36 and 6, 18, 30, 42 more: documents reach over one, two and three of
  // them.
  const std::vector<std::vector<int64_t>> packed = {{5, 1, 19, 21}, {46}, {6, 6, 12, 13, 4}, {1, 2, 40}};
  return packed[static_cast<size_t>(row)];
}

// Row `row` of one of two batches that come in turn; every token but the first five of row 1 is learnt.
Batch make_row(int64_t batch, int64_t row, const std::string& layout) {
  const CounterRandom random(static_cast<uint64_t>(7 + batch), "tokens");
  Batch made;
  made.rows = 1;
  made.length = kLength;
  made.row_ids = {row};
  made.documents.emplace_back();
  const auto token = [&](int64_t at) {
    return static_cast<int64_t>(random.below(static_cast<uint64_t>(row * kLength + at), kVocab));
  };
  const auto add = [&](int64_t length, bool learnt) {
    made.documents[0].push_back(length);
    for (int64_t t = 0; t < length; ++t) {
      const auto at = static_cast<int64_t>(made.tokens.size());
      made.tokens.push_back(learnt ? token(at) : 0);
      made.positions.push_back(t);
      made.targets.push_back(!learnt || t + 1 == length || (row == 1 && at < 5) ? kIgnoreLabel : token(at + 1));
      made.num_targets += made.targets.back() != kIgnoreLabel;
    }
  };
  for (const int64_t length : documents_of(layout, row)) add(length, true);
  const auto used = static_cast<int64_t>(made.tokens.size());
  if (used < kLength) add(kLength - used, false);
  return made;
}

// Rows `first` to `first + count` of a batch as one micro batch.
Batch make_rows(int64_t batch, int64_t first, int64_t count, const std::string& layout) {
  std::vector<Batch> rows;
  for (int64_t row = first; row < first + count; ++row) rows.push_back(make_row(batch, row, layout));
  return joined(rows);
}

std::string layout_of(const Value& job) { return job.get("layout", "packed"); }

Value description(const Value& job) {
  Value model = tiny_decoder(job.get("tied", true));
  Value& attention = model.find("layers")->as_list()[0].find("blocks")->as_list()[0].find("blocks")->as_list()[1];
  if (const int64_t window = job.get("window", 0); window > 0) attention.set("window", window);
  if (job.get("dynamic", false))  // angles of a document's own for those of more than 8 tokens
    attention.set("rope", Value::map({{"type", "dynamic"}, {"theta", 10000.0}, {"factor", 2.0}, {"original", 8}}));
  return model;
}

// @param mesh null for one process
Value plan_of(const Value& job, const Value* mesh) {
  Value parallel = Value::map({{"context_method", job.get("method", "ring")}});
  if (mesh) parallel.set("mesh", *mesh);
  if (mesh && job.find("zero_stage")) parallel.set("zero_stage", job.at("zero_stage"));
  Value plan = Value::map({{"model", Value::map({{"description", description(job)},
                                                 {"quantize", job.get("quantize", "none")},
                                                 {"compute", job.get("compute", "fp32")}})},
                           {"activation_checkpointing", job.get("activation_checkpointing", false)},
                           {"parallel", parallel}});
  if (job.get("lora", false))
    plan.set("adapter", Value::map({{"r", 4}, {"alpha", 8}, {"dropout", job.get("dropout", 0.0)}}));
  return plan;
}

// The bugs that the gates are there for, in the part of the rows that a rank holds.
void plant(const std::string& bug, Batch& part) {
  if (bug == "shift_after_split")  // the label of a token is the next one that this rank holds
    for (size_t t = 0; t + 1 < part.tokens.size(); ++t)
      if (part.targets[t] != kIgnoreLabel) part.targets[t] = part.tokens[t + 1];
  if (bug == "one_document")
    for (auto& row : part.documents) row = {part.split.length};
  if (bug == "positions_of_the_part")
    for (size_t t = 0; t < part.positions.size(); ++t) part.positions[t] = static_cast<int64_t>(t) % part.length;
  if (bug == "chunks_in_order") part.split.index = part.split.size - 1 - part.split.index;
}

struct Trained {
  std::vector<double> losses, norms;
  double evaluated = 0;  // Σ nll of the second batch after the last step
  std::map<std::string, at::Tensor> weights;
};

// This rank's micro batches of a batch.
std::vector<MicroBatch> micro_batches(ShardedModel& model, int64_t batch, const Value& job) {
  std::vector<MicroBatch> all;
  for (int64_t first = 0; first < kRows; first += kMicro) {
    if (first / kMicro % model.mesh().num_data_ranks() != model.mesh().data_rank()) continue;
    Batch part = own_part(make_rows(batch, first, kMicro, layout_of(job)), model.context_axis(), 0);
    if (model.context_axis().group) plant(job.get("plant", ""), part);
    all.push_back(micro_batch(part, model.context_axis()));
  }
  return all;
}

double train_step(ShardedModel& model, int64_t step, const Value& job) {
  double tokens = 0;
  for (int64_t row = 0; row < kRows; ++row)
    tokens += static_cast<double>(make_row(step % 2, row, layout_of(job)).num_targets);
  double loss = 0;
  for (MicroBatch& made : micro_batches(model, step % 2, job)) {
    set_step(made, step, tokens);
    loss += model.schedule().train(made.tokens, made.context);
  }
  model.reduce_gradients();
  return model.mesh().loss_group().sum(loss);
}

// Every trained parameter, whole. Collective.
std::map<std::string, at::Tensor> gathered(ShardedModel& model) {
  std::map<std::string, at::Tensor> weights;
  double waited = 0;
  for (auto& shard : model.shards()) {
    shard->start_gather();
    shard->finish_gather(waited);
    if (const FlatRange* range = shard->trainable())
      for (const Parameter* p : range->layout.parameters()) weights[p->name] = p->value.detach().clone();
    shard->release();
  }
  return weights;
}

Trained train(const Value& job, const Value* mesh, const std::shared_ptr<ProcessGroup>& group) {
  const WeightSource source(nullptr, /*seed=*/3);
  ShardedModel model(plan_of(job, mesh), source, group);
  model.load(source, [](int64_t) {});
  auto optimizer = build_optimizer(job.at("optimizer"), optimizer_pieces(model), &model.split_group());
  Trained trained;
  for (int64_t step = 0; step < kSteps; ++step) {
    trained.losses.push_back(train_step(model, step, job));
    trained.norms.push_back(grad_norm(model));
    optimizer->step(job.at("optimizer").at("lr").as_number());
    model.masters_changed();
    model.zero_gradients();
  }
  for (const MicroBatch& made : micro_batches(model, 1, job))
    trained.evaluated += model.schedule().forward(made.tokens, made.context).item<double>();
  trained.evaluated = model.mesh().loss_group().sum(trained.evaluated);
  trained.weights = gathered(model);
  return trained;
}

double worst_weight(const Trained& found, const Trained& want) {
  double most = found.weights.size() == want.weights.size() ? 0 : INFINITY;
  for (const auto& [name, value] : want.weights) {
    const at::Tensor difference = found.weights.at(name).to(at::kDouble).sub(value);
    most = std::max(most, difference.norm().item<double>() / std::max(value.norm().item<double>(), 1e-30));
  }
  return most;
}

}  // namespace

// Trains every job on the mesh and, on rank 0, on one process.
// @param argument JSON: mesh, jobs.   @return of rank 0: for each job the largest relative differences
RANK_BODY(train_on_mesh) {
  const Value given = parse_json(argument, "argument");
  Value all = Value::list();
  for (const Value& job : given.at("jobs").as_list()) {
    const Trained found = train(job, &given.at("mesh"), group);
    if (group->rank() > 0) continue;
    const Trained want = train(job, nullptr, ProcessGroup::single());
    EXPECT_LT(want.losses.back(), want.losses.front());
    all.as_list().push_back(Value::map({{"losses", worst(found.losses, want.losses)},
                                        {"norms", worst(found.norms, want.norms)},
                                        {"weights", worst_weight(found, want)},
                                        {"evaluated", worst({found.evaluated}, {want.evaluated})}}));
  }
  return write_json(all);
}

// Losses and weights to the bit, whatever is run again, kept or fetched ahead.
RANK_BODY(checkpointing_changes_no_bit) {
  Value job = parse_json(argument, "argument");
  const Value mesh = Value::map({{"context", group->size()}});
  const Trained plain = train(job, &mesh, group);
  job.set("activation_checkpointing", true);
  const Trained again = train(job, &mesh, group);
  EXPECT_EQ(plain.losses, again.losses);
  EXPECT_EQ(plain.norms, again.norms);
  for (const auto& [name, value] : plain.weights) EXPECT_TRUE(value.equal(again.weights.at(name))) << name;
  return "";
}

namespace {

struct Difference {
  double losses, norms, weights, evaluated;
};

std::vector<Difference> differences(int world, const Value& mesh, const std::vector<Value>& jobs) {
  Value list = Value::list();
  for (const Value& job : jobs) list.as_list().push_back(job);
  const Value argument = Value::map({{"mesh", mesh}, {"jobs", list}});
  const std::string said = run_ranks(world, "train_on_mesh", write_json(argument))[0];
  std::vector<Difference> all;
  if (said.empty()) return all;
  const auto number = [](const Value& one, const char* key) { return one.at(key).as_number(); };
  const Value result = parse_json(said, "result");
  for (const Value& one : result.as_list())
    all.push_back({number(one, "losses"), number(one, "norms"), number(one, "weights"), number(one, "evaluated")});
  EXPECT_EQ(all.size(), jobs.size());
  return all;
}

constexpr double kLoss = 1e-5, kWeight = 5e-6;

// AdamW hides a wrong scale of the gradients; with SGD each weight is compared.
std::vector<Value> gate_jobs(const std::string& layout, const std::string& method) {
  std::vector<Value> jobs;
  for (const Value& job : {full(adamw()), with(full(adamw()), "tied", false), lora(adamw()),
                           with(qlora(adamw()), "dropout", 0.1), full(sgd()), with(lora(sgd()), "dropout", 0.1),
                           qlora(sgd()), with(with(full(sgd()), "window", 9), "dynamic", true)})
    jobs.push_back(with(with(job, "layout", layout.c_str()), "method", method.c_str()));
  return jobs;
}

void expect_gates(int world, const Value& mesh, const std::vector<Value>& jobs) {
  const auto found = differences(world, mesh, jobs);
  for (size_t i = 0; i < found.size(); ++i) {
    SCOPED_TRACE(write_json(jobs[i]));
    EXPECT_LE(found[i].losses, kLoss);
    EXPECT_LE(found[i].evaluated, kLoss);
    if (jobs[i].at("optimizer").at("kind").as_string() != "sgd") continue;
    EXPECT_LE(found[i].norms, kLoss);
    EXPECT_LE(found[i].weights, kWeight);
  }
}

Value mesh(int shard, int context) { return Value::map({{"shard", shard}, {"context", context}}); }

TEST(ContextParallel, two_ranks_train_as_one_process) {
  for (const char* layout : {"padded", "packed"}) expect_gates(2, mesh(1, 2), gate_jobs(layout, "ring"));
}

TEST(ContextParallel, four_ranks_train_packed_documents_as_one_process) {
  expect_gates(4, mesh(1, 4), gate_jobs("packed", "ring"));
}

TEST(ContextParallel, two_by_two_ranks_with_fsdp_train_as_one_process) {
  expect_gates(4, mesh(2, 2), gate_jobs("packed", "ring"));
}

TEST(ContextParallel, ulysses_trains_as_one_process) {
  expect_gates(2, mesh(1, 2), gate_jobs("padded", "ulysses"));
  expect_gates(4, mesh(1, 4), gate_jobs("packed", "ulysses"));
}

TEST(ContextParallel, goes_with_every_policy_of_the_data_parallel_axes) {
  std::vector<Value> jobs;
  for (const int stage : {0, 1, 2})
    for (const Value& job : {full(sgd()), with(lora(adamw()), "dropout", 0.1)})
      jobs.push_back(with(job, "zero_stage", stage));
  expect_gates(2, mesh(1, 2), jobs);
  const Value replicated = Value::map({{"replicate", 2}, {"context", 2}});
  expect_gates(4, replicated, {full(sgd()), qlora(sgd())});
}

TEST(ContextParallel, checkpointing_changes_no_bit) {
  for (const char* method : {"ring", "ulysses"})
    run_ranks(2, "checkpointing_changes_no_bit",
              write_json(with(with(qlora(adamw()), "dropout", 0.1), "method", method)));
}

TEST(ContextParallel, the_gates_fail_on_wrong_labels_documents_and_positions) {
  std::vector<Value> jobs;
  for (const char* bug : {"shift_after_split", "one_document", "positions_of_the_part", "chunks_in_order"})
    for (const Value& job : {full(adamw()), full(sgd())}) jobs.push_back(with(job, "plant", bug));
  const auto found = differences(2, mesh(1, 2), jobs);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_GT(found[i].losses, kLoss) << write_json(jobs[i]);
}

}  // namespace
}  // namespace ft::test
