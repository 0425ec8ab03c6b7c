// Frozen weights in a file map train to the bit as gathered ones do, whoever shares the file; and the file is made
// once, found again without reading its source, and never believed when its source or it itself is another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/safetensors.h"
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

namespace fs = std::filesystem;
using testing::HasSubstr;
using Outcome = WeightCacheReport::Outcome;

constexpr int64_t kRows = 8, kSteps = 3;

Value plan_of(const Value& job, const fs::path& cache) {
  Value parallel = Value::map({{"reshard_after_forward", job.get("reshard", true)},
                               {"prefetch", job.get("prefetch", true)},
                               {"zero_stage", job.get("zero_stage", 3)},
                               {"offload_params", job.get("offload", false)},
                               {"cpu_offload_pin_memory", false}});
  if (!cache.empty()) {
    parallel.set("frozen_weights", "mmap");
    parallel.set("weight_cache", cache.string());
  }
  return Value::map({{"model", Value::map({{"description", tiny_decoder(job.get("tied", false))},
                                           {"quantize", job.get("quantize", "none")},
                                           {"double_quant", job.get("double_quant", true)},
                                           {"compute", "fp32"}})},
                     {"adapter", Value::map({{"r", 4}, {"alpha", 8}, {"dropout", 0.1}})},
                     {"activation_checkpointing", job.get("checkpointing", false)},
                     {"parallel", std::move(parallel)}});
}

struct Trained {
  std::vector<double> losses{};
  std::vector<at::Tensor> state{};  // masters and optimizer state
  std::optional<WeightCacheReport> cache;
  ShardBytes bytes;
};

Trained train(const std::shared_ptr<ProcessGroup>& group, const Value& job, const WeightSource& source,
              const fs::path& cache) {
  ShardedModel model(plan_of(job, cache), source, group);
  model.load(source, [](int64_t) {});
  const Value adamw = Value::map({{"kind", "adamw"}, {"lr", 1e-3}, {"bits", 8}});
  auto optimizer = build_optimizer(adamw, optimizer_pieces(model), &model.split_group());
  Trained trained{.cache = model.weight_cache(), .bytes = model.bytes()};
  for (int64_t step = 0; step < kSteps; ++step) {
    double tokens = 0, loss = 0;
    for (int64_t row = 0; row < kRows; ++row) tokens += static_cast<double>(one_row(step % 2, row).num_targets);
    for (int64_t row = group->rank(); row < kRows; row += group->size()) {
      const Batch batch = one_row(step % 2, row);
      MicroBatch made = micro_batch(batch);
      set_step(made, step, tokens);
      loss += model.schedule().train(made.tokens, made.context);
    }
    model.reduce_gradients();
    for (auto& shard : model.shards()) shard->grad();
    trained.losses.push_back(group->sum(loss));
    optimizer->step(1e-3);
    model.masters_changed();
    model.zero_gradients();
  }
  trained.state = copied_state(model, *optimizer);
  return trained;
}

bool equal(const Trained& a, const Trained& b) { return a.losses == b.losses && same_bits(a.state, b.state); }

Value qlora() { return Value::map({{"quantize", "nf4"}}); }

}  // namespace

// @param argument JSON: [folder, jobs]. Trains each from gathered weights, from a map that is made, and from the same.
RANK_BODY(train_from_a_map) {
  const Value given = parse_json(argument, "argument");
  const fs::path cache = given.as_list()[0].as_string();
  const WeightSource source(nullptr, /*seed=*/3);
  std::string said;
  for (const Value& job : given.as_list()[1].as_list()) {
    const Trained split = train(group, job, source, {});
    EXPECT_LT(split.losses[2], split.losses[0]);
    EXPECT_FALSE(split.cache);
    const Trained made = train(group, job, source, cache), again = train(group, job, source, cache);
    EXPECT_EQ(group->sum(made.cache->outcome == Outcome::made ? 1 : 0), 1);  // the others find it
    EXPECT_EQ(again.cache->outcome, Outcome::reused);
    EXPECT_EQ(made.bytes.nf4 + made.bytes.frozen, 0);
    EXPECT_GE(made.bytes.mapped, split.bytes.nf4 + split.bytes.frozen);
    const bool same = equal(split, made) && equal(split, again);
    said += group->max(same ? 0 : 1) == 0 ? "equal " : "unequal ";
    group->barrier();
    if (group->rank() == 0) fs::remove_all(cache);
    group->barrier();
  }
  return said;
}

// @param argument the folder. Each rank is a run of its own; all begin at once.
RANK_BODY(start_runs_at_once) {
  const WeightSource source(nullptr, 3);
  group->barrier();
  const Trained mine = train(ProcessGroup::single(), qlora(), source, argument);
  EXPECT_EQ(group->sum(mine.cache->outcome == Outcome::made ? 1 : 0), 1);
  EXPECT_EQ(mine.cache->outcome == Outcome::made, mine.cache->text().starts_with("made "));
  return write_json(Value(mine.losses.back()));
}

namespace {

class Mmap : public testing::TestWithParam<int> {
 protected:
  std::string train_all(std::initializer_list<Value> jobs) {
    const TemporaryDirectory folder;
    const Value argument = Value::list({(folder / "cache").string(), Value::list(jobs)});
    return run_ranks(GetParam(), "train_from_a_map", write_json(argument))[0];
  }
};

TEST_P(Mmap, changes_no_bit) {
  EXPECT_EQ(train_all({Value::map({}), qlora(), with(qlora(), "reshard", false), with(qlora(), "double_quant", false)}),
            "equal equal equal equal ");
}

TEST_P(Mmap, changes_no_bit_under_other_policies_and_beside_other_modes) {
  EXPECT_EQ(
      train_all({with(qlora(), "zero_stage", 0), with(qlora(), "zero_stage", 2), with(qlora(), "offload", true),
                 with(with(qlora(), "checkpointing", true), "prefetch", false), with(Value::map({}), "tied", true)}),
      "equal equal equal equal equal ");
}

INSTANTIATE_TEST_SUITE_P(Ranks, Mmap, testing::Values(1, 2, 4));

TEST(WeightCache, is_made_by_one_of_the_runs_that_start_at_once) {
  const TemporaryDirectory folder;
  const auto losses = run_ranks(4, "start_runs_at_once", (folder / "cache").string());
  for (const std::string& loss : losses) EXPECT_EQ(loss, losses[0]);
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder / "cache")) files += entry.path().extension() != ".lock";
  EXPECT_EQ(files, 1);  // and no temporary one
}

// A model directory of the tiny decoder, drawn from a seed.
void write_model(const fs::path& path, uint64_t seed) {
  fs::create_directories(path);
  const WeightSource drawn(nullptr, seed);
  Value plan = plan_of(Value::map({}), {});
  ShardedModel model(plan, drawn, ProcessGroup::single());
  std::vector<TensorEntry> entries;
  std::vector<const Parameter*> parameters;
  for (const Parameter* p : model.model().parameters()) {
    if (p->storage == Storage::trainable) continue;
    entries.push_back({.name = p->name, .dtype = DType::f32, .shape = p->shape});
    parameters.push_back(p);
  }
  SafetensorsWriter writer(path / "model.safetensors", entries);
  for (const Parameter* p : parameters) {
    std::vector<float> values(static_cast<size_t>(p->numel()));
    drawn.read_fp32(*p, 0, p->numel(), values.data());
    writer.append(std::as_bytes(std::span(values)));
  }
  writer.finish();
  write_text(path / "config.json", R"({"model_type": "tiny"})");
}

// Bytes that this process has asked the system for so far; pages of maps do not count.
int64_t bytes_asked_for() {
  std::ifstream io("/proc/self/io");
  std::string key;
  int64_t bytes = 0;
  io >> key >> bytes;
  EXPECT_EQ(key, "rchar:");
  return bytes;
}

struct CachedModel : testing::Test {
  TemporaryDirectory folder;
  fs::path model = folder / "model", cache = folder / "cache";
  int64_t asked = 0;

  void SetUp() override { write_model(model, 3); }
  Trained run() {
    const int64_t before = bytes_asked_for();
    const ModelDirectory directory(model);
    const WeightSource source(&directory, 3);
    Trained trained = train(ProcessGroup::single(), qlora(), source, cache);
    asked = bytes_asked_for() - before;
    return trained;
  }
  fs::path file() {
    for (const auto& entry : fs::directory_iterator(cache))
      if (entry.path().extension() == ".weights") return entry.path();
    return {};
  }
  // Changes one byte in place.
  static void flip(const fs::path& path, std::streamoff at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 1));
  }
};

TEST_F(CachedModel, is_found_again_by_the_headers_of_its_source_alone) {
  const Trained first = run();
  const auto size = static_cast<int64_t>(fs::file_size(model / "model.safetensors"));
  EXPECT_EQ(first.cache->outcome, Outcome::made);
  EXPECT_GT(asked, 2 * size);  // once to quantize it, once to hash it
  const Trained second = run();
  EXPECT_EQ(second.cache->outcome, Outcome::reused);
  EXPECT_LT(asked, 16 << 10);
  EXPECT_GT(size, 10 * asked);
  EXPECT_TRUE(equal(first, second));
}

TEST_F(CachedModel, is_made_anew_when_its_source_changes_and_kept_when_that_is_only_touched) {
  const Trained first = run();
  fs::copy_file(model / "model.safetensors", folder / "copy");
  fs::rename(folder / "copy", model / "model.safetensors");  // another inode, another time
  const Trained copied = run();
  EXPECT_EQ(copied.cache->outcome, Outcome::renewed);
  EXPECT_TRUE(equal(first, copied));
  EXPECT_EQ(run().cache->outcome, Outcome::reused);

  write_model(model, 4);  // the same header
  const Trained changed = run();
  EXPECT_EQ(changed.cache->outcome, Outcome::made);
  EXPECT_THAT(changed.cache->text(), HasSubstr(": its source has changed"));
  EXPECT_FALSE(equal(first, changed));
}

TEST_F(CachedModel, is_made_anew_when_it_was_cut_short) {
  const Trained first = run();
  for (const uintmax_t left : {fs::file_size(file()) - 1, uintmax_t{4096}, uintmax_t{7}, uintmax_t{0}}) {
    fs::resize_file(file(), left);
    const Trained again = run();
    EXPECT_EQ(again.cache->outcome, Outcome::made);
    EXPECT_THAT(again.cache->text(), HasSubstr("cut short or damaged"));
    EXPECT_TRUE(equal(first, again));
  }
  flip(file(), static_cast<std::streamoff>(fs::file_size(file())) - 40);  // in the index
  EXPECT_EQ(run().cache->outcome, Outcome::made);
}

TEST_F(CachedModel, is_refused_at_its_first_use_when_a_byte_of_it_is_another) {
  const Trained first = run();
  flip(file(), 4096 + 100);
  try {
    run();
    ADD_FAILURE() << "trained on a damaged cache";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::format);
    EXPECT_THAT(e.what(), HasSubstr("the weight cache is damaged"));
    EXPECT_THAT(e.what(), HasSubstr("start again"));
  }
  EXPECT_TRUE(equal(first, run()));
}

TEST_F(CachedModel, clears_away_what_a_killed_run_left) {
  fs::create_directories(cache);
  const Trained first = run();
  const fs::path left = file().string() + ".tmp-1";
  write_text(left, "half");
  fs::remove(file());
  EXPECT_TRUE(equal(first, run()));
  EXPECT_FALSE(fs::exists(left));
}

}  // namespace
}  // namespace ft::test
