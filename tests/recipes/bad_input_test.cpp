// What a user sees of bad input: one message that says where, exit code 1, and nothing left behind. Every run here has
// two ranks; formats and tokenizers have sharper tests of their own, without the program around them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::HasSubstr;
using testing::Not;

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

class BadInput : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = std::make_unique<TemporaryDirectory>();
    good_ = pretrained(shared_->path());
    ASSERT_FALSE(good_.empty());
    write_chats(*shared_ / "chats.jsonl");
  }
  static void TearDownTestSuite() { shared_.reset(); }

  void SetUp() override {
    model_ = copy_of(good_, folder_ / "model");
    fs::copy(*shared_ / "chats.jsonl", data());
    recipe_ =
        recipe("qlora_fsdp2.lua", folder_.path(),
               {{"default = 16, above = 0, help = \"rows a step", "default = 8, above = 0, help = \"rows a step"}});
  }

  fs::path weights() const { return model_ / "model.safetensors"; }
  fs::path data() const { return folder_ / "chats.jsonl"; }

  Finished train(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"run",       recipe_.string(), "--model=model", "--data=chats.jsonl",
                                   "--nproc=2", "--rank=1",       "--seq_len=64",  "--out=left"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words, folder_.path());
  }

  /// One message with every one of `parts`, and nothing else to be seen of the run.
  void refused(const Finished& done, const std::vector<std::string>& parts, int exit_code = 1, size_t faults = 1) {
    EXPECT_EQ(done.exit_code, exit_code) << done.out << done.err;
    for (const std::string& part : parts) EXPECT_THAT(done.err, HasSubstr(part));
    EXPECT_EQ(count(done.err, parts.back()), 1u) << "not said once:\n" << done.err;
    EXPECT_LE(count(done.err, "help:"), faults) << done.err;
    for (const char* ugly : {"terminate called", "ended by signal", "stack traceback", "internal error",
                             "c10::", "rank 1", "finishing the step"})
      EXPECT_THAT(done.err, Not(HasSubstr(ugly)));
    EXPECT_FALSE(fs::exists(folder_ / "left" / "plan.json")) << "a run was left behind";
    EXPECT_FALSE(fs::exists(folder_ / "left"));
    if (HasFailure() || std::getenv("FTENGINE_SHOW")) std::fprintf(stderr, "%s\n", done.err.c_str());
  }

  /// The same input through `eval`.
  Finished eval(const std::string& file = "chats.jsonl") { return run({"eval", "model", file}, folder_.path()); }

  static std::unique_ptr<TemporaryDirectory> shared_;
  static fs::path good_;
  TemporaryDirectory folder_;
  fs::path model_, recipe_;
};
std::unique_ptr<TemporaryDirectory> BadInput::shared_;
fs::path BadInput::good_;

TEST_F(BadInput, GoodInputPasses) {  // else the tests below would show nothing
  const Finished done = train();
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(eval().exit_code, 0);
}

// --- files of the model

TEST_F(BadInput, AGpuThatIsNotThere) {
  const std::string hidden = "CUDA_VISIBLE_DEVICES= FTENGINE_CUDA_PLUGIN=/nowhere/plugin.so FTENGINE_DEVICE=";
  const std::string words = " ftengine run " + recipe_.string() +
                            " --model=model --data=chats.jsonl --nproc=2 --rank=1 --seq_len=64 --out=left";
  refused(shell(hidden + "cuda" + words, folder_.path()),
          {"help: a GPU wants NVIDIA's driver", "/nowhere/plugin.so",
           "environment: FTENGINE_DEVICE: no GPU to compute on: none is shown in /dev, and the CUDA plugin cannot"});
  refused(shell(hidden + "gpu" + words, folder_.path()), {"FTENGINE_DEVICE: got 'gpu', want auto, cpu or cuda"});
}

TEST_F(BadInput, NoModelDirectory) {
  refused(train({"--model=nowhere"}), {"--model", "nowhere'"});
  refused(run({"eval", "nowhere", "chats.jsonl"}, folder_.path()), {"no such directory"});
  refused(run({"generate", "nowhere", "--prompt=x"}, folder_.path()), {"no such directory"});
  refused(run({"merge", "nowhere"}, folder_.path()), {"nowhere"});
}

TEST_F(BadInput, NoConfig) {
  fs::remove(model_ / "config.json");
  refused(train(), {"config.json"});
  refused(eval(), {"config.json"});
}

TEST_F(BadInput, ConfigThatIsNoJson) {
  spill(model_ / "config.json", "{\n  \"model_type\": \"qwen3\",\n  \"hidden_size\" 64\n}\n");
  refused(train(), {"config.json:3"});
  refused(eval(), {"config.json:3"});
}

TEST_F(BadInput, ConfigWithoutAKey) {
  edit_json(model_ / "config.json", [](Json& config) { config.erase("hidden_size"); });
  refused(train(), {"hidden_size"});
  refused(eval(), {"hidden_size"});
}

TEST_F(BadInput, ArchitectureThatNothingDescribes) {
  edit_json(model_ / "config.json", [](Json& config) { config["model_type"] = "mamba2"; });
  refused(train(), {"model_type", "'mamba2'"});
  refused(eval(), {"model_type", "'mamba2'"});
}

TEST_F(BadInput, NoWeights) {
  fs::remove(weights());
  refused(train(), {"model.safetensors.index.json"});
  refused(eval(), {"model.safetensors.index.json"});
}

TEST_F(BadInput, UnreadableWeights) {
  fs::remove(weights());
  fs::create_directory(weights());  // which root cannot read as a file either
  refused(train(), {"model.safetensors"});
  if (geteuid() == 0) return;
  fs::remove(weights());
  fs::copy(good_ / "model.safetensors", weights());
  fs::permissions(weights(), fs::perms::none);
  refused(train(), {"model.safetensors", "Permission denied"});
}

TEST_F(BadInput, TruncatedWeights) {
  fs::resize_file(weights(), fs::file_size(weights()) - 1000);
  refused(train(), {"model.safetensors"});
  refused(eval(), {"model.safetensors"});
  fs::resize_file(weights(), 5);
  refused(train(), {"model.safetensors"});
  fs::resize_file(weights(), 0);
  refused(train(), {"model.safetensors"});
}

TEST_F(BadInput, OversizedHeader) {
  std::string bytes = slurp(weights());
  bytes.replace(0, 8, std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8));
  spill(weights(), bytes);
  refused(train(), {"model.safetensors"});
}

TEST_F(BadInput, OverlappingTensors) {
  edit_header(weights(), [](Json& header) {
    auto& norm = header["model.norm.weight"]["data_offsets"];
    const uint64_t size = norm[1].get<uint64_t>() - norm[0].get<uint64_t>();
    norm = {0, size};
  });
  refused(train(), {"model.safetensors"});
}

TEST_F(BadInput, WrongShape) {
  edit_header(weights(), [](Json& header) {
    auto& shape = header["model.layers.1.mlp.down_proj.weight"]["shape"];
    std::swap(shape[0], shape[1]);
  });
  refused(train(), {"/model", "[128, 64]", "[64, 128]", "model.layers.1.mlp.down_proj.weight"});
  refused(eval(), {"[128, 64]", "[64, 128]", "model.layers.1.mlp.down_proj.weight"});
}

TEST_F(BadInput, MissingAndUnexpectedTensors) {
  edit_header(weights(), [](Json& header) {
    for (const char* name : {"model.norm.weight", "model.layers.0.self_attn.k_norm.weight"}) {
      header[std::string(name) + "_gone"] = header[name];
      header.erase(name);
    }
  });
  refused(train(), {"model.norm.weight_gone", "model.layers.0.self_attn.k_norm.weight_gone", "missing", "unexpected"});
}

TEST_F(BadInput, AnIndexThatPointsOutside) {
  fs::rename(weights(), folder_ / "outside.safetensors");
  Json map = Json::object();
  edit_header(folder_ / "outside.safetensors", [&](Json& header) {
    for (const auto& [name, entry] : header.items())
      if (name != "__metadata__") map[name] = "../outside.safetensors";
  });
  spill(model_ / "model.safetensors.index.json", Json{{"metadata", Json::object()}, {"weight_map", map}}.dump());
  refused(train(), {"model.safetensors.index.json", "../outside.safetensors"});
}

TEST_F(BadInput, AnIndexThatNamesAFileThatIsNotThere) {
  Json map = Json::object();
  edit_header(weights(), [&](Json& header) {
    for (const auto& [name, entry] : header.items())
      if (name != "__metadata__") map[name] = "model-00001-of-00001.safetensors";
  });
  fs::remove(weights());
  spill(model_ / "model.safetensors.index.json", Json{{"metadata", Json::object()}, {"weight_map", map}}.dump());
  refused(train(), {"model-00001-of-00001.safetensors"});
}

// --- the tokenizer

TEST_F(BadInput, TokenizerPartThatIsNotImplemented) {
  edit_json(model_ / "tokenizer.json", [](Json& json) { json["pre_tokenizer"] = {{"type", "SplitByTaste"}}; });
  refused(train(), {"tokenizer.json", "SplitByTaste"});
  refused(eval(), {"tokenizer.json", "SplitByTaste"});
}

TEST_F(BadInput, NoTokenizer) {
  fs::remove(model_ / "tokenizer.json");
  refused(train(), {"tokenizer.json"});
  refused(eval(), {"tokenizer.json"});
}

// --- data

TEST_F(BadInput, NoData) {
  refused(train({"--data=nothing.jsonl"}), {"nothing.jsonl"});
  refused(eval("nothing.jsonl"), {"nothing.jsonl"});
}

TEST_F(BadInput, UnreadableData) {
  fs::create_directory(folder_ / "folder.jsonl");
  refused(train({"--data=folder.jsonl"}), {"folder.jsonl"});
}

TEST_F(BadInput, ABadLine) {
  std::string text = slurp(data());
  size_t at = 0;
  for (int line = 1; line < 17; ++line) at = text.find('\n', at) + 1;
  text.insert(at, "{\"messages\": [{\"role\": \"user\", \n");
  spill(data(), text);
  refused(train(), {"chats.jsonl:17"});
  refused(eval(), {"chats.jsonl:17"});
}

TEST_F(BadInput, ARowOfAnotherForm) {
  std::string text = slurp(data());
  spill(data(), text + "{\"question\": \"a\", \"reply\": \"b\"}\n");
  refused(train(), {"chats.jsonl:161"});
}

TEST_F(BadInput, EmptyData) {
  spill(data(), "");
  refused(train(), {"chats.jsonl"});
  refused(eval(), {"chats.jsonl"});
  spill(data(), "\n\n");
  refused(train(), {"chats.jsonl"});
}

TEST_F(BadInput, NothingToLearn) {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += R"({"messages": [{"role": "user", "content": "the cat runs"}]})"
            "\n";
  spill(data(), text);
  refused(train(), {"chats.jsonl", "train"});
  refused(eval(), {"chats.jsonl"});
}

TEST_F(BadInput, IdsBeyondTheVocabulary) {
  std::string text;
  for (int i = 0; i < 80; ++i)
    text += i == 32 ? "{\"input_ids\": [1, 432, 3]}\n" : "{\"input_ids\": [1, 2, 3, 4, 5, 6, 7, 8]}\n";
  spill(folder_ / "ids.jsonl", text);
  recipe_ = recipe("qlora_fsdp2.lua", folder_.path(),
                   {{"train = ft.chat { opt.data, seq_len = opt.seq_len, pack = true",
                     "train = ft.tokenized { opt.data, seq_len = opt.seq_len, pack = true"},
                    {"val   = ft.chat", "val   = ft.tokenized"}});
  refused(train({"--data=ids.jsonl"}), {"id 432", "ids.jsonl:33"});
  refused(eval("ids.jsonl"), {"id 432", "ids.jsonl:33"});
}

// --- what was asked for

TEST_F(BadInput, UnknownPlanKey) {
  recipe_ = recipe("qlora_fsdp2.lua", folder_.path(), {{"epochs   = opt.epochs", "epoch    = opt.epochs"}});
  refused(train(), {"qlora_fsdp2.lua:", "did you mean 'epochs'", "unknown key 'epoch'"});
}

TEST_F(BadInput, UnknownKeyOfAConfigFile) {
  spill(folder_ / "more.yaml", "lr: 0.001\nepocs: 2\n");
  refused(train({"--config=more.yaml"}), {"more.yaml:2", "did you mean 'epochs'", "unknown key 'epocs'"});
}

TEST_F(BadInput, SeveralFaultsAtOnce) {
  refused(train({"--lr=-1", "--epochs=0", "--rank=none"}), {"--lr", "--epochs", "--rank"}, 1, 3);
}

TEST_F(BadInput, UnknownFlags) {
  refused(train({"--epocs=2"}), {"did you mean '--epochs'", "unknown flag '--epocs'"}, 2);
  refused(train({"--set", "epocs=2"}), {"--set epocs", "did you mean 'epochs'"}, 2);
  refused(run({"merge", "model", "--dtyp=fp32"}, folder_.path()), {"did you mean '--dtype'", "'--dtyp'"}, 2);
  refused(run({"eval", "model", "chats.jsonl", "--jsn"}, folder_.path()), {"did you mean '--json'", "'--jsn'"}, 2);
  refused(run({"generate", "model", "--promt=x"}, folder_.path()), {"did you mean '--prompt'", "'--promt'"}, 2);
  refused(run({"marge", "model"}, folder_.path()), {"did you mean 'merge'", "unknown command 'marge'"}, 2);
  refused(run({}, folder_.path()), {"--help"}, 2);
}

TEST_F(BadInput, NoRecipe) {
  recipe_ = folder_ / "none.lua";
  refused(train(), {"none.lua"});
}

TEST_F(BadInput, ARecipeThatIsNoLua) {
  spill(recipe_, "local ft = require \"ft\"\nlocal plan = ft.plan {\n  epochs = = 1,\n}\n");
  refused(train(), {recipe_.string() + ":3"});
}

TEST_F(BadInput, AnOutputThatCannotBeMade) {
  spill(folder_ / "file", "");
  refused(train({"--out=file/left"}), {"file/left"});
}

// --- merging

TEST_F(BadInput, MergingWhatIsNoRun) {
  fs::create_directory(folder_.path() / "empty");
  refused(run({"merge", "empty", "-o", "left"}, folder_.path()), {"empty", "neither a run directory"});
  refused(run({"merge", "model", "--dtype=fp8", "-o", "left"}, folder_.path()), {"--dtype", "'fp8'"});
  refused(run({"merge", "model", "--shard-size=1xb", "-o", "left"}, folder_.path()), {"--shard-size", "'1xb'"});
  refused(run({"merge", "model", "--threads=two", "-o", "left"}, folder_.path()), {"--threads", "'two'"});
  refused(run({"merge", "model", "--base=other", "-o", "left"}, folder_.path()), {"--base", "'other'"});
  refused(run({"merge", "model", "--format=onnx", "-o", "left"}, folder_.path()), {"--format", "'onnx'"});
}

class BadCheckpoint : public BadInput {
 protected:
  void SetUp() override {
    BadInput::SetUp();
    const Finished done = train({"--out=done"});
    ASSERT_EQ(done.exit_code, 0) << done.err;
    for (const auto& entry : fs::directory_iterator(folder_ / "done"))
      if (entry.path().filename().string().rfind("checkpoint-", 0) == 0) checkpoint_ = entry.path();
    ASSERT_FALSE(checkpoint_.empty());
  }
  Finished merge() { return run({"merge", "done", "-o", "left"}, folder_.path()); }
  fs::path shard() const { return checkpoint_ / "shard-00001-of-00002.safetensors"; }
  fs::path checkpoint_;
};

TEST_F(BadCheckpoint, DamagedBytes) {
  std::string bytes = slurp(shard());
  bytes[bytes.size() - 100] ^= 1;
  spill(shard(), bytes);
  refused(merge(), {"shard-00001-of-00002.safetensors"});
}

TEST_F(BadCheckpoint, AShardThatIsGone) {
  fs::remove(shard());
  refused(merge(), {"/done", "lacks shard-00001-of-00002.safetensors"});
  refused(run({"eval", "done", "chats.jsonl"}, folder_.path()), {"/done", "lacks shard-00001-of-00002.safetensors"});
}

TEST_F(BadCheckpoint, ABaseThatHasMoved) {
  fs::rename(model_, folder_ / "elsewhere");
  refused(merge(), {"model", "--model"});
  EXPECT_EQ(run({"merge", "done", "-o", "merged", "--model=elsewhere"}, folder_.path()).exit_code, 0);
}

TEST_F(BadCheckpoint, AnotherBase) {
  edit_header(weights(), [](Json& header) {
    header["model.norm.weight_gone"] = header["model.norm.weight"];
    header.erase("model.norm.weight");
  });
  refused(merge(), {"/model", "--model", "is not the model that the run was trained on"});
}

}  // namespace
}  // namespace ft::test
