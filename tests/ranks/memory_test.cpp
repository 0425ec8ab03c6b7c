// What a rank holds of parameters, gradients and optimizer state falls with the ranks as the table of layouts says.
#include "engine/device/memory.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <cstdlib>

#include "engine/formats/json.h"
#include "engine/optim/optimizer.h"
#include "engine/train/micro_batch.h"
#include "engine/train/save.h"
#include "engine/train/sharded_model.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_model.h"
#include "tests/ranks/tiny_rows.h"

namespace ft::test {
namespace {

int64_t anonymous_bytes() {
  ::malloc_trim(0);
  return read_host_memory().anonymous;
}

// Anonymous bytes that a model and its AdamW take on this rank after an update, and its parameters.
std::pair<int64_t, int64_t> state_of(const std::shared_ptr<ProcessGroup>& group, const Value& parallel,
                                     const TinySizes& sizes) {
  const Value plan =
      Value::map({{"model", Value::map({{"description", tiny_decoder(true, sizes)}, {"compute", "fp32"}})},
                  {"parallel", parallel}});
  const WeightSource source(nullptr, /*seed=*/3);
  const int64_t before = anonymous_bytes();
  ShardedModel model(plan, source, group);
  model.load(source, [](int64_t) {});
  const Value optimizer = Value::map({{"kind", "adamw"}, {"lr", 1e-3}});
  auto adamw = build_optimizer(optimizer, optimizer_pieces(model), &model.split_group());
  MicroBatch made = micro_batch(one_row(0, 0));
  made.context.loss_scale = 1;
  model.schedule().train(made.tokens, made.context);
  model.reduce_gradients();
  adamw->step(1e-3);
  model.masters_changed();
  const int64_t gathered = model.bytes().pool;  // of two units or three, whatever the number of ranks
  return {anonymous_bytes() - before - gathered, model.counts().all};
}

TinySizes of_layers(size_t layers) {
  return {.vocab = 128,
          .dim = 384,
          .heads = 6,
          .kv_heads = 6,
          .head_dim = 64,
          .hidden = std::vector<int64_t>(layers, 1152)};
}

// Qwen3 0.6B's shape.
TinySizes medium() {
  return {.vocab = 151936,
          .dim = 1024,
          .heads = 16,
          .kv_heads = 8,
          .head_dim = 128,
          .hidden = std::vector<int64_t>(28, 3072)};
}

}  // namespace

// Bytes that a rank holds for each parameter more: what does not grow with the model is left out.
// @param argument the plan's `parallel` block.
RANK_BODY(measure_state) {
  const Value parallel = parse_json(argument, "parallel");
  state_of(group, parallel, of_layers(4));  // what is taken once
  const auto [few_bytes, few] = state_of(group, parallel, of_layers(8));
  const auto [many_bytes, many] = state_of(group, parallel, of_layers(20));
  return std::to_string(static_cast<double>(many_bytes - few_bytes) / static_cast<double>(many - few));
}

// Bytes that a rank holds for each parameter of a model of 0.6 billion.
RANK_BODY(measure_medium) {
  const auto [bytes, parameters] = state_of(group, parse_json(argument, "parallel"), medium());
  return std::to_string(static_cast<double>(bytes) / static_cast<double>(parameters));
}

namespace {

Value zero(int stage) { return Value::map({{"zero_stage", stage}}); }

// The most that a rank told.
double most_bytes(int ranks, const char* body, const Value& parallel) {
  double most = 0;
  for (const std::string& said :
       run_ranks(ranks, body, {.argument = write_json(parallel), .limit = std::chrono::seconds(600)}))
    most = std::max(most, said.empty() ? INFINITY : std::stod(said));
  return most;
}

// Masters, gradients and AdamW's two averages, in fp32; parameters too, where they do not stand beside their masters.
TEST(StateMemory, falls_as_the_table_says) {
  const auto bytes = [](int ranks, const Value& parallel) { return most_bytes(ranks, "measure_state", parallel); };
  for (const int ranks : {1, 2, 4}) {
    const double whole = 4 * (1 - 1.0 / ranks);  // of the parameters that other ranks own
    EXPECT_NEAR(bytes(ranks, zero(3)), 16.0 / ranks, 1.6 / ranks) << "zero3 on " << ranks;
    if (ranks == 1) continue;
    EXPECT_NEAR(bytes(ranks, zero(2)), 16.0 / ranks + whole, 0.1 * (16.0 / ranks + whole)) << "zero2 on " << ranks;
  }
  EXPECT_NEAR(bytes(2, zero(1)), 16.0 / 2 + 2, 1) << "zero1: its whole gradients are gone after the update";
  EXPECT_NEAR(bytes(2, zero(0)), 16, 1.6) << "ddp";
  const Value hsdp = Value::map({{"mesh", Value::map({{"replicate", 2}, {"shard", 2}})}});
  EXPECT_NEAR(bytes(4, hsdp), 16.0 / 2, 0.8) << "hsdp";
}

// Minutes, and 10 GB: where FTENGINE_SLOW_TESTS asks for it.
TEST(StateMemory, of_a_medium_model_falls_as_the_table_says) {
  if (!std::getenv("FTENGINE_SLOW_TESTS")) GTEST_SKIP() << "FTENGINE_SLOW_TESTS is not set";
  for (const int ranks : {1, 2, 4}) {
    const double whole = 4 * (1 - 1.0 / ranks), zero3 = most_bytes(ranks, "measure_medium", zero(3));
    std::printf("zero3 on %d: %.2f bytes a parameter, the table says %.2f\n", ranks, zero3, 16.0 / ranks);
    EXPECT_NEAR(zero3, 16.0 / ranks, 1.6 / ranks) << "zero3 on " << ranks;
    if (ranks == 1) continue;
    const double zero2 = most_bytes(ranks, "measure_medium", zero(2)), want = 16.0 / ranks + whole;
    std::printf("zero2 on %d: %.2f bytes a parameter, the table says %.2f\n", ranks, zero2, want);
    EXPECT_NEAR(zero2, want, 0.1 * want) << "zero2 on " << ranks;
  }
}

}  // namespace
}  // namespace ft::test
