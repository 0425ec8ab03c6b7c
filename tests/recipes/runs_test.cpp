// recipes/pretrain.lua and recipes/qlora_fsdp2.lua end to end, as a user runs them: what a run leaves behind, what can
// be done with it, and that its figures do not depend on chance or on the number of ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <thread>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::Contains;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::UnorderedElementsAre;

constexpr int kRanks = 2;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  return names;
}

/// Flags of every small run of the main recipe.
std::vector<std::string> qlora(const fs::path& recipe, std::vector<std::string> more = {}) {
  std::vector<std::string> words{"run",      recipe.string(), "--model=model", "--data=chats.jsonl",
                                 "--rank=2", "--lr=0.01",     "--seq_len=64",  "--epochs=2"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

double loss_of(const Finished& eval) {
  EXPECT_EQ(eval.exit_code, 0) << eval.err;
  return eval.exit_code == 0 ? Json::parse(eval.out).at("loss").get<double>() : NAN;
}

/// One pre-trained base, and one run of the main recipe on it, for all tests.
class Runs : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = folder_of_model();
    write_chats(*shared_ / "unseen.jsonl", 12);
    // fp32, so that ranks and merges can be compared sharply; saves often.
    exact_ = recipe("qlora_fsdp2.lua", shared_->path(),
                    {{"compute = \"auto\"", "compute = \"fp32\""}, {"every = 200", "every = 3"}});
    first_ = run(qlora(exact_), shared_->path());
    ASSERT_EQ(first_.exit_code, 0) << first_.err;
  }
  static void TearDownTestSuite() { shared_.reset(); }

  static const fs::path& folder() { return shared_->path(); }
  static fs::path run_directory() { return folder() / "runs/qlora_fsdp2-1"; }
  static Finished ft(const std::vector<std::string>& words) { return run(words, folder()); }
  static double loss(const std::string& dir) {
    return loss_of(ft({"eval", dir, "unseen.jsonl", "--json", "--compute=fp32"}));
  }

  static std::unique_ptr<TemporaryDirectory> shared_;
  static fs::path exact_;
  static Finished first_;
};
std::unique_ptr<TemporaryDirectory> Runs::shared_;
fs::path Runs::exact_;
Finished Runs::first_;

TEST_F(Runs, PretrainingEndsWithAHuggingFaceDirectory) {
  EXPECT_THAT(names_in(folder() / "model"),
              UnorderedElementsAre("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"));
  const auto rows = metrics(folder() / "base");
  ASSERT_GT(rows.size(), 3u);
  EXPECT_LT(rows.back().at("loss").get<double>(), rows.front().at("loss").get<double>());
  EXPECT_TRUE(rows.back().contains("val_loss"));
  // What it learned is in the directory, not what it began with.
  const double trained = loss_of(ft({"eval", "model", "corpus.jsonl", "--json"}));
  EXPECT_LT(trained, 0.8 * std::log(kVocabulary));
}

TEST_F(Runs, LeavesARecordOfItself) {
  EXPECT_THAT(names_in(run_directory()), testing::IsSupersetOf({"plan.json", "config.json", "adapter_config.json",
                                                                "tokenizer.json", "tokenizer_config.json", "run.json",
                                                                "metrics.jsonl", "log-rank0.txt", "log-rank1.txt"}));
  EXPECT_THAT(names_in(run_directory()), Not(Contains("lock")));
  const Json record = Json::parse(slurp(run_directory() / "run.json"));
  EXPECT_EQ(record.at("world_size"), kRanks);
  EXPECT_TRUE(record.at("versions").contains("ftengine"));
  EXPECT_TRUE(record.contains("seed"));
  EXPECT_FALSE(record.at("model_fingerprint").get<std::string>().empty());
  EXPECT_FALSE(record.at("data").at("train").at("xxh3").get<std::string>().empty());
  const std::vector<std::string> command = record.at("command");
  EXPECT_THAT(command, Contains("--lr=0.01"));
  const Json adapter = Json::parse(slurp(run_directory() / "adapter_config.json"));
  EXPECT_EQ(adapter.at("r"), 2);
  EXPECT_EQ(adapter.at("lora_alpha"), 4);
}

TEST_F(Runs, WritesARowOfMetricsAStep) {
  const auto rows = metrics(run_directory());
  ASSERT_GT(rows.size(), 5u);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].at("step"), i + 1);
    for (const char* key : {"loss", "grad_norm", "lr", "tokens", "seconds", "wait_gather", "wait_reduce",
                            "wait_offload", "wait_data", "peak_memory"})
      EXPECT_TRUE(rows[i].contains(key)) << key << " in " << rows[i];
    EXPECT_GT(rows[i].at("tokens"), 0);
    EXPECT_GT(rows[i].at("seconds"), 0);
    EXPECT_GT(rows[i].at("wait_offload"), 0);
    EXPECT_GT(rows[i].at("peak_memory"), 1'000'000);
  }
  EXPECT_LT(rows.back().at("loss").get<double>(), rows.front().at("loss").get<double>());
}

TEST_F(Runs, SaysAtTheStartWhatItWillDo) {
  for (const char* part : {"ranks        2", "layout", "memory per rank", "LoRA on      14 modules",
                           "trainable params: ", " || trainable%: ", "Loading & Quantizing Model Shards", "an epoch",
                           "tokens each", "of it offloaded to the host  ", "of it page-locked                  0 B"})
    EXPECT_THAT(first_.out, HasSubstr(part));
  EXPECT_EQ(first_.err, "");
}

TEST_F(Runs, KeepsTheNewestCheckpoints) {
  std::vector<std::string> checkpoints;
  for (const std::string& name : names_in(run_directory()))
    if (name.rfind("checkpoint-", 0) == 0) checkpoints.push_back(name);
  ASSERT_EQ(checkpoints.size(), 2u);  // the recipe's keep
  const std::string last = "checkpoint-" + std::to_string(metrics(run_directory()).size());
  EXPECT_THAT(checkpoints, Contains(last));
  EXPECT_THAT(
      names_in(run_directory() / last),
      UnorderedElementsAre("manifest.json", "shard-00000-of-00002.safetensors", "shard-00001-of-00002.safetensors"));
}

TEST_F(Runs, ItsLastLineMerges) {
  const size_t at = first_.out.rfind("ftengine merge ");
  ASSERT_NE(at, std::string::npos) << first_.out;
  const std::string line = first_.out.substr(at, first_.out.find('\n', at) - at);
  const Finished merged = shell(line, folder());
  ASSERT_EQ(merged.exit_code, 0) << line << "\n" << merged.err;
  const std::string step = std::to_string(metrics(run_directory()).size());
  const std::string made = "runs/qlora_fsdp2-1/merged-" + step;  // the newest checkpoint
  EXPECT_THAT(merged.out, HasSubstr(made + ": "));
  EXPECT_THAT(merged.out, HasSubstr("LoRA folded into 14 linears"));
  const double before = loss("model"), after = loss(made);
  EXPECT_LT(after, before - 0.02);
  EXPECT_FALSE(Json::parse(slurp(folder() / made / "config.json")).contains("quantization_config"));
  // Given again, it overwrites nothing.
  const Finished again = shell(line, folder());
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr(made));
}

TEST_F(Runs, MergedOverTheDequantizedBaseItIsTheModelThatWasTrained) {
  ASSERT_EQ(
      ft({"merge", "runs/qlora_fsdp2-1", "--base", "dequantized", "--dtype", "fp32", "-o", "dequantized"}).exit_code,
      0);
  const double quantized = loss("runs/qlora_fsdp2-1"), merged = loss("dequantized"), base = loss("model");
  EXPECT_NEAR(merged, quantized, 1e-5 * quantized);
  EXPECT_GT(std::abs(base - quantized), 0.02);  // so that being near says something
  ASSERT_EQ(ft({"merge", "runs/qlora_fsdp2-1", "--dtype", "fp32", "-o", "original"}).exit_code, 0);
  EXPECT_GT(std::abs(loss("original") - quantized), 1e-5 * quantized);  // quantization moves more than the gate
}

TEST_F(Runs, AnAdapterAloneIsWhatPeftReads) {
  const Finished made = ft({"merge", "runs/qlora_fsdp2-1", "--adapter-only", "-o", "adapter"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_THAT(names_in(folder() / "adapter"), UnorderedElementsAre("adapter_config.json", "adapter_model.safetensors"));
  const Json config = Json::parse(slurp(folder() / "adapter/adapter_config.json"));
  EXPECT_EQ(config.at("peft_type"), "LORA");
  EXPECT_THAT(slurp(folder() / "adapter/adapter_model.safetensors"),
              HasSubstr("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"));
  // Put on the base that it was not quantized with, it is the merged model.
  ASSERT_EQ(ft({"merge", "runs/qlora_fsdp2-1", "--dtype", "fp32", "-o", "folded"}).exit_code, 0);
  const auto evaluated = [](std::vector<std::string> flags) {
    flags.insert(flags.begin() + 2, {"unseen.jsonl", "--json", "--compute=fp32"});
    return loss_of(ft(flags));
  };
  const double folded = loss("folded");
  EXPECT_NEAR(evaluated({"eval", "model", "--adapter=adapter"}), folded, 1e-5 * folded);
  EXPECT_GT(std::abs(loss("model") - folded), 1e-2);
  EXPECT_EQ(ft({"eval", "runs/qlora_fsdp2-1", "unseen.jsonl", "--adapter=adapter"}).exit_code, 1);
}

TEST_F(Runs, AreMeasuredWhereverTheirBaseLiesNow) {
  copy_of(folder() / "model", folder() / "moved");
  fs::copy(run_directory(), folder() / "astray", fs::copy_options::recursive);
  edit_json(folder() / "astray/plan.json", [](Json& plan) { plan["model"]["dir"] = "/nowhere"; });
  const Finished lost = ft({"eval", "astray", "unseen.jsonl"});
  EXPECT_EQ(lost.exit_code, 1);
  EXPECT_THAT(lost.err, HasSubstr("/nowhere"));
  EXPECT_EQ(loss_of(ft({"eval", "astray", "unseen.jsonl", "--json", "--compute=fp32", "--model=moved"})),
            loss("runs/qlora_fsdp2-1"));
}

TEST_F(Runs, ACheckpointWithoutItsManifestIsNone) {
  const std::string last = "checkpoint-" + std::to_string(metrics(run_directory()).size());
  fs::copy(run_directory(), folder() / "torn", fs::copy_options::recursive);
  fs::remove(folder() / "torn" / last / "manifest.json");
  const Finished older = ft({"merge", "torn", "-o", "from_older"});
  EXPECT_EQ(older.exit_code, 0) << older.err;
  EXPECT_THAT(older.out, Not(HasSubstr("step " + last.substr(11) + ",")));
  const Finished named = ft({"merge", "torn/" + last, "-o", "from_torn"});
  EXPECT_EQ(named.exit_code, 1);
  EXPECT_THAT(named.err, HasSubstr("manifest"));
  EXPECT_FALSE(fs::exists(folder() / "from_torn"));
  for (const std::string& name : names_in(folder() / "torn"))
    if (name.rfind("checkpoint-", 0) == 0) fs::remove(folder() / "torn" / name / "manifest.json");
  EXPECT_EQ(ft({"merge", "torn", "-o", "from_none"}).exit_code, 1);
  EXPECT_EQ(ft({"eval", "torn", "unseen.jsonl"}).exit_code, 1);
}

TEST_F(Runs, GivenAgainTheyTakeAFreshDirectoryAndTheSameFigures) {
  const Finished again = ft(qlora(exact_));
  ASSERT_EQ(again.exit_code, 0) << again.err;
  const auto one = metrics(run_directory()), two = metrics(folder() / "runs/qlora_fsdp2-2");
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].at("loss").get<double>(), two[i].at("loss").get<double>()) << "step " << i + 1;
    EXPECT_EQ(one[i].at("grad_norm").get<double>(), two[i].at("grad_norm").get<double>()) << "step " << i + 1;
  }
}

TEST_F(Runs, OneRankGivesTheLossesOfTwo) {
  ASSERT_EQ(ft(qlora(exact_, {"--nproc=1", "--out=alone"})).exit_code, 0);
  const auto two = metrics(run_directory()), one = metrics(folder() / "alone");
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < one.size(); ++i) {
    const double wanted = one[i].at("loss");
    EXPECT_NEAR(two[i].at("loss").get<double>(), wanted, 1e-5 * wanted) << "step " << i + 1;
    EXPECT_EQ(one[i].at("tokens"), two[i].at("tokens"));
  }
}

TEST_F(Runs, TheGatesAboveNoticeAWrongSumAndAnotherSeed) {
  const std::vector<std::pair<std::string, std::string>> plants[] = {
      {{"run:sum(window:tokens())", "window:tokens()"}}, {{"epochs   = opt.epochs", "seed = 7, epochs = opt.epochs"}}};
  const double wanted = metrics(run_directory()).at(3).at("loss");
  for (auto planted : plants) {
    planted.insert(planted.end(), {{"compute = \"auto\"", "compute = \"fp32\""}});
    const TemporaryDirectory other;
    ASSERT_EQ(
        ft(qlora(recipe("qlora_fsdp2.lua", other.path(), planted), {"--out=" + (other / "run").string()})).exit_code,
        0);
    EXPECT_GT(std::abs(metrics(other / "run").at(3).at("loss").get<double>() - wanted), 1e-4 * wanted);
  }
}

TEST_F(Runs, ADirectoryThatHoldsARunIsRefused) {
  const std::string before = slurp(run_directory() / "metrics.jsonl");
  const Finished refused = ft(qlora(exact_, {"--out=runs/qlora_fsdp2-1"}));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("holds a run already"));
  EXPECT_THAT(refused.err, HasSubstr("qlora_fsdp2-1"));
  EXPECT_EQ(slurp(run_directory() / "metrics.jsonl"), before);
}

TEST_F(Runs, AResumedRunEqualsTheUninterruptedOneToTheBit) {
  // As if the run had been killed after its last checkpoint but one: rows and checkpoints of later steps are done
  // again.
  const fs::path cut = folder() / "cut";
  fs::copy(run_directory(), cut, fs::copy_options::recursive);
  const auto newest = [](const fs::path& run) {
    fs::path last;
    for (const std::string& name : names_in(run))
      if (name.rfind("checkpoint-", 0) == 0 &&
          (last.empty() || std::stoi(name.substr(11)) > std::stoi(last.filename().string().substr(11))))
        last = run / name;
    return last;
  };
  const fs::path last = newest(cut);
  fs::remove_all(last);
  ASSERT_FALSE(newest(cut).empty());
  const Finished resumed = ft(qlora(exact_, {"--out=cut", "--resume=auto"}));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("going on from " + (cut / "checkpoint-").string()));
  const auto whole = metrics(run_directory()), joined = metrics(cut);
  ASSERT_EQ(whole.size(), joined.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(whole[i].at("step"), joined[i].at("step"));
    EXPECT_EQ(whole[i].at("loss").get<double>(), joined[i].at("loss").get<double>()) << "step " << i + 1;
    EXPECT_EQ(whole[i].at("grad_norm").get<double>(), joined[i].at("grad_norm").get<double>()) << "step " << i + 1;
  }
  for (const char* shard : {"shard-00000-of-00002.safetensors", "shard-00001-of-00002.safetensors"})
    EXPECT_EQ(slurp(last / shard), slurp(newest(run_directory()) / shard)) << "masters and optimizer state";
}

TEST_F(Runs, ResumingRefusesWhatDoesNotFit) {
  const Finished nowhere = ft(qlora(exact_, {"--resume=nowhere"}));
  EXPECT_EQ(nowhere.exit_code, 1);
  EXPECT_THAT(nowhere.err, HasSubstr("is neither a run directory, nor a checkpoint in one"));
  const Finished no_directory = ft(qlora(exact_, {"--resume=auto"}));
  EXPECT_EQ(no_directory.exit_code, 1);
  EXPECT_THAT(no_directory.err, HasSubstr("give it with --out DIR"));
  const std::string before = slurp(run_directory() / "metrics.jsonl");
  const Finished other_rank = ft(qlora(exact_, {"--rank=3", "--resume=runs/qlora_fsdp2-1"}));
  EXPECT_EQ(other_rank.exit_code, 1);
  EXPECT_THAT(other_rank.err, HasSubstr("adapter.r: got 3, but "));
  EXPECT_EQ(slurp(run_directory() / "metrics.jsonl"), before);

  // Where no plan tells, the tensors do.
  const fs::path planless = run_directory().parent_path() / "planless";
  fs::copy(run_directory(), planless, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  fs::remove(planless / "plan.json");
  const Finished other_tensors = ft(qlora(exact_, {"--rank=3", "--resume=runs/planless"}));
  EXPECT_EQ(other_tensors.exit_code, 1);
  EXPECT_THAT(other_tensors.err, HasSubstr("is a checkpoint of another model or adapter"));
  EXPECT_THAT(other_tensors.err, HasSubstr("lora_A.weight (saved [2, "));
}

/// A run that goes on until it is told to stop, and has saved nothing yet.
class Interrupted : public Runs {
 protected:
  void start() {
    const fs::path endless = recipe("qlora_fsdp2.lua", where_.path(), {{"compute = \"auto\"", "compute = \"fp32\""}});
    program_ = std::make_unique<Program>(qlora(endless, {"--epochs=10000", "--out=" + out().string()}), folder());
    for (int i = 0; i < 3000 && rows() < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ASSERT_GE(rows(), 2u);
  }
  size_t rows() const {
    const std::string text = slurp(out() / "metrics.jsonl");
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  fs::path out() const { return where_ / "run"; }

  TemporaryDirectory where_;
  std::unique_ptr<Program> program_;
};

TEST_F(Interrupted, FinishesItsStepAndSaves) {
  start();
  // Everything that merging needs is there before the end, and nobody else may write here.
  EXPECT_THAT(names_in(out()), testing::IsSupersetOf({"plan.json", "config.json", "adapter_config.json",
                                                      "tokenizer.json", "run.json", "lock"}));
  const Finished second = ft(qlora(exact_, {"--out=" + out().string()}));
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, HasSubstr("another run is at work here"));

  program_->signal(SIGINT);
  const Finished stopped = program_->wait();
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_THAT(stopped.out, ContainsRegex("stopped after step [0-9]+; saved .*checkpoint-[0-9]+"));
  EXPECT_THAT(names_in(out()), Not(Contains("lock")));
  const auto steps = metrics(out());
  const std::string last = std::to_string(steps.size());
  EXPECT_THAT(names_in(out()), Contains("checkpoint-" + last));
  const Finished merged = ft({"merge", out().string()});
  EXPECT_EQ(merged.exit_code, 0) << merged.err;
  EXPECT_THAT(merged.out, HasSubstr("step " + last + ","));
}

TEST_F(Interrupted, TwiceStopsAtOnceAndLeavesNothingTorn) {
  start();
  program_->signal(SIGINT);
  program_->signal(SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  program_->signal(SIGINT);
  const Finished stopped = program_->wait();
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  for (const std::string& name : names_in(out()))
    if (name.rfind("checkpoint-", 0) == 0) {
      EXPECT_EQ(ft({"eval", (out() / name).string(), "unseen.jsonl"}).exit_code, 0);
    }
}

}  // namespace
}  // namespace ft::test
