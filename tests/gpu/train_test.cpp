// Training on the GPU against the same on the CPU: the step schedule over shard units, optimizers, offload,
// checkpoints, answers; on two GPUs over NCCL where there are two.
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "engine/device/gpu_nodes.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/json.h"
#include "engine/optim/optimizer.h"
#include "engine/train/generate.h"
#include "engine/train/gradient_norm.h"
#include "engine/train/micro_batch.h"
#include "engine/train/resume.h"
#include "engine/train/save.h"
#include "engine/train/sharded_model.h"
#include "tests/gpu/gpu.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_model.h"
#include "tests/ranks/tiny_rows.h"

namespace ft::testing {
namespace {

using GpuTraining = Gpu;

constexpr int64_t kRows = 4, kSteps = 10;
constexpr double kLr = 1e-3;

Value plan_of(const Value& job) {
  Value plan = Value::map({{"model", Value::map({{"description", test::tiny_decoder(job.get("tied", false))},
                                                 {"quantize", job.get("qlora", false) ? "nf4" : "none"},
                                                 {"compute", job.get("compute", "fp32")}})},
                           {"activation_checkpointing", job.get("activation_checkpointing", false)},
                           {"parallel", Value::map({{"device", job.at("device")},
                                                    {"prefetch", job.get("prefetch", true)},
                                                    {"offload_params", job.get("offload", false)},
                                                    {"cpu_offload_pin_memory", job.get("pin", false)}})}});
  if (job.get("qlora", false)) plan.set("adapter", Value::map({{"r", 4}, {"alpha", 8}, {"dropout", 0.1}}));
  return plan;
}

Value adamw(int64_t bits = 32) {
  return Value::map({{"kind", "adamw"}, {"lr", kLr}, {"weight_decay", 0.0}, {"bits", bits}});
}

struct Trained {
  std::unique_ptr<ShardedModel> model;
  std::unique_ptr<Optimizer> optimizer;
  std::vector<double> figures;  // of each step: its loss, its gradients' norm
};

Trained train(const Value& job, const std::shared_ptr<ProcessGroup>& group) {
  const WeightSource source(nullptr, /*seed=*/3);
  Trained trained;
  trained.model = std::make_unique<ShardedModel>(plan_of(job), source, group);
  ShardedModel& model = *trained.model;
  model.load(source, [](int64_t) {});
  trained.optimizer = build_optimizer(job.at("optimizer"), optimizer_pieces(model), &model.split_group());
  for (int64_t step = 0; step < kSteps; ++step) {
    double loss = 0, squares = 0;
    for (int64_t row = group->rank(); row < kRows; row += group->size()) {
      MicroBatch made = micro_batch(test::one_row(step % 2, row), {}, model.device()->where());
      made.context.training = true;
      made.context.seed = 5;
      made.context.step = step;
      made.context.loss_scale = 1.0 / (kRows * test::kLength);
      loss += model.schedule().train(made.tokens, made.context);
    }
    model.reduce_gradients();
    for (auto& shard : model.shards())
      if (const at::Tensor grad = shard->grad(); grad.defined()) squares += sum_of_squares(grad);
    trained.figures.push_back(group->sum(loss));
    trained.figures.push_back(std::sqrt(group->sum(squares)));
    trained.optimizer->step(kLr);
    model.masters_changed();
    model.zero_gradients();
  }
  return trained;
}

Trained train(const char* device, Value job) {
  job.set("device", device);
  return train(job, ProcessGroup::single());
}

/// Masters and optimizer state, on the host.
Tensors state_of(Trained& trained) {
  Tensors all;
  for (const SavedPiece& saved : saved_pieces(*trained.model, trained.optimizer.get()))
    all.push_back(saved.value.cpu());
  return all;
}

void expect_equal(const Tensors& got, const Tensors& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(got[i].equal(want[i])) << "piece " << i;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i] / want[i], 1, tolerance) << "figure " << i;
}

Value full() { return Value::map({{"optimizer", adamw()}}); }
Value qlora() { return Value::map({{"optimizer", adamw()}, {"qlora", true}}); }
Value with(Value job, const char* key, Value value) {
  job.set(key, std::move(value));
  return job;
}

TEST_F(GpuTraining, FollowsTheCpu) {
  EXPECT_EQ(train("cuda", full()).model->device()->where(), at::Device(at::kCUDA, 0));
  for (const bool tied : {true, false})
    expect_near(train("cuda", with(full(), "tied", tied)).figures, train("cpu", with(full(), "tied", tied)).figures,
                2e-5);
  expect_near(train("cuda", qlora()).figures, train("cpu", qlora()).figures, 1e-4);
}

TEST_F(GpuTraining, FollowsTheCpuInBf16) {
  const Value job = with(with(qlora(), "optimizer", adamw(8)), "compute", "bf16");
  expect_near(train("cuda", job).figures, train("cpu", job).figures, 5e-2);
}

TEST_F(GpuTraining, WithEveryOptimizer) {
  for (const char* kind : {"sgd", "lion", "adafactor", "muon"}) {
    SCOPED_TRACE(kind);
    const Value job = with(full(), "optimizer", Value::map({{"kind", kind}, {"lr", kLr}}));
    expect_near(train("cuda", job).figures, train("cpu", job).figures, 1e-3);
  }
}

TEST_F(GpuTraining, GivesTheSameBitsHoweverItsWorkIsQueued) {
  const Value job = with(with(qlora(), "optimizer", adamw(8)), "compute", "bf16");
  Trained want = train("cuda", job);
  for (const Value& other : {job, with(job, "activation_checkpointing", true), with(job, "prefetch", false)}) {
    Trained got = train("cuda", other);
    EXPECT_EQ(got.figures, want.figures);
    expect_equal(state_of(got), state_of(want));
  }
}

// The optimizer is the CPU's then, whose 32-bit AdamW rounds in its own way.
TEST_F(GpuTraining, OffloadsWhatItOwns) {
  const std::vector<double> want = train("cuda", full()).figures;
  for (const bool pin : {true, false}) {
    Trained got = train("cuda", with(with(full(), "offload", true), "pin", pin));
    expect_near(got.figures, want, 2e-5);
    EXPECT_TRUE(got.model->shards()[0]->trainable()->owned.is_cpu());
    EXPECT_TRUE(!pin || got.model->home()->bytes().refused == 0);
  }
}

TEST_F(GpuTraining, SavesAndGoesOn) {
  Value job = with(with(qlora(), "optimizer", adamw(8)), "device", "cuda");
  Trained trained = train("cuda", job);
  const auto directory =
      std::filesystem::temp_directory_path() / ("ft-gpu-" + std::to_string(::getpid())) / "checkpoint-10";
  std::filesystem::create_directories(directory.parent_path());
  const Value header = Value::map({{"step", kSteps}, {"optimizer_steps", trained.optimizer->steps}});
  save_checkpoint(directory, *trained.model, *trained.optimizer, header);
  const Checkpoint checkpoint(directory);
  const WeightSource source(nullptr, /*seed=*/3, &checkpoint);
  Trained again;
  again.model = std::make_unique<ShardedModel>(plan_of(job), source, ProcessGroup::single());
  again.model->load(source, [](int64_t) {});
  again.optimizer = build_optimizer(job.at("optimizer"), optimizer_pieces(*again.model), nullptr);
  load_optimizer(checkpoint, again.model->model(), *again.optimizer);
  expect_equal(state_of(again), state_of(trained));
  for (size_t i = 0; i < trained.model->shards().size(); ++i)  // quantized on the host, kept on the GPU
    for (size_t r = 0; r < trained.model->shards()[i]->ranges().size(); ++r)
      EXPECT_TRUE(again.model->shards()[i]->ranges()[r].owned.equal(trained.model->shards()[i]->ranges()[r].owned));
  std::filesystem::remove_all(directory.parent_path());
}

TEST_F(GpuTraining, AnswersAsTheCpu) {
  const std::vector<std::vector<int32_t>> prompts{{5, 17, 40}, {3}, {60, 61, 62, 63, 64}};
  const GenerateOptions options{.max_new_tokens = 12};
  Trained cpu = train("cpu", full()), gpu = train("cuda", full());
  EXPECT_EQ(generate(*gpu.model, prompts, options), generate(*cpu.model, prompts, options));
}

TEST_F(GpuTraining, KnowsItsMemory) {
  Trained trained = train("cuda", full());
  const DeviceMemory memory = trained.model->device()->memory();
  EXPECT_GE(memory.held, trained.model->bytes().master);
  EXPECT_GE(memory.peak, memory.held);
  EXPECT_GT(memory.free, 0);
  EXPECT_GT(memory.total, memory.free);
}

}  // namespace

RANK_BODY(train_on_gpus) {
  const Trained trained = train(parse_json(argument, "job"), group);
  EXPECT_EQ(trained.model->device()->where().index(), group->rank());
  Value figures = Value::list();
  for (const double figure : trained.figures) figures.as_list().emplace_back(figure);
  return write_json(figures);
}

namespace {

TEST_F(GpuTraining, OnTwoGpusAsOnOne) {
  if (visible_gpus() < 2) GTEST_SKIP() << "one GPU";
  for (const Value& job : {full(), qlora(), with(full(), "optimizer", Value::map({{"kind", "muon"}, {"lr", kLr}}))}) {
    const auto said = test::run_ranks(2, "train_on_gpus", write_json(with(job, "device", "cuda")));
    std::vector<double> figures;
    for (const Value& figure : parse_json(said[0], "figures").as_list()) figures.push_back(figure.as_number());
    expect_near(figures, train("cuda", job).figures, 1e-4);
  }
}

}  // namespace
}  // namespace ft::testing
