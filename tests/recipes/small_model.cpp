#include "tests/recipes/small_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <sstream>

namespace ft::test {
namespace {

constexpr const char* kWords[] = {"red",  "blue", "green", "river", "stone", "cat",   "dog",
                                  "runs", "sees", "the",   "a",     "over",  "under", "and"};

// Words that follow from `seed` alone.
std::vector<std::string> sentence(uint64_t seed) {
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  const auto next = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
  };
  std::vector<std::string> words(3 + next() % 6);
  for (std::string& word : words) word = kWords[next() % std::size(kWords)];
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

}  // namespace

Json small_config() {
  return {{"architectures", {"Qwen3ForCausalLM"}},
          {"attention_bias", false},
          {"eos_token_id", 427},
          {"head_dim", 16},
          {"hidden_act", "silu"},
          {"hidden_size", 64},
          {"initializer_range", 0.02},
          {"intermediate_size", 128},
          {"max_position_embeddings", 256},
          {"model_type", "qwen3"},
          {"num_attention_heads", 4},
          {"num_hidden_layers", 2},
          {"num_key_value_heads", 2},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", true},
          {"torch_dtype", "float32"},
          {"vocab_size", kVocabulary}};
}

void write_model_parts(const fs::path& folder) {
  Json tokenizer = Json::parse(slurp(fs::path(ft_source_dir()) / "tests/golden/text/qwen/tokenizer.json"));
  Json added = tokenizer["added_tokens"][0];
  int id = 426;
  for (const char* content : {"<|im_start|>", "<|im_end|>"}) {
    added["id"] = id++;
    added["content"] = content;
    added["special"] = true;
    tokenizer["added_tokens"].push_back(added);
  }
  spill(folder / "tokenizer.json", tokenizer.dump());
  spill(folder / "tokenizer_config.json", Json{{"eos_token", "<|im_end|>"}, {"pad_token", "<|end|>"}}.dump(2));
  spill(folder / "config.json", small_config().dump(2));
}

void write_corpus(const fs::path& file, int rows) {
  std::ostringstream out;
  for (int i = 0; i < rows; ++i)
    out << Json{{"text", joined(sentence(3 * i)) + ". " + joined(sentence(3 * i + 1)) + "."}}.dump() << "\n";
  spill(file, out.str());
}

void write_chats(const fs::path& file, int rows) {
  std::ostringstream out;
  for (int i = 0; i < rows; ++i) {
    std::vector<std::string> words = sentence(i + 1000);
    const std::string asked = joined(words);
    std::reverse(words.begin(), words.end());
    out << Json{{"messages",
                 {{{"role", "user"}, {"content", asked}}, {{"role", "assistant"}, {"content", joined(words)}}}}}
               .dump()
        << "\n";
  }
  spill(file, out.str());
}

fs::path pretrained(const fs::path& folder) {
  write_model_parts(folder / "parts");
  write_corpus(folder / "corpus.jsonl");
  const Finished done = run({"run", std::string(ft_source_dir()) + "/recipes/pretrain.lua", "--model=parts/config.json",
                             "--tokenizer=parts", "--data=corpus.jsonl", "--seq_len=32", "--nproc=1", "--out=base"},
                            folder);
  EXPECT_EQ(done.exit_code, 0) << done.err;
  for (const auto& entry : fs::directory_iterator(folder / "base"))
    if (entry.path().filename().string().rfind("merged-", 0) == 0) return entry.path();
  ADD_FAILURE() << "pre-training left no Hugging Face directory:\n" << done.out << done.err;
  return {};
}

std::unique_ptr<TemporaryDirectory> folder_of_parts() {
  auto folder = std::make_unique<TemporaryDirectory>();
  write_model_parts(*folder / "parts");
  write_corpus(*folder / "corpus.jsonl");
  return folder;
}

std::unique_ptr<TemporaryDirectory> folder_of_model() {
  auto folder = std::make_unique<TemporaryDirectory>();
  if (const fs::path model = pretrained(*folder); !model.empty()) copy_of(model, *folder / "model");
  write_chats(*folder / "chats.jsonl");
  return folder;
}

fs::path copy_of(const fs::path& model, const fs::path& folder) {
  fs::create_directories(folder);
  for (const auto& entry : fs::directory_iterator(model)) fs::copy(entry.path(), folder / entry.path().filename());
  return folder;
}

void edit_header(const fs::path& file, const std::function<void(Json& header)>& edit) {
  const std::string bytes = slurp(file);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  Json header = Json::parse(bytes.substr(8, length));
  edit(header);
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  length = text.size();
  std::string out(reinterpret_cast<const char*>(&length), sizeof length);
  uint64_t before = 0;
  std::memcpy(&before, bytes.data(), sizeof before);
  spill(file, out + text + bytes.substr(8 + before));
}

void edit_json(const fs::path& file, const std::function<void(Json& json)>& edit) {
  Json json = Json::parse(slurp(file));
  edit(json);
  spill(file, json.dump(2));
}

std::vector<Json> metrics(const fs::path& run_directory) {
  std::vector<Json> rows;
  std::istringstream in(slurp(run_directory / "metrics.jsonl"));
  for (std::string line; std::getline(in, line);) rows.push_back(Json::parse(line));
  return rows;
}

}  // namespace ft::test
