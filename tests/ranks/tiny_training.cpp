#include "tests/ranks/tiny_training.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "engine/train/micro_batch.h"
#include "engine/train/resume.h"
#include "tests/ranks/tiny_model.h"
#include "tests/ranks/tiny_rows.h"

namespace ft::test {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRows = 4;

// Shared evenly by two and four ranks. NF4's blocks are cut nowhere; its groups are, but in q and gate.
TinySizes sizes_of(const Value& job) {
  if (job.get("quantize", "none") == "nf4")
    return {.vocab = 100, .dim = 128, .heads = 4, .kv_heads = 2, .head_dim = 64, .hidden = {512, 256}};
  return {.vocab = 100, .dim = 48, .heads = 4, .kv_heads = job.get("kv_heads", int64_t{2}), .head_dim = 16};
}

Value description(const Value& job) {
  Value model = tiny_decoder(job.get("tied", true), sizes_of(job));
  if (!job.get("biases", false)) return model;
  for (Value& layer : model.find("layers")->as_list()) {
    const auto block = [&](size_t i) -> Value& {
      return layer.find("blocks")->as_list()[i].find("blocks")->as_list()[1];
    };
    for (const char* key : {"q", "k", "v", "o"}) block(0).find(key)->set("bias", true);
    for (const char* key : {"gate", "up", "down"}) block(1).find(key)->set("bias", true);
  }
  return model;
}

// A row of the batch, of 24 tokens or, where tokens are not to divide among the ranks, the first 23 of them.
Batch row_of(const Value& job, int64_t batch, int64_t row) {
  Batch made = one_row(batch, row);
  if (job.get("length", kLength) == kLength) return made;
  made.length = kLength - 1;
  made.documents[0].back() -= 1;
  made.num_targets -= made.targets[kLength - 2] != -100;
  for (auto* values : {&made.tokens, &made.positions, &made.targets}) values->resize(kLength - 1);
  made.targets.back() = -100;
  return made;
}

}  // namespace

Value plan_of(const Value& job, const Value* mesh) {
  const Value* reshard = job.find("reshard");
  Value parallel =
      Value::map({{"reshard_after_forward", reshard ? *reshard : Value(true)}, {"zero_stage", job.get("stage", 3)}});
  if (mesh) parallel.set("mesh", *mesh);
  if (const Value* pages = job.find("pages")) {  // the directory of paged state
    parallel.set("optimizer_state", "paged");
    parallel.set("page_directory", *pages);
  }
  parallel.set("offload_params", job.get("offload", false));
  parallel.set("cpu_offload_pin_memory", job.get("pin", false));
  Value plan = Value::map({{"model", Value::map({{"description", description(job)},
                                                 {"quantize", job.get("quantize", "none")},
                                                 {"double_quant", job.get("double_quant", true)},
                                                 {"compute", job.get("compute", "fp32")}})},
                           {"activation_offload", job.get("activation_offload", false)},
                           {"parallel", parallel}});
  if (const Value* checkpointing = job.find("activation_checkpointing"))
    plan.set("activation_checkpointing", *checkpointing);
  if (job.get("lora", false)) {
    Value adapter = Value::map({{"r", job.get("r", 4)}, {"alpha", 8}, {"dropout", job.get("dropout", 0.0)}});
    if (job.get("loftq", false)) adapter.set("init_lora_weights", "loftq");
    if (const Value* targets = job.find("targets")) adapter.set("target_modules", *targets);
    plan.set("adapter", adapter);
  }
  return plan;
}

Training::Training(const Value& job, const Value* mesh, const std::shared_ptr<ProcessGroup>& group,
                   const Checkpoint* from)
    : job(job), source(nullptr, /*seed=*/3, from), model(plan_of(job, mesh), source, group) {
  model.load(source, [](int64_t) {});
  {
    const OffloadHome::Stay at_home(model.state_home());
    optimizer = build_optimizer(job.at("optimizer"), optimizer_pieces(model), &model.split_group());
  }
  if (from && job.get("plant", "") != "forget") load_optimizer(*from, model.model(), *optimizer);
  const Value overlap = Value::map({{"optimizer", Value::map({{"overlap", job.get("overlap", "none")}})}});
  updates = std::make_unique<UnitUpdates>(model, *optimizer, overlap_of(overlap, model, *optimizer), [] {});
}

double Training::step(int64_t number) {
  const std::string plant = job.get("plant", "");
  const bool struck = model.mesh().loss_group().size() > 1 && model.mesh().loss_group().rank() == 1;
  double tokens = 0, loss = 0;
  for (int64_t row = 0; row < kRows; ++row) tokens += static_cast<double>(row_of(job, number % 2, row).num_targets);
  for (int64_t row = 0; row < kRows; ++row) {
    if (row % model.mesh().num_data_ranks() != model.mesh().data_rank()) continue;
    Batch part = own_part(row_of(job, number % 2, row), model.context_axis(), 0);
    if (plant == "shift_label" && struck)
      std::rotate(part.targets.begin(), part.targets.begin() + 1, part.targets.end());
    MicroBatch made = micro_batch(part, model.context_axis());
    set_step(made, number, tokens);
    if (plant == "skip_rank") {  // rows of one rank are seen, and not learnt; all ranks take the same steps
      loss += model.schedule().forward(made.tokens, made.context).item<double>();
      if (struck) made.context.loss_scale = 0;
    }
    if (row + model.mesh().num_data_ranks() >= kRows) {
      updates->last_backward();
      if (before_last_backward) before_last_backward();
    }
    const double learnt = model.schedule().train(made.tokens, made.context);
    if (plant != "skip_rank") loss += learnt;
  }
  if (plant != "no_sums" || model.mesh().shape().tensor == 1) model.reduce_gradients();
  if (plant == "halve" && model.group().size() > 1)
    for (auto& shard : model.shards())
      if (shard->grad().defined()) shard->grad().mul_(0.5);
  loss = model.mesh().loss_group().sum(loss);
  EXPECT_EQ(model.mesh().group(Axis::tensor).max(loss), loss) << "the ranks of a tensor group agree to the bit";
  return loss;
}

double Training::norm() { return std::sqrt(model.group().sum(updates->squares()) / model.replicas().size()); }

Trained Training::train(int64_t begin, int64_t end) {
  Trained trained;
  for (int64_t number = begin; number < end; ++number) {
    updates->next_step(job.at("optimizer").at("lr").as_number());
    trained.losses.push_back(step(number));
    trained.norms.push_back(norm());
    if (before_update) before_update();
    updates->update(std::min(1.0, job.get("clip", double{INFINITY}) / trained.norms.back()));
  }
  updates->finish();
  return trained;
}

void Training::save(const fs::path& directory, StateDict kind) {
  save_checkpoint(directory, model, *optimizer,
                  Value::map({{"step", optimizer->steps}, {"optimizer_steps", optimizer->steps}}), kind);
}

Ended ended(Training& training, Trained trained) {
  return {std::move(trained), copied_state(training.model, *training.optimizer)};
}

bool equal(const Ended& a, const Ended& b) {
  return a.trained.losses == b.trained.losses && a.trained.norms == b.trained.norms && same_bits(a.state, b.state);
}

SharedDirectory::SharedDirectory(ProcessGroup& group) : rank(group.rank()) {
  const std::string name = (fs::temp_directory_path() / ("ft-training-" + std::to_string(::getpid()))).string();
  path = group.size() > 1 ? group.broadcast_text(name) : name;
  fs::create_directories(path);
}

SharedDirectory::~SharedDirectory() {
  std::error_code ignored;
  if (rank == 0) fs::remove_all(path, ignored);
}

}  // namespace ft::test
