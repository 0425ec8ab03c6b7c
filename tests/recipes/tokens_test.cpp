// Tokens that a plan adds: tables that grow as transformers' do, on every layout; what a run, a merge and an adapter
// write of them; and ids of special tokens that a model's files do not agree on (tests/golden/tokens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <span>

#include "engine/formats/safetensors.h"
#include "tests/recipes/small_model.h"
#include "tests/recipes/train_plan.h"

namespace ft::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kLoss = 3e-6;  // fp32 sums in another order, three steps deep

const std::string kRecipe = std::string(R"(local ft = require "ft"
local opt = ft.options {
  model = { "path" }, out = { "output", default = "run" }, steps = { "integer", default = 3 }, lr = { "number", default = 0.05 },
  kind = { "string", default = "full" }, multiple = { "integer", default = 1 }, rows = { "string", default = "mean" },
  quantize = { "string", default = "none" }, parallel = { "profile", default = "single" }, from = { "path" },
  every = { "integer", default = 0 }, plain = { "boolean", default = false }, total = { "integer", default = 2 },
}
local adapters = {
  lora = { target_modules = { "v_proj" } },
  saved = { target_modules = { "v_proj" }, modules_to_save = { "embed_tokens", "lm_head" } },
  saved_tied = { target_modules = { "v_proj" }, modules_to_save = { "embed_tokens" }, ensure_weight_tying = true },
  embedding = { target_modules = { "embed_tokens", "lm_head", "v_proj" } },
  embedding_tied = { target_modules = { "embed_tokens", "v_proj" }, ensure_weight_tying = true },
}
local adapter = adapters[opt.kind]
if adapter then adapter.r, adapter.alpha, adapter.dropout = 2, 6, 0 end
if opt.from then adapter = { from = opt.from, dropout = 0 } end
local plan = ft.plan {
  model = opt.plain and ft.hf { opt.model, compute = "fp32" } or ft.hf {
    opt.model, compute = "fp32", quantize = opt.quantize, added_tokens = { "<t>", "<u>" },
    special_tokens = { pad_token = "<pad>" }, vocab_multiple = opt.multiple, new_rows = opt.rows,
  },
  adapter = adapter and ft.lora(adapter) or nil, parallel = opt.parallel,
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 12, pack = false, shuffle = false } },
  optimizer = ft.sgd { lr = opt.lr, schedule = ft.constant {} },
  batch = { total = opt.total, micro = 1 }, epochs = 1000, max_steps = opt.steps, save = { dir = opt.out, every = opt.every },
}
)") + test::kTrainPlan;

Json gold() { return Json::parse(slurp(fs::path(ft_source_dir()) / "tests/golden/tokens.json")); }

/// The tokenizer of 40 ids: a to z, A to L, <s> and </s>.
Json tokenizer_json() {
  Json vocab = Json::object();
  for (int id = 0; id < 38; ++id) vocab[std::string(1, static_cast<char>(id < 26 ? 'a' + id : 'A' + id - 26))] = id;
  Json added = Json::array();
  for (const auto& [id, content] : {std::pair(38, "<s>"), std::pair(39, "</s>")}) {
    vocab[content] = id;
    added.push_back({{"id", id},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
}

/// A SentencePiece BPE of 40 ids: <unk>, <s>, </s>, the mark of a space, a to z, A to J.
std::string tokenizer_model() {
  const auto field = [](char number, const std::string& bytes) {
    return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
  };
  const auto piece = [&](const std::string& text, char type) { return field(1, field(1, text) + "\x18" + type); };
  std::string model = piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3) + piece("▁", 1);
  for (int id = 0; id < 36; ++id) model += piece({static_cast<char>(id < 26 ? 'a' + id : 'A' + id - 26)}, 1);
  return model + field(2, "\x18\x02");
}

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& file : fs::recursive_directory_iterator(folder))
    if (file.is_regular_file()) files[fs::relative(file, folder)] = slurp(file);
  return files;
}

std::vector<float> tensor(const fs::path& file, const std::string& name) {
  const SafetensorsFile tensors(file);
  const TensorEntry* entry = tensors.find(name);
  EXPECT_NE(entry, nullptr) << file << " " << name;
  if (!entry) return {};
  EXPECT_EQ(entry->dtype, DType::f32);
  std::vector<float> values(static_cast<size_t>(entry->numel()));
  tensors.read(*entry, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

class Tokens : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("FTENGINE_CACHE", (folder_ / "cache").c_str(), 1);
    std::string rows;
    const Json golden = gold();
    for (const Json& ids : golden.at("ids")) rows += Json{{"input_ids", ids}}.dump() + "\n";
    spill(folder_ / "rows.jsonl", rows);
    spill(folder_ / "train.lua", kRecipe);
    for (const char* name : {"untied", "tied"}) {
      copy_of(fs::path(ft_source_dir()) / "tests/golden/adapters" / (std::string("base_") + name), folder_ / name);
      spill(folder_ / name / "tokenizer.json", tokenizer_json().dump());
      spill(folder_ / name / "tokenizer_config.json",
            Json{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}}.dump());
    }
  }
  Finished ft(const std::vector<std::string>& words) { return run(words, folder_.path()); }
  Finished train(const std::string& model, const std::string& out, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"run", "train.lua", "--model=" + model, "--out=" + out};
    words.insert(words.end(), more.begin(), more.end());
    const Finished done = ft(words);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done;
  }
  fs::path merge(const std::string& out, const std::string& to, std::vector<std::string> more = {}) {
    std::vector<std::string> words{"merge", out, "-o", to};
    words.insert(words.end(), more.begin(), more.end());
    const Finished done = ft(words);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return folder_ / to;
  }
  std::vector<double> losses(const std::string& out) {
    std::vector<double> found;
    for (const Json& row : metrics(folder_ / out)) found.push_back(row.at("loss"));
    return found;
  }
  double eval(const std::string& of) {
    const Finished done = ft({"eval", of, "rows.jsonl", "--json", "--seq-len=12", "--compute=fp32"});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.exit_code == 0 ? Json::parse(done.out).at("loss").get<double>() : NAN;
  }
  void expect_losses(const std::string& out, const std::vector<double>& want, double bound = kLoss) {
    const std::vector<double> found = losses(out);
    ASSERT_EQ(found.size(), want.size()) << out;
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(found[i] / want[i], 1, bound) << out << " step " << i + 1;
  }
  static std::vector<double> gold_losses(const char* name) { return gold().at("cases").at(name).at("losses"); }

  TemporaryDirectory folder_;
};

TEST_F(Tokens, GrowTablesAsTransformersDoes) {
  for (const char* name : {"untied", "tied"}) {
    const auto before = contents(folder_ / name);
    const bool tied = std::string(name) == "tied";
    const int64_t size = gold().at("cases").at(name).at("size");
    const Finished done = train(name, "run_" + std::string(name), {tied ? "--multiple=32" : "--multiple=1"});
    EXPECT_THAT(done.out, HasSubstr("vocabulary: 3 new tokens: <pad> (40), <t> (41), <u> (42)"));
    EXPECT_THAT(
        done.out,
        HasSubstr(tied ? "the embedding, which is the head, grows from 40 rows to 64; new rows begin as the mean"
                       : "embedding and head grow from 40 rows to 43; new rows begin as the mean"));
    EXPECT_THAT(done.err, Not(HasSubstr("frozen")));
    expect_losses("run_" + std::string(name), gold_losses(name));
    const fs::path merged = merge("run_" + std::string(name), "merged_" + std::string(name));
    EXPECT_EQ(contents(folder_ / name), before) << "the model's folder is read alone";
    const std::vector<float> table = tensor(merged / "model.safetensors", "model.embed_tokens.weight");
    ASSERT_EQ(table.size(), static_cast<size_t>(size) * 16);
    const std::vector<float> want = gold().at("cases").at(name).at("row");
    for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(table[41 * 16 + i], want[i], 2e-6) << i;
    EXPECT_EQ(SafetensorsFile(merged / "model.safetensors").find("lm_head.weight") == nullptr, tied);
    EXPECT_EQ(Json::parse(slurp(merged / "config.json")).at("vocab_size"), size);
    EXPECT_NEAR(eval("run_" + std::string(name)), eval("merged_" + std::string(name)), 1e-6);
    // Loss and logits of the grown model after its steps are transformers'; the run's directory computes what the
    // merged one does.
    const fs::path values =
        fs::path(ft_source_dir()) / "tests/golden" / ("tokens_" + std::string(name) + ".safetensors");
    std::map<std::string, std::string> answers;
    for (const std::string& of : {"run_" + std::string(name), "merged_" + std::string(name)}) {
      const Finished parity = ft({"parity", of, "--reference", values.string()});
      EXPECT_EQ(parity.exit_code, 0) << parity.err;
      const Finished said = ft({"generate", of, "--prompt", "ab<t>c<u>", "--max-new-tokens", "8", "--compute", "fp32"});
      EXPECT_EQ(said.exit_code, 0) << said.err;
      answers[said.out] = of;
    }
    EXPECT_EQ(answers.size(), 1U);
    // The tokenizer is the edited one, in the run and in what is merged.
    for (const fs::path& at : {folder_ / ("run_" + std::string(name)), merged}) {
      const Finished ids =
          shell("echo '{\"text\": \"ab<t>c<u></s>\"}' | ftengine tokenize " + at.string(), folder_.path());
      EXPECT_THAT(ids.out, HasSubstr("[0, 1, 41, 2, 42, 39]")) << ids.err;
      EXPECT_EQ(Json::parse(slurp(at / "tokenizer_config.json")).at("pad_token"), "<pad>");
    }
  }
}

TEST_F(Tokens, JoinASentencePieceModel) {
  fs::remove(folder_ / "untied/tokenizer.json");
  fs::remove(folder_ / "untied/tokenizer_config.json");
  spill(folder_ / "untied/tokenizer.model", tokenizer_model());
  const auto before = contents(folder_ / "untied");
  const Finished done = train("untied", "run", {});
  EXPECT_THAT(done.out, HasSubstr("vocabulary: 3 new tokens: <pad> (40), <t> (41), <u> (42)"));
  EXPECT_THAT(done.out, HasSubstr("embedding and head grow from 40 rows to 43"));
  expect_losses("run", gold_losses("untied"));
  EXPECT_EQ(contents(folder_ / "untied"), before);
  const fs::path merged = merge("run", "merged"), adapter = folder_ / "adapter";
  train("untied", "lora", {"--kind=saved"});
  merge("lora", "adapter", {"--adapter-only"});
  for (const fs::path& at : {folder_ / "run", merged, adapter}) {
    const Finished ids =
        shell("echo '{\"text\": \"ab<t>c<u></s>\"}' | ftengine tokenize " + at.string(), folder_.path());
    EXPECT_THAT(ids.out, HasSubstr("[1, 3, 4, 5, 41, 3, 6, 42, 2]")) << at << ids.err;
    EXPECT_FALSE(fs::exists(at / "tokenizer.json"));
    const Json config = Json::parse(slurp(at / "tokenizer_config.json"));
    EXPECT_EQ(config.at("pad_token"), "<pad>");
    EXPECT_EQ(config.at("added_tokens_decoder").at("41").at("content"), "<t>");
  }
}

TEST_F(Tokens, BeginAlikeOnEveryLayout) {
  for (const char* rows : {"mean", "normal"}) {
    std::map<std::string, std::string> want;
    for (const auto& [name, ranks, profile] :
         {std::tuple("one", "1", "single"), std::tuple("four", "4", "fsdp2"), std::tuple("tp", "2", "tp"),
          std::tuple("ddp", "2", "ddp"), std::tuple("zero3", "2", "zero3")}) {
      if (std::string(rows) == "normal" && std::string(ranks) != "1" && std::string(profile) != "tp") continue;
      const std::string out = std::string(rows) + "_" + name;
      train("untied", out,
            {"--nproc", ranks, std::string("--parallel=") + profile, "--multiple=32", "--lr=1e-30", "--steps=1",
             "--total=4", std::string("--rows=") + rows});
      const fs::path merged = merge(out, out + "_merged");
      auto found = contents(merged);
      if (want.empty()) want = found;
      EXPECT_EQ(found.at("model.safetensors"), want.at("model.safetensors")) << out;
      const std::vector<float> head = tensor(merged / "model.safetensors", "lm_head.weight");
      ASSERT_EQ(head.size(), 64U * 16) << out;
      double mean = 0;
      for (size_t row = 0; row < 40; ++row) mean += head[row * 16];
      if (std::string(rows) == "mean")
        EXPECT_EQ(head[63 * 16], static_cast<float>(mean / 40));
      else
        EXPECT_NE(head[62 * 16], head[63 * 16]);
    }
  }
}

TEST_F(Tokens, TrainAlikeOnEveryLayout) {
  train("untied", "one", {"--multiple=32"});
  const std::vector<double> want = losses("one");
  for (const auto& [name, ranks, profile] : {std::tuple("two", "2", "fsdp2"), std::tuple("tp", "2", "tp")}) {
    train("untied", name, {"--nproc", ranks, std::string("--parallel=") + profile, "--multiple=32"});
    expect_losses(name, want);
  }
  // It stops after the first step, and goes on in another layout.
  train("untied", "half", {"--nproc", "2", "--parallel=zero3", "--multiple=32", "--steps=1"});
  train("untied", "half", {"--multiple=32", "--resume", "auto"});
  expect_losses("half", want);
}

TEST_F(Tokens, AreTrainedByWhatCoversThem) {
  for (const char* kind : {"lora", "saved", "embedding"}) {
    const std::string out = kind;
    const Finished done = train("untied", out, {std::string("--kind=") + kind});
    if (out == "lora") {
      EXPECT_THAT(done.err,
                  HasSubstr("rows of 3 new tokens, such as <pad>, are frozen in model.embed_tokens.weight and "
                            "lm_head.weight"));
      EXPECT_THAT(done.err, HasSubstr("modules_to_save = { \"embed_tokens\", \"lm_head\" }"));
    } else {
      EXPECT_THAT(done.err, Not(HasSubstr("frozen in")));
    }
    EXPECT_NEAR(losses(out)[0] / gold_losses("untied")[0], 1, kLoss) << "adapters begin at the grown model";
    merge(out, out + "_merged");
    EXPECT_NEAR(eval(out), eval(out + "_merged"), 2e-6) << out;
    // PEFT's names: what the base that it is put on has not.
    const fs::path adapter = merge(out, out + "_adapter", {"--adapter-only"});
    const std::string prefix = "base_model.model.";
    const std::string inside = out == "embedding" ? ".base_layer.weight" : ".weight";
    for (const char* module : {"model.embed_tokens", "lm_head"})
      EXPECT_EQ(tensor(adapter / "adapter_model.safetensors", prefix + module + inside).size(), 43U * 16) << out;
    EXPECT_TRUE(fs::exists(adapter / "tokenizer.json")) << "new tokens are known by it alone";
    // A run goes on from it.
    train("untied", out + "_on", {"--from=" + adapter.string(), "--steps=1"});
    EXPECT_NEAR(losses(out + "_on")[0] / eval(out), 1, kLoss) << out;
  }
  for (const char* kind : {"saved_tied", "embedding_tied"}) {
    train("tied", kind, {std::string("--kind=") + kind, "--multiple=32"});
    EXPECT_NEAR(losses(kind)[0] / gold_losses("tied")[0], 1, kLoss);
    merge(kind, std::string(kind) + "_merged");
    EXPECT_NEAR(eval(kind), eval(std::string(kind) + "_merged"), 2e-6) << kind;
  }
}

TEST_F(Tokens, GrowBesideAQuantizedBaseAndAFileMap) {
  spill(folder_ / "mmap.yaml", "frozen_weights: mmap\nweight_cache: " + (folder_ / "weights").string() + "\n");
  train("untied", "split", {"--kind=lora", "--quantize=nf4"});
  train("untied", "mapped", {"--kind=lora", "--quantize=nf4", "--parallel=mmap.yaml"});
  EXPECT_EQ(losses("split"), losses("mapped"));
  // Rows that begin otherwise are another file.
  train("untied", "drawn", {"--kind=lora", "--quantize=nf4", "--rows=normal"});
  train("untied", "drawn_mapped", {"--kind=lora", "--quantize=nf4", "--parallel=mmap.yaml", "--rows=normal"});
  EXPECT_EQ(losses("drawn"), losses("drawn_mapped"));
  EXPECT_NE(losses("drawn"), losses("split"));
  const Finished plan = ft({"plan", "train.lua", "--model=untied", "--kind=lora", "--nproc", "2"});
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("embedding and head grow from 40 rows to 43"));
}

TEST_F(Tokens, OfSpecialKindAreReconciled) {
  edit_json(folder_ / "untied/config.json", [](Json& json) {
    json["eos_token_id"] = 7;
    json["bos_token_id"] = 38;
  });
  spill(folder_ / "untied/generation_config.json",
        R"({"eos_token_id": [5, 7], "bos_token_id": 2, "pad_token_id": 3, "temperature": 2.0, "top_p": 1.0})");
  const Finished done = train("untied", "run", {"--steps=1"});
  EXPECT_THAT(done.err,
              HasSubstr("note: special tokens: eos is 39 (</s>) to the tokenizer, and config.json says 7 (h), "
                        "generation_config.json says 5 (f), 7 (h): the tokenizer's is taken and written, since "
                        "training ends texts with it"));
  EXPECT_THAT(
      done.err,
      HasSubstr("bos is 38 (<s>) to the tokenizer, and config.json says 38 (<s>), generation_config.json says 2 (c)"));
  EXPECT_THAT(done.err, HasSubstr("pad is 40 (<pad>) to the tokenizer, and generation_config.json says 3 (d)"));
  merge("run", "merged");
  for (const char* at : {"run", "merged"}) {
    const Json config = Json::parse(slurp(folder_ / at / "config.json"));
    const std::string text = slurp(folder_ / at / "generation_config.json");
    const Json generation = Json::parse(text);
    EXPECT_EQ(config.at("eos_token_id"), 39) << at;
    EXPECT_EQ(config.at("bos_token_id"), 38) << at;
    EXPECT_EQ(config.at("pad_token_id"), 40) << at << ": the plan names it";
    EXPECT_EQ(generation.at("eos_token_id"), (Json{39, 5, 7})) << at << ": each of them ends an answer";
    EXPECT_EQ(generation.at("bos_token_id"), 38) << at;
    EXPECT_EQ(generation.at("pad_token_id"), 40) << at;
    EXPECT_THAT(text, HasSubstr("\"temperature\": 2.0, \"top_p\": 1.0")) << at << ": floats stay floats";
  }
  // What agrees is not spoken of, and what a file does not say stays unsaid.
  std::string rows;
  for (int row = 0; row < 2; ++row) rows += Json{{"input_ids", {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}}.dump() + "\n";
  spill(folder_ / "rows.jsonl", rows);
  spill(folder_ / "tied/generation_config.json", R"({"eos_token_id": [39, 7]})");
  const Finished agreed = train("tied", "agreed", {"--plain=true", "--steps=1"});
  EXPECT_THAT(agreed.err, Not(HasSubstr("special tokens")));
  EXPECT_THAT(agreed.out, Not(HasSubstr("vocabulary:")));
  EXPECT_EQ(slurp(folder_ / "agreed/generation_config.json"), R"({"eos_token_id": [39, 7]})");
  EXPECT_EQ(Json::parse(slurp(folder_ / "agreed/config.json")).at("bos_token_id"), nullptr);
}

}  // namespace
}  // namespace ft::test
