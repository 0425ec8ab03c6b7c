// What `ftengine plan` says of memory, against what a run takes: the engine's own meter, and what is resident.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kRecipe = R"(local ft = require "ft"
local opt = ft.options {
  model = { "path", default = "small" }, mode = { "string", default = "full" }, out = { "output", default = "run" },
  r = { "integer", default = 16 }, checkpointing = { "boolean", default = false },
  parallel = { "profile", default = "fsdp2" }, optimizer = { "string", default = "adamw" },
}
local lora, quantize = opt.mode ~= "full", opt.mode == "qlora" and "nf4" or "none"
local plan = ft.plan {
  model = opt.model:match("%.json$") and ft.scratch { opt.model, quantize = quantize, compute = "fp32" }
    or ft.hf { opt.model, quantize = quantize, compute = "fp32" },
  adapter = lora and ft.lora { r = opt.r, alpha = 32, target_modules = "all-linear" } or nil,
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 256, pack = false } },
  parallel = opt.parallel, activation_checkpointing = opt.checkpointing,
  optimizer = ft[opt.optimizer] { lr = 1e-4, schedule = ft.constant {} },
  batch = { total = 4, micro = 1 }, max_steps = 2, save = { dir = opt.out, keep = 2 },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss) }
end
)";

// A preference loss.
constexpr const char* kPairsRecipe = R"(local ft = require "ft"
local opt = ft.options { out = { "output", default = "run" } }
local plan = ft.plan {
  model = ft.hf { "small", compute = "fp32" }, adapter = ft.lora { r = 8 }, optimizer = ft.adamw { lr = 1e-4 },
  data = { train = ft.preference { "pairs.jsonl", seq_len = 256 } }, batch = { total = 4, micro = 2 }, max_steps = 2,
  save = { dir = opt.out },
}
local run = plan:start()
for step, window in run:steps() do
  local row = ft.dpo.step(run, window, { beta = 0.1 })
  run:update()
  row.step = step
  run:log(row)
end
)";

// Answers to prompts, before a step of training that takes less.
constexpr const char* kAnswersRecipe = R"(local ft = require "ft"
local opt = ft.options { out = { "output", default = "run" } }
local plan = ft.plan {
  model = ft.hf { "small", compute = "fp32" }, adapter = ft.lora { r = 8 }, optimizer = ft.adamw { lr = 1e-4 },
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 256, pack = false },
           test = ft.chat { "chats.jsonl", format = "chatml", seq_len = 1024 } },
  batch = { total = 2, micro = 1 }, max_steps = 1, save = { dir = opt.out },
}
local run = plan:start()
run:log { exact_match = run:evaluate("test", { generate = true, max_new_tokens = 3 }).exact_match }
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  run:update()
  run:log { step = step, loss = run:sum(loss) }
end
run:finish()
)";

Json config(const char* architecture, const char* type, int64_t hidden, int64_t inner, int64_t layers, int64_t heads,
            int64_t kv_heads, int64_t head_dim, int64_t vocabulary, bool tied) {
  Json made = small_config();
  made["architectures"] = {architecture};
  made["model_type"] = type;
  made["hidden_size"] = hidden;
  made["intermediate_size"] = inner;
  made["num_hidden_layers"] = layers;
  made["num_attention_heads"] = heads;
  made["num_key_value_heads"] = kv_heads;
  made["head_dim"] = head_dim;
  made["vocab_size"] = vocabulary;
  made["max_position_embeddings"] = 4096;
  made["tie_word_embeddings"] = tied;
  made["torch_dtype"] = "bfloat16";
  return made;
}

/// A directory of a config alone.
void write_config(const fs::path& folder, const Json& config) {
  fs::create_directories(folder);
  spill(folder / "config.json", config.dump());
}

/// The model `small` of tools/bench/peers/make_model.py, its weights zeros that take no place on the disk.
void write_small_model(const fs::path& folder) {
  constexpr int64_t kHidden = 512, kInner = 1536, kLayers = 8, kHeads = 8, kKeyHeads = 4, kHead = 64, kVocab = 32000;
  write_config(folder,
               config("Qwen3ForCausalLM", "qwen3", kHidden, kInner, kLayers, kHeads, kKeyHeads, kHead, kVocab, true));
  Json header = Json::object();
  int64_t end = 0;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    int64_t bytes = 2;
    for (const int64_t dim : shape) bytes *= dim;
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  };
  add("model.embed_tokens.weight", {kVocab, kHidden});
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add(layer + norm + ".weight", {kHidden});
    for (const char* norm : {"q_norm", "k_norm"}) add(layer + "self_attn." + norm + ".weight", {kHead});
    add(layer + "self_attn.q_proj.weight", {kHeads * kHead, kHidden});
    for (const char* keys : {"k_proj", "v_proj"})
      add(layer + "self_attn." + keys + ".weight", {kKeyHeads * kHead, kHidden});
    add(layer + "self_attn.o_proj.weight", {kHidden, kHeads * kHead});
    for (const char* up : {"gate_proj", "up_proj"}) add(layer + "mlp." + up + ".weight", {kInner, kHidden});
    add(layer + "mlp.down_proj.weight", {kHidden, kInner});
  }
  add("model.norm.weight", {kHidden});
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  spill(folder / "model.safetensors", std::string(reinterpret_cast<const char*>(&length), sizeof length) + text);
  fs::resize_file(folder / "model.safetensors", sizeof length + length + static_cast<uint64_t>(end));
}

void write_rows(const fs::path& file) {
  std::string rows;
  for (int row = 0; row < 4; ++row) {
    Json ids = Json::array();
    for (int i = 0; i < 256; ++i) ids.push_back((row * 7919 + i * 31) % 2000);
    rows += Json({{"input_ids", ids}}).dump() + "\n";
  }
  spill(file, rows);
}

/// TemporaryDirectory with the recipe, the model `small`, and rows of data.
struct Bench : TemporaryDirectory {
  Bench() {
    setenv("OMP_NUM_THREADS", "1", 1);  // stacks and scratch are a thread's
    spill(path() / "recipe.lua", kRecipe);
    write_small_model(path() / "small");
    write_rows(path() / "rows.jsonl");
  }
};

/// The bytes of "  label   12.3 MB".
double figure(const std::string& text, const std::string& label) {
  const size_t at = text.find("  " + label + " ");
  if (at == std::string::npos) return -1;
  std::istringstream rest(text.substr(at + label.size() + 2));
  double number = 0;
  std::string unit;
  rest >> number >> unit;
  const std::map<std::string, double> units{{"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}};
  return units.contains(unit) ? number * units.at(unit) : -1;
}

int64_t resident_anonymous(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/status");
  std::string line;
  while (std::getline(file, line))
    if (line.rfind("RssAnon:", 0) == 0) return std::atoll(line.c_str() + 8) * 1024;
  return 0;
}

/// The most that any rank had resident at one time while the program ran: it, or a child of it.
int64_t most_resident(const Program& program) {
  const std::string pid = std::to_string(program.pid());
  int64_t most = 0;
  while (program.running()) {
    most = std::max(most, resident_anonymous(pid));
    std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
    for (std::string child; children >> child;) most = std::max(most, resident_anonymous(child));
    std::this_thread::sleep_for(std::chrono::milliseconds(4));
  }
  return most;
}

double metered(const fs::path& run) {
  double most = 0;
  for (const Json& row : metrics(run)) most = std::max(most, row.value("peak_tensor_memory", 0.0));
  return most;
}

/// Runs what the words say and holds its plan against the engine's meter, and against what was resident.
/// @param figure_of the line of the plan that tells the most that is held at a time
void expect_planned(const Bench& bench, const std::vector<std::string>& words, const char* figure_of = "total") {
  std::vector<std::string> plan{"plan"}, train{"run"};
  plan.insert(plan.end(), words.begin(), words.end());
  train.insert(train.end(), words.begin(), words.end());
  const Finished planned = run(plan, bench.path());
  ASSERT_EQ(planned.exit_code, 0) << planned.err;
  Program program(train, bench.path());
  const int64_t resident = most_resident(program);
  const Finished ended = program.wait();
  ASSERT_EQ(ended.exit_code, 0) << ended.err;

  const double total = figure(planned.out, figure_of), floor = figure(planned.out, "the program itself");
  const double meter = metered(bench / words.back());  // after --out
  ASSERT_GT(meter, 8e7);
  EXPECT_NEAR((total - floor) / meter, 1, 0.05) << planned.out << resident;
#ifndef __SANITIZE_ADDRESS__  // which has memory of its own
  EXPECT_NEAR(total / static_cast<double>(resident), 1, 0.10) << planned.out << resident;
#endif
}

struct Layout {
  const char *mode, *profile, *ranks = "2";
};

class PlanOfProfile : public testing::TestWithParam<Layout> {};

TEST_P(PlanOfProfile, comes_within_the_meter_and_the_resident_memory_of_a_run) {
  const Bench bench;
  const auto [mode, profile, ranks] = GetParam();
  expect_planned(bench, {"recipe.lua", "--nproc", ranks, "--mode", mode, "--parallel", profile, "--out",
                         (bench / "run").string()});
}

INSTANTIATE_TEST_SUITE_P(Plan, PlanOfProfile,
                         testing::Values(Layout{"full", "ddp"}, Layout{"full", "zero1"}, Layout{"full", "zero2"},
                                         Layout{"full", "fsdp2"}, Layout{"full", "fsdp2_swap"},
                                         Layout{"qlora", "fsdp2"}, Layout{"qlora", "fsdp2_swap"},
                                         Layout{"qlora", "fsdp2_mmap"}, Layout{"full", "tp"}, Layout{"qlora", "tp"},
                                         Layout{"full", "cp"}, Layout{"full", "hsdp", "4"},
                                         Layout{"qlora", "fsdp2_tp", "4"}, Layout{"full", "cp", "4"}),
                         [](const auto& info) {
                           return std::string(info.param.mode) + "_" + info.param.profile + "_on_" + info.param.ranks;
                         });

// A copy of the profile in which the optimizer's state is paged: masters and averages are files' pages then.
TEST(Plan, counts_paged_state_as_what_the_system_may_drop) {
  const Bench bench;
  spill(bench / "paged.yaml",
        slurp(fs::path(ft_source_dir()) / "configs/profiles/fsdp2.yaml") + "optimizer_state: paged\n");
  expect_planned(bench, {"recipe.lua", "--nproc", "1", "--parallel", "paged.yaml", "--out", "run"});
}

// Each takes more in an update than in a backward.
TEST(Plan, counts_what_adafactor_takes_for_a_while) {
  const Bench bench;
  expect_planned(bench, {"recipe.lua", "--nproc", "1", "--optimizer", "adafactor", "--out", "run"});
}

TEST(Plan, counts_what_muon_takes_for_a_while) {
  const Bench bench;
  Json wide = config("Qwen3ForCausalLM", "qwen3", 512, 1536, 8, 8, 4, 64, 2000, true);
  spill(bench / "wide.json", wide.dump());
  for (const char* ranks : {"1", "2"})
    expect_planned(bench, {"recipe.lua", "--nproc", ranks, "--model", "wide.json", "--optimizer", "muon", "--out",
                           std::string("run") + ranks});
}

TEST(Plan, counts_experts) {
  const Bench bench;
  Json experts = config("Qwen3MoeForCausalLM", "qwen3_moe", 512, 1536, 4, 8, 4, 64, 8000, true);
  for (const auto& [key, value] :
       {std::pair("num_experts", 8), {"num_experts_per_tok", 2}, {"moe_intermediate_size", 512}})
    experts[key] = value;
  experts["norm_topk_prob"] = true;
  experts["output_router_logits"] = true;
  spill(bench / "experts.json", experts.dump());
  expect_planned(bench, {"recipe.lua", "--nproc", "2", "--model", "experts.json", "--out", "run"});
}

// The tokenizer of small_model.h beside the model `small`. @return 100 words
std::string with_tokenizer(const Bench& bench) {
  const std::string kept = slurp(bench / "small/config.json");
  write_model_parts(bench / "small");
  spill(bench / "small/config.json", kept);
  std::string words;
  for (int i = 0; i < 100; ++i) words += i % 3 ? " river" : " green";
  return words;
}

TEST(Plan, counts_the_pairs_of_a_preference_loss) {
  const Bench bench;
  const std::string words = with_tokenizer(bench);
  std::string rows;
  for (int row = 0; row < 8; ++row)
    rows += Json({{"prompt", "the"}, {"chosen", words}, {"rejected", words + " cat"}}).dump() + "\n";
  spill(bench / "pairs.jsonl", rows);
  spill(bench / "pairs.lua", kPairsRecipe);
  for (const char* ranks : {"1", "2"})
    expect_planned(bench, {"pairs.lua", "--nproc", ranks, "--out", std::string("run") + ranks});
}

TEST(Plan, counts_the_cache_of_answers) {
  const Bench bench;
  const std::string words = with_tokenizer(bench);
  std::string rows;
  for (int row = 0; row < 24; ++row)
    rows += Json({{"messages", {{{"role", "user"}, {"content", words}}, {{"role", "assistant"}, {"content", "cat"}}}}})
                .dump() +
            "\n";
  spill(bench / "chats.jsonl", rows);
  spill(bench / "answers.lua", kAnswersRecipe);
  for (const char* ranks : {"1", "2"})
    expect_planned(bench, {"answers.lua", "--nproc", ranks, "--out", std::string("run") + ranks}, "answers");
}

TEST(Plan, of_a_model_of_32_billion_from_its_config_alone) {
  const Bench bench;
  write_config(bench / "qwen3-32b", config("Qwen3ForCausalLM", "qwen3", 5120, 25600, 64, 64, 8, 128, 151936, false));
  const Finished done =
      run({"plan", "recipe.lua", "--model", "qwen3-32b", "--mode", "qlora", "--r", "64", "--checkpointing", "true",
           "--nproc", "2", "--device-memory", "24GiB", "--host-memory", "32GiB"},
          bench.path());
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out,
              HasSubstr("trainable params: 536,870,912 || all params: 33,298,994,176 || trainable%: 1.6123\n"));
  EXPECT_THAT(done.out, ContainsRegex("fits +fsdp2"));
  // Both ranks' halves of the NF4 codes and scales of 31.2 billion weights, 4.127 bits each.
  EXPECT_NEAR(figure(done.out, "nf4 base (4 bits and scales)"), 31205621760.0 * 4.1269 / 8 / 2, 1e8);
}

TEST(Plan, names_the_profile_with_the_least_offload_that_fits) {
  const Bench bench;
  write_config(bench / "llama-70b", config("LlamaForCausalLM", "llama", 8192, 28672, 80, 64, 8, 128, 128256, false));
  const auto plan = [&](const std::string& host) {
    const Finished done = run({"plan", "recipe.lua", "--model", "llama-70b", "--mode", "qlora", "--checkpointing",
                               "true", "--nproc", "2", "--device-memory", "24GiB", "--host-memory", host},
                              bench.path());
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.out;
  };
  EXPECT_THAT(plan("128GiB"), HasSubstr("profile fsdp2_offload does"));
  const std::string tight = plan("32GiB");
  EXPECT_THAT(tight, ContainsRegex("profile fsdp2_(mmap|swap) does"));
  EXPECT_THAT(tight, Not(HasSubstr("profile fsdp2_offload does")));
}

TEST(Plan, says_what_activation_checkpointing_would_save_where_it_is_off) {
  const Bench bench;
  const Finished off = run({"plan", "recipe.lua", "--mode", "qlora"}, bench.path());
  const Finished on = run({"plan", "recipe.lua", "--mode", "qlora", "--checkpointing", "true"}, bench.path());
  ASSERT_EQ(off.exit_code, 0) << off.err;
  ASSERT_EQ(on.exit_code, 0) << on.err;
  EXPECT_THAT(on.out, Not(HasSubstr("to save")));
  const double saves = figure(off.out, "to save      activation_checkpointing = true would take");
  EXPECT_NEAR(figure(off.out, "total") - figure(on.out, "total"), saves, 0.01 * figure(off.out, "total"));
}

TEST(Plan, refuses_what_is_no_size) {
  const Bench bench;
  for (const char* wrong : {"24 apples", "", "-1GiB", "nan", "1e40GiB"}) {
    const Finished done = run({"plan", "recipe.lua", "--device-memory", wrong}, bench.path());
    EXPECT_EQ(done.exit_code, 2) << wrong;
    EXPECT_THAT(done.err, HasSubstr("--device-memory: got '" + std::string(wrong) + "', want bytes")) << wrong;
  }
}

}  // namespace
}  // namespace ft::test
