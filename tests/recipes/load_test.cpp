// Loading a model of 0.6 B parameters on two ranks: no rank ever holds more than what it will own and a little, and
// each byte of the file is read once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <map>
#include <thread>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

// Qwen3 0.6B's shape.
constexpr int64_t kDim = 1024, kHidden = 3072, kLayers = 28, kHeads = 16, kKvHeads = 8, kHeadDim = 128, kVocab = 151936;
constexpr int64_t kMegabyte = 1000 * 1000;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
};

std::vector<Tensor> tensors() {
  std::vector<Tensor> all{{"model.embed_tokens.weight", {kVocab, kDim}}, {"model.norm.weight", {kDim}}};
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".", attention = at + "self_attn.";
    all.insert(all.end(), {{attention + "q_proj.weight", {kHeads * kHeadDim, kDim}},
                           {attention + "k_proj.weight", {kKvHeads * kHeadDim, kDim}},
                           {attention + "v_proj.weight", {kKvHeads * kHeadDim, kDim}},
                           {attention + "o_proj.weight", {kDim, kHeads * kHeadDim}},
                           {attention + "q_norm.weight", {kHeadDim}},
                           {attention + "k_norm.weight", {kHeadDim}},
                           {at + "mlp.gate_proj.weight", {kHidden, kDim}},
                           {at + "mlp.up_proj.weight", {kHidden, kDim}},
                           {at + "mlp.down_proj.weight", {kDim, kHidden}},
                           {at + "input_layernorm.weight", {kDim}},
                           {at + "post_attention_layernorm.weight", {kDim}}});
  }
  return all;
}

int64_t numel(const Tensor& tensor) {
  int64_t n = 1;
  for (const int64_t dim : tensor.shape) n *= dim;
  return n;
}

/// A bf16 model of zeros, in a file with a hole where its values are. @return bytes of the values
int64_t write_model(const fs::path& folder) {
  Json header = Json::object();
  int64_t end = 0;
  for (const Tensor& tensor : tensors()) {
    const int64_t begin = std::exchange(end, end + 2 * numel(tensor));
    header[tensor.name] = {{"dtype", "BF16"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  fs::create_directories(folder);
  spill(folder / "model.safetensors", std::string(reinterpret_cast<const char*>(&length), sizeof length) + text);
  fs::resize_file(folder / "model.safetensors", sizeof length + length + static_cast<uint64_t>(end));
  spill(folder / "config.json", Json{{"architectures", {"Qwen3ForCausalLM"}},
                                     {"model_type", "qwen3"},
                                     {"hidden_size", kDim},
                                     {"intermediate_size", kHidden},
                                     {"num_hidden_layers", kLayers},
                                     {"num_attention_heads", kHeads},
                                     {"num_key_value_heads", kKvHeads},
                                     {"head_dim", kHeadDim},
                                     {"vocab_size", kVocab},
                                     {"rms_norm_eps", 1e-6},
                                     {"rope_theta", 1000000.0},
                                     {"tie_word_embeddings", true}}
                                    .dump());
  return end;
}

/// What one of two ranks owns: NF4 records of 8452 bytes a 16,384 elements and bf16 for the rest; masters, gradients
/// and two averages of LoRA's r = 16 in fp32.
int64_t own_bytes() {
  int64_t linear = 0, rest = 0, lora = 0;
  for (const Tensor& tensor : tensors()) {
    const bool quantized = tensor.name.find("_proj") != std::string::npos;
    (quantized ? linear : rest) += numel(tensor);
    if (quantized) lora += 16 * (tensor.shape[0] + tensor.shape[1]);
  }
  return (linear / 16384 * 8452 + 2 * rest + 16 * lora) / 2;
}

// One row, and a pause at the end so that the last reading is of a rank that has everything.
constexpr const char* kRecipe = R"(local ft = require "ft"
local plan = ft.plan {
  model = ft.hf { "model", quantize = "nf4" }, adapter = ft.lora { r = 16 },
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 8 } },
  parallel = "fsdp2", optimizer = ft.adamw { lr = 1e-4 }, batch = { total = 2, micro = 1 }, max_steps = 1, save = { dir = "run" },
}
local run = plan:start()
local start = os.time()
while os.time() - start < 2 do end
)";

int64_t field(const fs::path& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string word; in >> word;)
    if (word == key) return in >> word ? std::stoll(word) : 0;
  return 0;
}

std::vector<std::string> children(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
  return {std::istream_iterator<std::string>(in), {}};
}

struct Observed {
  int64_t anonymous = 0;  ///< highest RssAnon seen, bytes
  int64_t read = 0;       ///< bytes by read and pread
};

TEST(Load, HoldsItsOwnShareAndReadsEachByteOnce) {
  const TemporaryDirectory folder;
  const int64_t bytes = write_model(folder / "model");
  spill(folder / "rows.jsonl", "{\"input_ids\": [1, 2, 3]}\n{\"input_ids\": [1, 2, 3]}\n");
  spill(folder / "load.lua", kRecipe);
  Program program({"run", "load.lua", "--nproc=2"}, folder.path());
  std::map<std::string, Observed> ranks;
  // A rank has read its share when the recipe's pause begins; the program ends by itself after it.
  while (program.running()) {
    for (const std::string& pid : children(program.pid())) {
      Observed& rank = ranks[pid];
      rank.anonymous = std::max(rank.anonymous, 1024 * field("/proc/" + pid + "/status", "RssAnon:"));
      rank.read = std::max(rank.read, field("/proc/" + pid + "/io", "rchar:"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const Finished done = program.wait();
  ASSERT_EQ(done.exit_code, 0) << done.err;
  ASSERT_EQ(ranks.size(), 2u);
  int64_t read = 0;
  for (const auto& [pid, rank] : ranks) {
    EXPECT_LT(rank.anonymous, own_bytes() + 300 * kMegabyte) << "of " << own_bytes() << " bytes of its own";
    read += rank.read;
  }
  EXPECT_GE(read, bytes);
  EXPECT_LT(read, bytes + 40 * kMegabyte);  // headers, /proc and libraries beside the model
}

}  // namespace
}  // namespace ft::test
