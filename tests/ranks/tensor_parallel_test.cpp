// Ranks that share matrices train as one process does: heads, key-value heads that ranks share, the vocabulary's rows,
// biases, LoRA with dropout and NF4, with ranks of the shard and context axes beside them. Each gate fails on the bugs
// it is there for. What they write is read by any other layout.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/parallel/tensor_slice.h"
#include "engine/quant/block8.h"
#include "engine/quant/nf4.h"
#include "engine/train/generate.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_training.h"

namespace ft::test {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSteps = 10;

std::vector<float> saved(const Checkpoint& checkpoint, const Checkpoint::Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  checkpoint.read(tensor.name, tensor.kind, 0, tensor.numel(), values.data());
  return values;
}

double distance(const std::vector<float>& found, const std::vector<float>& want) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(static_cast<double>(found.at(i)) - want[i], 2);
    size += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(difference / std::max(size, 1e-30));
}

// Largest relative distance, in norm, of any weight.
double worst_weight(const fs::path& found, const fs::path& want) {
  const Checkpoint a(found), b(want);
  double most = 0;
  for (const Checkpoint::Tensor& tensor : b.tensors()) {
    if (tensor.kind != "master") continue;
    const Checkpoint::Tensor* other = a.find(tensor.name, "master");
    if (!other || other->shape != tensor.shape) return INFINITY;
    const std::vector<float> got = saved(a, *other), expected = saved(b, tensor);
    most = std::max(most, distance(got, expected));
  }
  return a.tensors().size() == b.tensors().size() ? most : INFINITY;
}

// One process's averages, those of 8 bits decoded, by parameter and key.
std::map<std::string, std::vector<float>> averages(Optimizer& optimizer) {
  std::map<std::string, std::vector<float>> all;
  const std::vector<StateTensor> states = optimizer.state();
  for (const StateTensor& state : states) {
    std::vector<float>& values = all[state.name + " " + state.key];
    values.resize(static_cast<size_t>(state.count));
    if (state.value.scalar_type() == at::kFloat) {
      std::copy_n(state.value.const_data_ptr<float>(), state.count, values.data());
      continue;
    }
    const Map8 map = state.key == "exp_avg" ? Map8::with_sign : Map8::without_sign;
    for (const StateTensor& scales : states)
      if (scales.name == state.name && scales.key == state.key + "_scale")
        for (int64_t at = 0; at < state.count; at += kBlock8)
          dequantize_block8(map, state.value.const_data_ptr<uint8_t>() + at,
                            scales.value.const_data_ptr<float>()[at / kBlock8], std::min(kBlock8, state.count - at),
                            values.data() + at);
  }
  return all;
}

}  // namespace

// Trains every job on the mesh and, on rank 0, on one process.
// @param argument JSON: mesh, jobs.   @return of rank 0: for each job the largest relative differences
RANK_BODY(train_on_tensor_mesh) {
  const Value given = parse_json(argument, "argument");
  const SharedDirectory directory(*group);
  Value all = Value::list();
  int number = 0;
  for (const Value& job : given.at("jobs").as_list()) {
    const fs::path place = directory.path / std::to_string(number++);
    Training shared(job, &given.at("mesh"), group);
    const Trained found = shared.train(0, kSteps);
    shared.save(place / "shared" / "checkpoint-10");
    if (group->rank() == 0) {
      Training alone(job, nullptr, ProcessGroup::single());
      const Trained want = alone.train(0, kSteps);
      alone.save(place / "alone" / "checkpoint-10");
      EXPECT_LT(want.losses.back(), want.losses.front());
      EXPECT_EQ(shared.model.counts().all, alone.model.counts().all);
      EXPECT_EQ(shared.model.counts().trainable, alone.model.counts().trainable);
      all.as_list().push_back(Value::map(
          {{"losses", worst(found.losses, want.losses)},
           {"norms", worst(found.norms, want.norms)},
           {"weights", worst_weight(place / "shared" / "checkpoint-10", place / "alone" / "checkpoint-10")}}));
    }
    group->barrier();
  }
  return write_json(all);
}

// Losses and the bytes of what is saved, whatever is run again, kept or split between forward and backward.
RANK_BODY(checkpointed_units_change_no_bit) {
  const Value given = parse_json(argument, "argument");
  Value job = given.at("job");
  const Value mesh = given.at("mesh");
  Training plain(job, &mesh, group);
  const Trained want = plain.train(0, kSteps);
  for (const auto& [key, value] :
       {std::pair{"activation_checkpointing", Value(true)}, {"reshard", Value(false)}, {"stage", Value(2)}}) {
    Value other = job;
    other.set(key, value);
    Training again(other, &mesh, group);
    const Trained found = again.train(0, kSteps);
    EXPECT_EQ(found.losses, want.losses) << key;
    EXPECT_EQ(found.norms, want.norms) << key;
  }
  return "";
}

// Five steps, a checkpoint, five more: on the layout it came from, and on the others.
RANK_BODY(tensor_checkpoints_resume_anywhere) {
  const Value given = parse_json(argument, "argument");
  const Value job = given.at("job");
  const SharedDirectory directory(*group);
  const auto mesh_of = [&](int tensor) { return Value::map({{"tensor", tensor}, {"shard", group->size() / tensor}}); };
  const Value first = mesh_of(static_cast<int>(given.at("tensor").as_integer()));
  Training uninterrupted(job, &first, group);
  uninterrupted.train(0, 5);
  uninterrupted.save(directory.path / "checkpoint-5");
  const Trained want = uninterrupted.train(5, kSteps);
  const Checkpoint from(directory.path / "checkpoint-5");
  for (const Value& size : given.at("onto").as_list()) {
    const Value mesh = mesh_of(static_cast<int>(size.as_integer()));
    Training resumed(job, &mesh, group, &from);
    const Trained found = resumed.train(5, kSteps);
    if (mesh == first) {
      EXPECT_EQ(found.losses, want.losses) << "equal bits on the same layout";
      EXPECT_EQ(found.norms, want.norms);
    }
    EXPECT_LE(worst(found.losses, want.losses), given.at("bound").as_number()) << describe(mesh);
  }
  if (group->rank() == 0) {
    Training alone(job, nullptr, ProcessGroup::single(), &from), never_shared(job, nullptr, ProcessGroup::single());
    never_shared.train(0, 5);
    const auto found = averages(*alone.optimizer), expected = averages(*never_shared.optimizer);
    for (const auto& [name, values] : expected) {
      if (name.ends_with("_scale")) continue;
      EXPECT_LE(distance(found.at(name), values), given.at("averages").as_number()) << name;
    }
    EXPECT_LE(worst(alone.train(5, kSteps).losses, want.losses), given.at("bound").as_number());
  }
  group->barrier();
  return "";
}

// Every weight of a slice is the bits of the whole matrix's, whether its groups are whole or cut.
RANK_BODY(slices_have_the_whole_matrix_s_nf4) {
  const Value given = parse_json(argument, "argument");
  const WeightSource source(nullptr, /*seed=*/3);
  const auto values = [](const Parameter& p) {
    std::vector<float> all(static_cast<size_t>(p.numel()));
    const at::Tensor records = p.value.contiguous();
    nf4::dequantize({records.const_data_ptr<uint8_t>(), p.nested_offset, p.double_quant}, 0, p.numel(), DType::f32,
                    all.data());
    return all;
  };
  ShardedModel whole(plan_of(given.at("job"), nullptr), source, ProcessGroup::single());
  whole.load(source, [](int64_t) {});
  ShardedModel shared(plan_of(given.at("job"), &given.at("mesh")), source, group);
  shared.load(source, [](int64_t) {});
  double waited = 0;
  int64_t cut = 0, kept = 0;
  for (size_t unit = 0; unit < shared.shards().size(); ++unit) {
    for (ShardedModel* model : {&whole, &shared}) {
      model->shards()[unit]->start_gather();
      model->shards()[unit]->finish_gather(waited);
    }
    for (size_t i = 0; i < shared.model().units()[unit].parameters.size(); ++i) {
      const Parameter &slice = *shared.model().units()[unit].parameters[i],
                      &all = *whole.model().units()[unit].parameters[i];
      if (slice.storage != Storage::nf4) continue;
      EXPECT_EQ(slice.nested_offset, all.nested_offset) << slice.name;
      (slice.double_quant ? kept : cut) += 1;
      const std::vector<float> got = values(slice), want = values(all);
      int64_t wrong = 0;
      for_each_run(slice, 0, slice.numel(), [&](const SliceRun& run) {
        for (int64_t e = 0; e < run.count; ++e)
          wrong += got[static_cast<size_t>(run.local + e)] != want[static_cast<size_t>(run.whole + e)];
      });
      EXPECT_EQ(wrong, 0) << slice.name;
    }
    for (ShardedModel* model : {&whole, &shared}) model->shards()[unit]->release();
  }
  return std::to_string(kept) + " " + std::to_string(cut);
}

RANK_BODY(tensor_ranks_decode_as_one_process) {
  const Value job = parse_json(argument, "argument"), mesh = Value::map({{"tensor", group->size()}});
  const std::vector<std::vector<int32_t>> prompts = {{5, 17, 3}, {80, 2, 9, 44, 61}, {1}};
  Training shared(job, &mesh, group), alone(job, nullptr, ProcessGroup::single());
  const GenerateOptions options{.max_new_tokens = 12};
  EXPECT_EQ(generate(shared.model, prompts, options), generate(alone.model, prompts, options));
  return "";
}

namespace {

struct Difference {
  double losses, norms, weights;
};

std::vector<Difference> differences(int world, const Value& mesh, const std::vector<Value>& jobs) {
  Value list = Value::list();
  for (const Value& job : jobs) list.as_list().push_back(job);
  const std::string said =
      run_ranks(world, "train_on_tensor_mesh", write_json(Value::map({{"mesh", mesh}, {"jobs", list}})))[0];
  std::vector<Difference> all;
  if (said.empty()) return all;
  const Value result = parse_json(said, "result");
  for (const Value& one : result.as_list())
    all.push_back({one.at("losses").as_number(), one.at("norms").as_number(), one.at("weights").as_number()});
  EXPECT_EQ(all.size(), jobs.size());
  return all;
}

constexpr double kLoss = 1e-5, kWeight = 5e-6;

Value head_targets() { return Value::list({"q_proj", "k_proj", "o_proj", "down_proj", "lm_head"}); }

// AdamW hides a wrong scale of the gradients; with SGD each weight is compared.
std::vector<Value> gate_jobs() {
  return {full(adamw()),
          with(full(adamw()), "tied", false),
          with(lora(adamw()), "dropout", 0.1),
          with(qlora(adamw()), "dropout", 0.1),
          full(sgd()),
          with(with(full(sgd()), "biases", true), "tied", false),
          with(with(full(sgd()), "kv_heads", 1), "length", 23),
          with(lora(sgd()), "dropout", 0.1),
          with(with(with(lora(sgd()), "targets", head_targets()), "tied", false), "dropout", 0.1),
          qlora(sgd())};
}

std::vector<Value> of_every_kind() {
  return {full(adamw()), lora(adamw()), with(qlora(adamw()), "dropout", 0.1),
          full(sgd()),   qlora(sgd()),  with(lora(sgd()), "dropout", 0.1)};
}

void expect_gates(int world, const Value& mesh, const std::vector<Value>& jobs) {
  const auto found = differences(world, mesh, jobs);
  for (size_t i = 0; i < found.size(); ++i) {
    SCOPED_TRACE(write_json(jobs[i]));
    EXPECT_LE(found[i].losses, kLoss);
    if (jobs[i].at("optimizer").at("kind").as_string() != "sgd") continue;
    EXPECT_LE(found[i].norms, kLoss);
    EXPECT_LE(found[i].weights, kWeight);
  }
}

void expect_no_gate(int world, const Value& mesh, const std::vector<Value>& jobs) {
  const auto found = differences(world, mesh, jobs);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_GT(found[i].losses, kLoss) << write_json(jobs[i]);
    EXPECT_GT(found[i].norms, kLoss) << write_json(jobs[i]);
    EXPECT_GT(found[i].weights, kWeight) << write_json(jobs[i]);
  }
}

Value mesh(int shard, int context, int tensor) {
  return Value::map({{"shard", shard}, {"context", context}, {"tensor", tensor}});
}

TEST(TensorParallel, two_ranks_train_as_one_process) { expect_gates(2, mesh(1, 1, 2), gate_jobs()); }

TEST(TensorParallel, four_ranks_that_share_key_value_heads_train_as_one_process) {
  expect_gates(4, mesh(1, 1, 4), gate_jobs());
}

TEST(TensorParallel, two_by_two_ranks_with_fsdp_train_as_one_process) { expect_gates(4, mesh(2, 1, 2), gate_jobs()); }

TEST(TensorParallel, two_by_two_ranks_with_split_rows_train_as_one_process) {
  expect_gates(4, mesh(1, 2, 2), of_every_kind());
}

TEST(TensorParallel, eight_ranks_of_three_axes_train_as_one_process) {
  expect_gates(8, mesh(2, 2, 2), of_every_kind());
}

TEST(TensorParallel, replicas_beside_it_train_as_one_process) {
  expect_gates(4, Value::map({{"replicate", 2}, {"tensor", 2}}),
               {full(sgd()), with(full(sgd()), "stage", 0), lora(sgd())});
}

TEST(TensorParallel, bf16_stays_within_its_rounding) {
  const auto found = differences(
      2, mesh(1, 1, 2),
      {with(full(adamw()), "compute", "bf16"), with(with(qlora(adamw()), "compute", "bf16"), "dropout", 0.1)});
  for (const Difference& one : found) EXPECT_LE(one.losses, 1e-2);
}

TEST(TensorParallel, checkpointing_and_resharding_change_no_bit) {
  for (const Value& job : {full(adamw()), with(qlora(adamw()), "dropout", 0.1)})
    run_ranks(4, "checkpointed_units_change_no_bit", write_json(Value::map({{"mesh", mesh(2, 1, 2)}, {"job", job}})));
}

TEST(TensorParallel, the_gates_fail_without_the_sums_that_ranks_owe_each_other) {
  std::vector<Value> jobs;
  for (const Value& job : {full(adamw()), full(sgd()), lora(sgd()), qlora(sgd())})
    jobs.push_back(with(job, "plant", "no_sums"));
  expect_no_gate(2, mesh(1, 1, 2), jobs);
}

TEST(TensorParallel, the_gates_fail_on_halved_gradients_skipped_ranks_and_shifted_labels) {
  std::vector<Value> jobs;
  for (const char* bug : {"halve", "skip_rank", "shift_label"}) jobs.push_back(with(full(sgd()), "plant", bug));
  expect_no_gate(2, mesh(1, 2, 1), jobs);
  expect_no_gate(4, mesh(2, 1, 2), jobs);
}

TEST(TensorParallel, slices_of_nf4_are_the_whole_matrix_s) {
  const auto said = [](int world, const Value& shape, const Value& job) {
    return run_ranks(world, "slices_have_the_whole_matrix_s_nf4",
                     write_json(Value::map({{"mesh", shape}, {"job", job}})))[0];
  };
  // Of two layers' seven matrices: q and the first layer's gate and up are slices of whole groups.
  EXPECT_EQ(said(2, mesh(1, 1, 2), qlora(sgd())), "6 8");
  EXPECT_EQ(said(4, mesh(2, 1, 2), qlora(sgd())), "6 8");
  EXPECT_EQ(said(4, mesh(1, 1, 4), qlora(sgd())), "2 12");
  EXPECT_EQ(said(2, mesh(1, 1, 2), with(qlora(sgd()), "double_quant", false)), "0 14");
}

TEST(TensorParallel, averages_of_8_bits_are_cut_anew) {
  const auto resume = [](int tensor, const Value& job, std::vector<int64_t> onto, double bound, double averages) {
    run_ranks(4, "tensor_checkpoints_resume_anywhere",
              write_json(Value::map({{"tensor", tensor},
                                     {"job", job},
                                     {"onto", Value(Value::List(onto.begin(), onto.end()))},
                                     {"bound", bound},
                                     {"averages", averages}})));
  };
  // Columns of 48 and 88 features are cut within blocks of 256.
  resume(2, full(adamw8()), {2, 4, 1}, 1e-3, 5e-2);
  resume(1, full(adamw8()), {1, 4}, 1e-3, 5e-2);
  resume(4, with(qlora(adamw8()), "r", 40), {4, 2}, 1e-3, 5e-2);
}

TEST(TensorParallel, ranks_decode_as_one_process) {
  run_ranks(2, "tensor_ranks_decode_as_one_process", write_json(with(full(sgd()), "tied", false)));
  run_ranks(4, "tensor_ranks_decode_as_one_process", write_json(qlora(sgd())));
}

}  // namespace
}  // namespace ft::test
