// What must not change a run: doing it again, to the bit; how a step's rows are dealt to micro batches, packed into
// rows or laid out, to the gates of docs/numerics.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using Replaced = std::vector<std::pair<std::string, std::string>>;

double worst(const std::vector<Json>& a, const std::vector<Json>& b) {
  double most = a.size() == b.size() && !a.empty() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double one = a[i].at("loss"), other = b[i].at("loss");
    most = std::max(most, std::abs(one - other) / one);
  }
  return most;
}

double first_norms(const std::vector<Json>& a, const std::vector<Json>& b) {
  const double one = a.at(0).at("grad_norm"), other = b.at(0).at("grad_norm");
  return std::abs(one - other) / one;
}

class Exact : public testing::Test {
 protected:
  static void SetUpTestSuite() { shared_ = folder_of_model(); }
  static void TearDownTestSuite() { shared_.reset(); }

  /// Runs a recipe in a directory of its own, in fp32 or as told. @return its rows of metrics.jsonl
  static std::vector<Json> rows_of(const std::string& name, const std::string& out, std::vector<std::string> more,
                                   Replaced replaced = {}) {
    replaced.emplace_back("compute = \"auto\"", "compute = \"" + compute_ + "\"");
    fs::create_directories(*shared_ / out);
    const fs::path made = recipe(name + ".lua", *shared_ / out, replaced);
    std::vector<std::string> words{"run",          made.string(),          "--model=model", "--data=chats.jsonl",
                                   "--seq_len=64", "--out=" + out + "/run"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished done = run(words, shared_->path());
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.exit_code == 0 ? metrics(*shared_ / out / "run") : std::vector<Json>();
  }

  static std::unique_ptr<TemporaryDirectory> shared_;
  static std::string compute_;
};
std::unique_ptr<TemporaryDirectory> Exact::shared_;
std::string Exact::compute_ = "fp32";

class Fp16 : public Exact {
 protected:
  void SetUp() override { compute_ = "fp16"; }
  void TearDown() override { compute_ = "fp32"; }
  /// Twelve steps of recipes/full.lua on two ranks.   @param plan keys to add
  static std::vector<Json> twelve(const std::string& out, const std::string& plan, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--lr=1e-3", "--nproc=2", "--epochs=10"});
    return rows_of(
        "full", out, more,
        {{"epochs    = opt.epochs", "epochs = opt.epochs, max_steps = 12" + plan}, {"every = 200", "every = 5"}});
  }
};

TEST_F(Fp16, LosesNothingButRounding) {
  const auto half = twelve("half", "");
  compute_ = "fp32";
  const auto single = twelve("single", "");
  ASSERT_EQ(half.size(), 12u);
  EXPECT_LE(worst(single, half), 2e-3);
  EXPECT_LE(first_norms(single, half), 1e-2);
  EXPECT_LT(half.back().at("loss").get<double>(), half.front().at("loss").get<double>());
  EXPECT_EQ(half.back().at("loss_scale"), 65536);
  EXPECT_FALSE(half.back().contains("skipped_steps"));
  EXPECT_FALSE(single.back().contains("loss_scale"));
}

TEST_F(Fp16, SkipsStepsThatOverflowAndHalvesTheScale) {
  const auto rows = twelve("overflow", ", loss_scale = { init = 2^22, growth_interval = 3 }");
  ASSERT_EQ(rows.size(), 12u);
  double scale = std::pow(2.0, 22);
  int64_t skipped = 0, finite = 0, steps = 0;
  for (const Json& row : rows) {
    const int64_t so_far = row.value("skipped_steps", int64_t{0});
    if (so_far > skipped) {
      EXPECT_EQ(so_far, skipped + 1);
      EXPECT_TRUE(row.at("grad_norm").is_null());  // not a number
      scale /= 2, finite = 0;
    } else if (++steps, ++finite == 3) {
      scale *= 2, finite = 0;
    }
    skipped = so_far;
    EXPECT_EQ(row.at("loss_scale").get<double>(), scale) << row;
    EXPECT_TRUE(std::isfinite(row.at("loss").get<double>()));
  }
  EXPECT_GE(skipped, 2);
  EXPECT_GE(steps, 6);
  EXPECT_EQ(rows[0].value("skipped_steps", 0), 1);
  EXPECT_LT(rows.back().at("loss").get<double>(), rows.front().at("loss").get<double>());
}

TEST_F(Fp16, ResumesWithItsScaleAndCount) {
  const std::string plan = ", loss_scale = { init = 2^22, growth_interval = 3 }";
  const auto whole = twelve("resumed", plan);
  const fs::path out = *shared_ / "resumed/run", last = out / "checkpoint-12";
  const std::string shard = "shard-00001-of-00002.safetensors", bytes = slurp(last / shard);
  fs::remove_all(last);
  const auto joined = twelve("resumed", plan, {"--resume=auto"});
  ASSERT_EQ(whole.size(), joined.size());
  for (size_t i = 0; i < whole.size(); ++i)
    for (const char* key : {"loss", "loss_scale", "skipped_steps"})
      EXPECT_EQ(whole[i].value(key, 0.0), joined[i].value(key, 0.0)) << key << ", step " << i + 1;
  EXPECT_TRUE(bytes == slurp(last / shard));
}

TEST_F(Exact, TwoRunsOfOneSeedWriteTheSameBytes) {
  const std::vector<std::string> flags{"--rank=2", "--lr=0.01", "--nproc=2"};
  const auto one = rows_of("qlora_fsdp2", "one", flags), two = rows_of("qlora_fsdp2", "two", flags);
  ASSERT_EQ(one.size(), two.size());
  ASSERT_GT(one.size(), 2u);
  for (size_t i = 0; i < one.size(); ++i)
    for (const char* key : {"loss", "grad_norm"})
      EXPECT_EQ(one[i].at(key).get<double>(), two[i].at(key).get<double>()) << key << ", step " << i + 1;
  const std::string last = "run/checkpoint-" + std::to_string(one.size());
  for (const char* shard : {"shard-00000-of-00002.safetensors", "shard-00001-of-00002.safetensors"}) {
    const std::string bytes = slurp(*shared_ / "one" / last / shard);
    EXPECT_GT(bytes.size(), 1000u);
    EXPECT_TRUE(bytes == slurp(*shared_ / "two" / last / shard)) << shard;
  }
  // Dropout takes part: without it, other figures.
  const auto none = rows_of("qlora_fsdp2", "none", flags, {{"dropout = 0.05", "dropout = 0.0"}});
  EXPECT_NE(one.back().at("loss").get<double>(), none.back().at("loss").get<double>());
}

TEST_F(Exact, MicroBatchesAndAccumulationDoNotShow) {
  // Sixteen rows a step: four at once four times, one at once sixteen times, and on two ranks eight times.
  const auto flags = [](const char* micro, const char* nproc) {
    return std::vector<std::string>{"--lr=1e-3", "--rows=16", std::string("--micro=") + micro, "--epochs=10",
                                    std::string("--nproc=") + nproc};
  };
  const Replaced ten{{"epochs    = opt.epochs", "epochs = opt.epochs, max_steps = 10"}};
  const auto by_four = rows_of("full", "by_four", flags("4", "1"), ten);
  ASSERT_EQ(by_four.size(), 10u);
  for (const auto& [micro, nproc] : {std::pair{"1", "1"}, {"16", "1"}, {"1", "2"}, {"4", "2"}}) {
    const auto other = rows_of("full", std::string("by_") + micro + "_on_" + nproc, flags(micro, nproc), ten);
    ASSERT_EQ(other.size(), 10u);
    EXPECT_LE(first_norms(by_four, other), 1e-6) << micro << " on " << nproc;
    EXPECT_LE(worst(by_four, other), 1.3e-6) << micro << " on " << nproc;
  }
  // The gates notice a loss that is averaged over micro batches instead of tokens.
  Replaced planted = ten;
  planted.emplace_back("run:backward(batch, tokens)", "run:backward(batch, window:tokens() * 1.0001)");
  const auto wrong = rows_of("full", "wrong", flags("4", "1"), planted);
  EXPECT_GT(first_norms(by_four, wrong), 1e-6);
  EXPECT_GT(worst(by_four, wrong), 1.3e-6);
}

TEST_F(Exact, DropoutDoesNotSeeMicroBatches) {
  const auto four = rows_of("lora", "lora_four", {"--rank=2", "--lr=0.001", "--micro=4"});
  const auto one = rows_of("lora", "lora_one", {"--rank=2", "--lr=0.001", "--micro=1"});
  EXPECT_LE(first_norms(four, one), 1e-6);
  EXPECT_LE(worst(four, one), 1.3e-6);
}

TEST_F(Exact, PackedRowsTrainAsPaddedOnes) {
  // A step is all of the data, so that both see the same documents in it.
  const std::vector<std::string> flags{"--lr=1e-3", "--rows=8", "--micro=4", "--epochs=10", "--nproc=1"};
  const std::string train = "seq_len = opt.seq_len, pack = true, split = \"train\"";
  const Replaced packed{{train, "seq_len = opt.seq_len, pack = true, split = \"train\", limit = 8"}};
  const Replaced padded{{train, "seq_len = opt.seq_len, pack = false, split = \"train\", limit = 8"}};
  const Replaced fewer{{train, "seq_len = opt.seq_len, pack = false, split = \"train\", limit = 7"}};
  const auto one = rows_of("full", "packed", flags, packed), other = rows_of("full", "padded", flags, padded);
  ASSERT_EQ(one.size(), 10u);
  EXPECT_EQ(one[0].at("tokens"), other.at(0).at("tokens"));
  EXPECT_LE(first_norms(one, other), 1e-5);
  EXPECT_LE(worst(one, other), 1e-5);
  EXPECT_GT(worst(one, rows_of("full", "fewer", flags, fewer)), 1e-5);
}

TEST_F(Exact, RowsSplitOverRanksTrainAsWholeOnes) {
  const std::string train = "seq_len = opt.seq_len, pack = true, split = \"train\"";
  const Replaced packed{{"epochs    = opt.epochs", "epochs = opt.epochs, max_steps = 10"},
                        {"every = 200", "every = 5"}};
  Replaced padded = packed;
  padded.emplace_back(train, "seq_len = opt.seq_len, pack = false, split = \"train\"");
  const auto flags = [](const char* nproc, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--lr=1e-3", "--rows=8", "--micro=4", "--epochs=10", std::string("--nproc=") + nproc});
    return more;
  };
  const auto split = [&](const char* method) {
    return flags("2",
                 {"--set=parallel.sequence_parallel_degree=2", std::string("--set=parallel.context_method=") + method});
  };
  for (const auto& [name, replaced] : {std::pair{"packed", packed}, {"padded", padded}}) {
    const std::string out = std::string("split_") + name;
    const auto one = rows_of("full", out + "_one", flags("1"), replaced);
    ASSERT_EQ(one.size(), 10u);
    for (const char* method : {"ring", "ulysses"}) {
      const auto two = rows_of("full", out + "_" + method, split(method), replaced);
      ASSERT_EQ(two.size(), 10u);
      EXPECT_EQ(one[0].at("tokens"), two[0].at("tokens"));
      EXPECT_LE(first_norms(one, two), 1e-5);
      EXPECT_LE(worst(one, two), 1e-5);
      const double whole = one[9].at("val_loss"), parts = two[9].at("val_loss");
      EXPECT_LE(std::abs(whole - parts) / whole, 1e-5);
    }
    // Goes on to the bit from the middle.
    const fs::path run_directory = *shared_ / (out + "_ring") / "run", last = run_directory / "checkpoint-10";
    const auto before = metrics(run_directory);
    const std::string shard = "shard-00001-of-00002.safetensors", bytes = slurp(last / shard);
    fs::remove_all(last);
    auto again = split("ring");
    again.push_back("--resume=auto");
    rows_of("full", out + "_ring", again, replaced);
    EXPECT_TRUE(bytes == slurp(last / shard));
    EXPECT_EQ(worst(before, metrics(run_directory)), 0);
  }
}

TEST_F(Exact, GoesOnFromOlderCheckpointsAndRefusesNewerOnes) {
  const std::vector<std::string> flags{"--rank=2", "--lr=0.01", "--nproc=2", "--epochs=10"};
  const Replaced often{{"epochs    = opt.epochs", "epochs = opt.epochs, max_steps = 12"}, {"every = 200", "every = 5"}};
  const auto whole = rows_of("lora", "older", flags, often);
  ASSERT_EQ(whole.size(), 12u);
  const fs::path out = *shared_ / "older/run", middle = out / "checkpoint-10", last = out / "checkpoint-12";
  const auto with = [&](const std::string& resume) {
    std::vector<std::string> words{"run",
                                   (*shared_ / "older/lora.lua").string(),
                                   "--model=model",
                                   "--data=chats.jsonl",
                                   "--seq_len=64",
                                   "--out=older/run",
                                   "--resume=" + resume};
    words.insert(words.end(), flags.begin(), flags.end());
    return run(words, shared_->path());
  };
  // As the first ftengine wrote them: nothing about loss scales and skipped steps.
  edit_json(middle / "manifest.json", [](Json& manifest) {
    EXPECT_EQ(manifest.at("format_version"), 1);
    EXPECT_EQ(manifest.at("header").erase("loss_scale"), 1u);
    EXPECT_EQ(manifest.at("header").erase("skipped_steps"), 1u);
  });
  const std::string shard = "shard-00000-of-00002.safetensors", bytes = slurp(last / shard);
  fs::remove_all(last);
  const Finished done = with("older/run/checkpoint-10");
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const auto joined = metrics(out);
  ASSERT_EQ(joined.size(), whole.size());
  for (size_t i = 0; i < whole.size(); ++i)
    EXPECT_EQ(whole[i].at("loss").get<double>(), joined[i].at("loss").get<double>()) << "step " << i + 1;
  EXPECT_TRUE(bytes == slurp(last / shard));

  edit_json(last / "manifest.json", [](Json& manifest) { manifest["format_version"] = 99; });
  for (const char* resume : {"auto", "older/run/checkpoint-12"}) {
    const Finished refused = with(resume);
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_THAT(refused.err, testing::HasSubstr("has checkpoint format 99, this ftengine reads up to 2"));
    EXPECT_THAT(refused.err, testing::HasSubstr("checkpoint-12/manifest.json"));
  }
}

}  // namespace
}  // namespace ft::test
