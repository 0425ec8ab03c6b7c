// A PEFT adapter as the starting point of a run, and what a run says to one that does not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/formats/safetensors.h"
#include "engine/tensor/counter_random.h"
#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSeed = 20261121;
constexpr int kR = 4;

constexpr int64_t kRows = 4, kLength = 48;

const Json& config() {
  static const Json made = {{"architectures", {"Qwen3ForCausalLM"}},
                            {"model_type", "qwen3"},
                            {"hidden_size", 128},
                            {"intermediate_size", 192},
                            {"num_hidden_layers", 2},
                            {"num_attention_heads", 4},
                            {"num_key_value_heads", 2},
                            {"head_dim", 32},
                            {"vocab_size", 131},
                            {"rms_norm_eps", 1e-6},
                            {"rope_theta", 10000.0},
                            {"tie_word_embeddings", false}};
  return made;
}

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  double scale, centre = 0;
};

/// Values in [centre - scale, centre + scale] by (seed, name, index), the name without what PEFT puts before it.
void write_tensors(const fs::path& file, const std::vector<Tensor>& tensors, const std::string& prefix = "") {
  std::vector<TensorEntry> entries;
  for (const Tensor& tensor : tensors)
    entries.push_back({.name = prefix + tensor.name, .dtype = DType::f32, .shape = tensor.shape});
  SafetensorsWriter writer(file, entries);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const CounterRandom random(kSeed, tensors[i].name);
    std::vector<float> values(static_cast<size_t>(entries[i].numel()));
    for (size_t k = 0; k < values.size(); ++k)
      values[k] = static_cast<float>(tensors[i].centre + tensors[i].scale * (2 * random.uniform(k) - 1));
    writer.append(std::as_bytes(std::span(values)));
  }
  writer.finish();
}

/// The linears of a layer: name, out, in.
struct Linear {
  std::string name;
  int64_t out, in;
};
std::vector<Linear> linears(int layer) {
  const Json& c = config();
  const int64_t dim = c.at("hidden_size"), hidden = c.at("intermediate_size"), head = c.at("head_dim");
  const int64_t q = head * c.at("num_attention_heads").get<int64_t>(),
                kv = head * c.at("num_key_value_heads").get<int64_t>();
  const std::string at = "model.layers." + std::to_string(layer) + ".";
  return {{at + "self_attn.q_proj", q, dim},  {at + "self_attn.k_proj", kv, dim},  {at + "self_attn.v_proj", kv, dim},
          {at + "self_attn.o_proj", dim, q},  {at + "mlp.gate_proj", hidden, dim}, {at + "mlp.up_proj", hidden, dim},
          {at + "mlp.down_proj", dim, hidden}};
}

int layers() { return config().at("num_hidden_layers"); }

void write_model(const fs::path& folder) {
  const Json& c = config();
  const int64_t dim = c.at("hidden_size"), vocab = c.at("vocab_size"), head = c.at("head_dim");
  std::vector<Tensor> all{{"model.embed_tokens.weight", {vocab, dim}, 0.15},
                          {"model.norm.weight", {dim}, 0.3, 1},
                          {"lm_head.weight", {vocab, dim}, 0.15}};
  for (int i = 0; i < layers(); ++i) {
    for (const Linear& l : linears(i)) all.push_back({l.name + ".weight", {l.out, l.in}, 0.15});
    const std::string at = "model.layers." + std::to_string(i) + ".";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      all.push_back({at + norm + ".weight", {dim}, 0.3, 1});
    for (const char* norm : {"self_attn.q_norm", "self_attn.k_norm"})
      all.push_back({at + norm + ".weight", {head}, 0.3, 1});
  }
  fs::create_directories(folder);
  spill(folder / "config.json", c.dump());
  write_tensors(folder / "model.safetensors", all);
}

void write_adapter(const fs::path& folder) {
  std::vector<Tensor> all;
  for (int i = 0; i < layers(); ++i)
    for (const Linear& l : linears(i)) {
      all.push_back({l.name + ".lora_A.weight", {kR, l.in}, 0.1});
      all.push_back({l.name + ".lora_B.weight", {l.out, kR}, 0.1});
    }
  fs::create_directories(folder);
  spill(folder / "adapter_config.json",
        Json{{"peft_type", "LORA"},
             {"r", kR},
             {"lora_alpha", 8},
             {"lora_dropout", 0.0},
             {"bias", "none"},
             {"target_modules", {"down_proj", "q_proj", "up_proj", "o_proj", "v_proj", "k_proj", "gate_proj"}}}
            .dump());
  write_tensors(folder / "adapter_model.safetensors", all, "base_model.model.");
}

void write_rows(const fs::path& file) {
  const CounterRandom random(kSeed, "steps");
  std::string text;
  for (int64_t row = 0; row < kRows; ++row) {
    Json ids = Json::array();
    for (int64_t t = 0; t < kLength; ++t)
      ids.push_back(random.bits(static_cast<uint64_t>(row * kLength + t)) % config().at("vocab_size").get<uint64_t>());
    text += Json{{"input_ids", ids}}.dump() + "\n";
  }
  spill(file, text);
}

constexpr const char* kRecipe = R"(
local ft = require "ft"
local opt = ft.options {
  qlora = { "boolean", default = false }, from = { "string", default = "adapter" }, r = { "integer" },
  micro = { "integer", default = 2 }, steps = { "integer", default = 20 }, out = { "output", default = "run" },
  parallel = { "profile", default = "fsdp2" },
}
local plan = ft.plan {
  model     = ft.hf { "model", quantize = opt.qlora and "nf4" or "none", compute = "fp32" },
  adapter   = opt.qlora and ft.lora { from = opt.from, r = opt.r } or nil,
  data      = { train = ft.tokenized { "rows.jsonl", seq_len = 48, shuffle = false } },
  parallel  = opt.parallel,
  optimizer = ft.adamw { lr = 1e-3, weight_decay = 0, schedule = ft.constant { warmup = 0 } },
  batch     = { total = 2, micro = opt.micro },
  max_steps = opt.steps,
  save      = { dir = opt.out },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm, lr = run.lr }
end
run:finish()
)";

class Start : public testing::Test {
 protected:
  void SetUp() override {
    write_model(folder_ / "model");
    write_adapter(folder_ / "adapter");
    write_rows(folder_ / "rows.jsonl");
    spill(folder_ / "steps.lua", kRecipe);
  }
  Finished ft(std::vector<std::string> words) { return run(words, folder_.path()); }
  Finished start(std::vector<std::string> more) {
    more.insert(more.begin(), {"run", "steps.lua"});
    return ft(more);
  }

  /// `adapter` as it is but for one key of its configuration: exit code 1, and `what` in the message.
  void expect_refused(const char* key, const Json& value, const std::string& what) {
    edit_json(folder_ / "adapter/adapter_config.json", [&](Json& config) { config[key] = value; });
    const Finished done = start({"--qlora", "--nproc=1"});
    EXPECT_EQ(done.exit_code, 1);
    EXPECT_THAT(done.err, HasSubstr(what));
    EXPECT_FALSE(fs::exists(folder_ / "run"));
    write_adapter(folder_ / "adapter");
  }

  TemporaryDirectory folder_;
};

// An adapter that the engine wrote leads on from where its run ended.
TEST_F(Start, GoesOnFromAnAdapterOfItsOwn) {
  ASSERT_EQ(start({"--qlora", "--nproc=2", "--micro=1", "--steps=4", "--out=first"}).exit_code, 0);
  const Finished merged = ft({"merge", "first", "--adapter-only", "-o", "written"});
  ASSERT_EQ(merged.exit_code, 0) << merged.err;
  // Step 5 of an uninterrupted run sees the same rows, and the weights that step 4 left.
  ASSERT_EQ(start({"--qlora", "--nproc=1", "--steps=5", "--out=whole"}).exit_code, 0);
  const Finished next = start({"--qlora", "--nproc=1", "--steps=1", "--from=written", "--out=next"});
  ASSERT_EQ(next.exit_code, 0) << next.err;
  const double want = metrics(folder_ / "whole").back().at("loss"), got = metrics(folder_ / "next").at(0).at("loss");
  EXPECT_NEAR(got, want, 1e-5 * want);
}

TEST_F(Start, RefusesWhatTheAdapterAsksForAndTheEngineDoesNot) {
  expect_refused("peft_type", "IA3", "adapter_config.json");
  expect_refused("use_qalora", true, "use_qalora: got true, want none");
  expect_refused("alora_invocation_tokens", {1, 2}, "alora_invocation_tokens");
  expect_refused("target_parameters", {"experts.down_proj"}, "target_parameters");
  expect_refused("bias", "all", "bias: got 'all', want none");
  expect_refused("modules_to_save", {"lm_haed"}, "modules_to_save");
  expect_refused("rank_pattern", {{"q_proj", 8}}, "wrongly shaped");
  expect_refused("init_lora_weights", "pissa", "init_lora_weights: got 'pissa'");
}

TEST_F(Start, RefusesAnAdapterThatDoesNotFit) {
  const Finished other_r = start({"--qlora", "--r=8", "--nproc=1"});
  EXPECT_EQ(other_r.exit_code, 1);
  EXPECT_THAT(other_r.err, HasSubstr("adapter.r: got 8, want 4"));
  expect_refused("r", 8, "wrongly shaped");
  expect_refused("target_modules", {"q_proj", "v_proj"}, "unexpected");
  expect_refused("target_modules", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"}, "down_proj");
  const Finished nowhere = start({"--qlora", "--from=nowhere", "--nproc=1"});
  EXPECT_EQ(nowhere.exit_code, 1);
  EXPECT_THAT(nowhere.err, HasSubstr("nowhere"));
}

}  // namespace
}  // namespace ft::test
