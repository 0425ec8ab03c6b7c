// Twenty steps from the same weights and tokens as transformers, peft and bitsandbytes (tests/golden/steps.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/tensor/counter_random.h"
#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

constexpr uint64_t kSeed = 20261122;
constexpr int64_t kBatch = 2, kLength = 96, kSteps = 20, kRank = 4;
constexpr int64_t kHidden = 64, kLayers = 2, kInner = 192, kVocab = 320, kKeys = 32;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

/// centre + scale·(2u − 1), as the script draws it.
Tensor drawn(const std::string& name, std::vector<int64_t> shape, double scale, double centre = 0) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  const CounterRandom random(kSeed, name);
  Tensor tensor{name, std::move(shape), {}};
  for (int64_t i = 0; i < count; ++i)
    tensor.values.push_back(static_cast<float>(centre + scale * (2 * random.uniform(static_cast<uint64_t>(i)) - 1)));
  return tensor;
}

void write_tensors(const fs::path& file, const std::vector<Tensor>& tensors, const std::string& prefix = "") {
  Json header = Json::object();
  std::string bytes;
  for (const Tensor& tensor : tensors) {
    const size_t begin = bytes.size();
    bytes.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float));
    header[prefix + tensor.name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, bytes.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  spill(file, std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + bytes);
}

struct Linear {
  const char* name;
  int64_t out, in;
};
constexpr Linear kLinears[] = {{"self_attn.q_proj", kHidden, kHidden}, {"self_attn.k_proj", kKeys, kHidden},
                               {"self_attn.v_proj", kKeys, kHidden},   {"self_attn.o_proj", kHidden, kHidden},
                               {"mlp.gate_proj", kInner, kHidden},     {"mlp.up_proj", kInner, kHidden},
                               {"mlp.down_proj", kHidden, kInner}};

void write_model(const fs::path& folder, bool qwen) {
  Json config = small_config();
  config["architectures"] = {qwen ? "Qwen3ForCausalLM" : "LlamaForCausalLM"};
  config["model_type"] = qwen ? "qwen3" : "llama";
  config["intermediate_size"] = kInner;
  config["vocab_size"] = kVocab;
  config["tie_word_embeddings"] = qwen;
  std::vector<Tensor> tensors;
  const auto weight = [&](const std::string& name, std::vector<int64_t> shape) {
    tensors.push_back(drawn(name, std::move(shape), 0.1));
  };
  const auto norm = [&](const std::string& name, int64_t width) { tensors.push_back(drawn(name, {width}, 0.3, 1.0)); };
  weight("model.embed_tokens.weight", {kVocab, kHidden});
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    norm(layer + "input_layernorm.weight", kHidden);
    norm(layer + "post_attention_layernorm.weight", kHidden);
    if (qwen) norm(layer + "self_attn.q_norm.weight", 16), norm(layer + "self_attn.k_norm.weight", 16);
    for (const Linear& linear : kLinears) weight(layer + linear.name + ".weight", {linear.out, linear.in});
  }
  norm("model.norm.weight", kHidden);
  if (!qwen) weight("lm_head.weight", {kVocab, kHidden});
  fs::create_directories(folder);
  spill(folder / "config.json", config.dump(2));
  write_tensors(folder / "model.safetensors", tensors);
}

void write_adapter(const fs::path& folder) {
  std::vector<Tensor> tensors;
  Json targets = Json::array();
  for (const Linear& linear : kLinears) targets.push_back(std::string(std::strchr(linear.name, '.') + 1));
  for (int64_t i = 0; i < kLayers; ++i)
    for (const Linear& linear : kLinears) {
      const std::string module = "model.layers." + std::to_string(i) + "." + linear.name;
      tensors.push_back(drawn(module + ".lora_A.weight", {kRank, linear.in}, 0.05));
      tensors.push_back(drawn(module + ".lora_B.weight", {linear.out, kRank}, 0.05));
    }
  fs::create_directories(folder);
  spill(folder / "adapter_config.json", Json{{"peft_type", "LORA"},
                                             {"task_type", "CAUSAL_LM"},
                                             {"r", kRank},
                                             {"lora_alpha", 2 * kRank},
                                             {"lora_dropout", 0.0},
                                             {"target_modules", targets},
                                             {"bias", "none"}}
                                            .dump());
  write_tensors(folder / "adapter_model.safetensors", tensors, "base_model.model.");
}

/// Two batches of tokens, of the formula that the script has.
void write_rows(const fs::path& file) {
  std::string text;
  for (int64_t row = 0; row < 2 * kBatch; ++row) {
    Json ids = Json::array();
    for (int64_t t = 0; t < kLength; ++t) {
      const uint64_t x = static_cast<uint64_t>(row * kLength + t) * 6364136223846793005u + 1442695040888963407u;
      ids.push_back((x ^ (x >> 33)) % kVocab);
    }
    text += Json{{"input_ids", ids}, {"labels", ids}}.dump() + "\n";
  }
  spill(file, text);
}

constexpr const char* kRecipe = R"(local ft = require "ft"
local opt = ft.options {
  model = { "path", default = "model" }, out = { "output", default = "run" }, qlora = { "boolean", default = false },
  lr = { "number", default = 1e-4 }, alpha = { "number" },
}
local plan = ft.plan {
  model = ft.hf { opt.model, quantize = opt.qlora and "nf4" or "none", compute = "fp32" },
  adapter = opt.qlora and ft.lora { from = "adapter", alpha = opt.alpha } or nil,
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 96, pack = false, shuffle = false } },
  optimizer = ft.adamw { lr = opt.lr, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0, schedule = ft.constant {} },
  batch = { total = 2, micro = 1 }, epochs = 10, save = { dir = opt.out },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm }
end
run:finish()
)";

class Steps : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    write_model(folder_ / "model", GetParam() == "qwen3");
    write_adapter(folder_ / "adapter");
    write_rows(folder_ / "rows.jsonl");
    spill(folder_ / "steps.lua", kRecipe);
  }
  Finished train(std::vector<std::string> more) {
    std::vector<std::string> words{"run", (folder_ / "steps.lua").string(), "--model=" + (folder_ / "model").string()};
    words.insert(words.end(), more.begin(), more.end());
    return run(words, folder_.path());
  }
  /// The largest relative difference from the losses of `kind` in tests/golden/steps.json.
  double distance(const std::string& kind, std::vector<std::string> more) {
    more.push_back("--out=" + (folder_ / (kind + std::to_string(number_++))).string());
    const Finished done = train(more);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    if (done.exit_code != 0) return INFINITY;
    const Json golden = Json::parse(slurp(fs::path(ft_source_dir()) / "tests/golden/steps.json"));
    const std::vector<double> wanted = golden.at(GetParam()).at(kind);
    const auto rows = metrics(more.back().substr(6));
    EXPECT_EQ(rows.size(), wanted.size());
    double most = rows.size() == static_cast<size_t>(kSteps) ? 0 : INFINITY;
    for (size_t i = 0; i < std::min(rows.size(), wanted.size()); ++i)
      most = std::max(most, std::abs(rows[i].at("loss").get<double>() - wanted[i]) / wanted[i]);
    return most;
  }

  TemporaryDirectory folder_;
  int number_ = 0;
};

TEST_P(Steps, of_full_fine_tuning_are_those_of_transformers) {
  EXPECT_LE(distance("full", {"--nproc=1"}), 1e-5);
  EXPECT_LE(distance("full", {"--nproc=2"}), 1e-5);
  EXPECT_GT(distance("full", {"--nproc=1", "--lr=1.01e-4"}), 1e-5);  // the gate notices a rate that is 1 % off
}

TEST_P(Steps, of_qlora_from_an_adapter_are_those_of_peft_and_bitsandbytes) {
  EXPECT_LE(distance("qlora", {"--qlora", "--lr=2e-3", "--nproc=1"}), 1e-3);
  EXPECT_LE(distance("qlora", {"--qlora", "--lr=2e-3", "--nproc=2"}), 1e-3);
  EXPECT_GT(distance("qlora", {"--qlora", "--lr=1.5e-3", "--nproc=1"}), 1e-3);
}

TEST_P(Steps, are_not_taken_from_an_adapter_that_does_not_fit) {
  const std::vector<std::string> flags{"--qlora", "--nproc=2"};
  std::vector<std::string> other_alpha = flags;
  other_alpha.push_back("--alpha=5");
  const auto refused = [&](const std::vector<std::string>& more, std::vector<std::string> wanted) {
    const Finished done = train(more);
    EXPECT_EQ(done.exit_code, 1);
    for (const std::string& text : wanted) EXPECT_THAT(done.err, testing::HasSubstr(text));
    EXPECT_FALSE(fs::exists(folder_ / "run"));
  };
  refused(other_alpha, {"adapter.alpha", "got 5, want 8"});
  const fs::path config = folder_ / "adapter/adapter_config.json",
                 weights = folder_ / "adapter/adapter_model.safetensors";
  const std::string whole = slurp(config), tensors = slurp(weights);
  const std::pair<const char*, Json> unsupported[] = {
      {"use_qalora", true}, {"bias", "all"}, {"layer_replication", {{0, 1}}}, {"init_lora_weights", "olora"}};
  for (const auto& [key, value] : unsupported) {
    edit_json(config, [&key = key, &value = value](Json& json) { json[key] = value; });
    refused(flags, {key});
    spill(config, whole);
  }
  edit_json(config, [](Json& json) { json["r"] = 2; });
  refused(flags, {"model.layers.0.self_attn.q_proj.lora_A.weight (got [4, 64], want [2, 64])"});
  spill(config, whole);
  const std::string a = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight";
  edit_header(weights, [&](Json& header) {
    header["base_model.model.model.layers.9.mlp.up_proj.lora_A.weight"] = header[a];
    header.erase(a);
  });
  refused(flags, {"missing", "layers.1.mlp.up_proj.lora_A.weight", "unexpected", "layers.9.mlp.up_proj.lora_A.weight"});
  spill(weights, tensors);
}

INSTANTIATE_TEST_SUITE_P(Models, Steps, testing::Values("llama", "qwen3"), [](const auto& of) { return of.param; });

}  // namespace
}  // namespace ft::test
