// When a run saves, and what it keeps: at the end of an epoch, by the clock, on SIGUSR1 and SIGTERM; links to the
// latest and the best checkpoint; whole tensors in one file, weights alone; and what goes on from each of them, on any
// number of ranks, at its place in the data.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <thread>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kRecipe = R"(local ft = require "ft"
local opt = ft.options {
  out = { "output", default = "runs/saves" }, every = { "integer", default = 0 }, steps = { "integer", default = 8 },
  per_epoch = { "integer", default = nil }, minutes = { "number", default = nil }, keep = { "integer", default = 20 },
  limit = { "integer", default = 40 }, remainder = { "string", default = "pad" }, only = { "boolean", default = false },
  type = { "string", default = "SHARDED_STATE_DICT" }, rate = { "number", default = 1e-3 },
  stage = { "integer", default = 3 }, seq_len = { "integer", default = 32 },
}
local plan = ft.plan {
  model = ft.scratch { "parts/config.json", tokenizer = "parts", compute = "fp32" },
  data = { train = ft.completion { "corpus.jsonl", seq_len = opt.seq_len, pack = true, limit = opt.limit,
                                   remainder = opt.remainder },
           val = ft.completion { "val.jsonl", seq_len = 32, pack = true } },
  parallel = ft.fsdp2 { zero_stage = opt.stage },
  optimizer = ft.adamw { lr = opt.rate, schedule = ft.constant {} },
  batch = { total = 4, micro = 1 },
  max_steps = opt.steps,
  save = { dir = opt.out, every = opt.every, per_epoch = opt.per_epoch, every_minutes = opt.minutes, keep = opt.keep,
           state_dict_type = opt.type, save_only_model = opt.only },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm }
  --AFTER
end
run:finish()
)";

class Saves : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = folder_of_parts();
    write_corpus(*shared_ / "val.jsonl", 12);
  }
  static void TearDownTestSuite() { shared_.reset(); }

  static fs::path folder() { return shared_->path(); }
  static std::vector<std::string> words(int ranks, const std::string& out, std::vector<std::string> more,
                                        const std::string& after = "") {
    std::string text = kRecipe;
    text.replace(text.find("--AFTER"), 7, after);
    spill(folder() / "saves.lua", text);
    std::vector<std::string> all{"run", (folder() / "saves.lua").string(), "--nproc=" + std::to_string(ranks)};
    if (!out.empty()) all.push_back("--out=" + (folder() / out).string());
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static Finished train(const std::string& out, int ranks, std::vector<std::string> more = {},
                        const std::string& after = "") {
    return run(words(ranks, out, std::move(more), after), folder());
  }
  static Finished ft(const std::vector<std::string>& command) { return run(command, folder()); }
  static std::vector<std::string> checkpoints(const std::string& out) {
    std::vector<std::string> names;
    std::error_code absent;
    for (const auto& entry : fs::directory_iterator(folder() / out, absent))
      if (!entry.is_symlink() && fs::exists(entry.path() / "manifest.json")) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  static std::string linked(const std::string& out, const char* link) {
    const fs::path path = folder() / out / link;
    return fs::is_symlink(path) ? fs::read_symlink(path).string() : "";
  }
  static Json header(const fs::path& checkpoint) {
    return Json::parse(slurp(folder() / checkpoint / "manifest.json")).at("header");
  }
  template <class Done>
  static void wait_until(const Done& done) {
    for (int i = 0; i < 3000 && !done(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ASSERT_TRUE(done());
  }
  static size_t steps_of(const std::string& out) {
    const std::string text = slurp(folder() / out / "metrics.jsonl");
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }

  static std::unique_ptr<TemporaryDirectory> shared_;
};
std::unique_ptr<TemporaryDirectory> Saves::shared_;

constexpr const char* kMeasure = "run:log { step = step, val_loss = run:evaluate('val').loss }";

TEST_F(Saves, TheEndOfAnEpochIsMet) {
  // Eleven rows are two steps of four: the last three are left out.
  ASSERT_EQ(train("epochs", 1, {"--per_epoch=1", "--remainder=drop", "--limit=11", "--steps=7"}).exit_code, 0);
  EXPECT_THAT(checkpoints("epochs"), ElementsAre("checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-7"));
  EXPECT_EQ(header("epochs/checkpoint-6").at("data"), Json({{"epoch", 3}, {"window", 0}}));
  ASSERT_EQ(train("halves", 1, {"--per_epoch=2", "--remainder=drop", "--limit=17", "--steps=8"}).exit_code, 0);
  EXPECT_THAT(checkpoints("halves"), ElementsAre("checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8"));
}

TEST_F(Saves, TheClockAsksForThem) {
  ASSERT_EQ(train("clock", 2, {"--minutes=0.00001"}).exit_code, 0);  // all steps take longer
  EXPECT_GE(checkpoints("clock").size(), 4u);
  ASSERT_EQ(train("no_clock", 2, {"--minutes=600"}).exit_code, 0);
  EXPECT_THAT(checkpoints("no_clock"), ElementsAre("checkpoint-8"));
}

TEST_F(Saves, TheBestAndTheLatestAreLinkedAndStay) {
  // At this rate the loss falls, and then goes up again and again.
  const std::vector<std::string> flags{"--every=1", "--keep=1", "--rate=0.05"};
  ASSERT_EQ(train("best", 2, flags, kMeasure).exit_code, 0);
  const auto rows = metrics(folder() / "best");
  ASSERT_EQ(rows.size(), 8u);
  size_t best = 0;
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].at("val_loss").get<double>() < rows[best].at("val_loss").get<double>()) best = i;
  ASSERT_LT(best + 1, rows.size()) << "the last one would stay anyhow";
  const std::string name = "checkpoint-" + std::to_string(best + 1);
  EXPECT_EQ(linked("best", "best"), name);
  EXPECT_EQ(linked("best", "latest"), "checkpoint-8");
  EXPECT_THAT(checkpoints("best"), ElementsAre(name, "checkpoint-8"));
  EXPECT_EQ(header("best/best").at("val_loss"), rows[best].at("val_loss"));

  const Finished merged = ft({"merge", "best/best"});
  EXPECT_EQ(merged.exit_code, 0) << merged.err;
  EXPECT_THAT(merged.out, HasSubstr("merged-" + std::to_string(best + 1)));
  const auto loss_of = [&](const char* of) {
    const Finished measured = ft({"eval", of, "val.jsonl", "--json", "--compute=fp32"});
    EXPECT_EQ(measured.exit_code, 0) << measured.err;
    return measured.exit_code == 0 ? Json::parse(measured.out).at("loss").get<double>() : 0;
  };
  EXPECT_LT(loss_of("best/best"), loss_of("best/latest"));
  EXPECT_EQ(loss_of("best/latest"), loss_of("best"));
  EXPECT_EQ(ft({"generate", "best/best", "--prompt=one", "--max-new-tokens=2"}).exit_code, 0);

  // Going on from the best one at another rate, the steps after it are done again: what stood of them goes.
  const Finished on = train("", 2, {"--every=1", "--keep=2", "--rate=0.001", "--resume=best/best"}, kMeasure);
  ASSERT_EQ(on.exit_code, 0) << on.err;
  EXPECT_THAT(on.out, HasSubstr("going on from " + (folder() / "best" / name).string()));
  const auto again = metrics(folder() / "best");
  ASSERT_EQ(again.size(), 8u);
  EXPECT_NE(again[7].at("val_loss"), rows[7].at("val_loss"));
  EXPECT_EQ(header("best/checkpoint-8").at("val_loss"), again[7].at("val_loss")) << "of this course";
}

TEST_F(Saves, OneFileHoldsWholeTensors) {
  ASSERT_EQ(train("full", 2, {"--every=4", "--type=FULL_STATE_DICT"}).exit_code, 0);
  ASSERT_EQ(train("shards", 2, {"--every=4"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(folder() / "full/checkpoint-4/shard-00000-of-00001.safetensors"));
  EXPECT_FALSE(fs::exists(folder() / "full/checkpoint-4/shard-00001-of-00002.safetensors"));
  for (const char* run_of : {"full", "shards"})
    ASSERT_EQ(ft({"merge", run_of, "-o", std::string("merged_") + run_of}).exit_code, 0);
  EXPECT_TRUE(slurp(folder() / "merged_full/model.safetensors") == slurp(folder() / "merged_shards/model.safetensors"));
}

TEST_F(Saves, WeightsAloneAreMeasuredAndNotGoneOnFrom) {
  ASSERT_EQ(train("only", 2, {"--every=4", "--only=true"}).exit_code, 0);
  ASSERT_EQ(train("beside", 2, {"--every=4"}).exit_code, 0);
  const auto size = [](const char* out) {
    return fs::file_size(folder() / out / "checkpoint-8/shard-00000-of-00002.safetensors");
  };
  EXPECT_LT(size("only"), size("beside") / 2);
  EXPECT_EQ(ft({"eval", "only", "val.jsonl", "--json"}).out, ft({"eval", "beside", "val.jsonl", "--json"}).out);
  const Finished refused = train("only", 2, {"--steps=9", "--only=true", "--resume=auto"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("holds the weights alone, without the optimizer's state (save.save_only_model)"));
}

TEST_F(Saves, ARunGoesOnAtItsPlaceInTheDataOnAnyNumberOfRanks) {
  // Saved in the middle of the second epoch.
  struct Leg {
    int saved_on, stage, goes_on_on, other_stage;
  };
  for (const Leg& leg : {Leg{2, 3, 4, 1}, Leg{1, 3, 2, 2}, Leg{4, 2, 1, 3}, Leg{2, 0, 4, 3}}) {
    const std::string name =
        std::to_string(leg.saved_on) + "to" + std::to_string(leg.goes_on_on) + "_" + std::to_string(leg.stage);
    const std::vector<std::string> flags{"--steps=17", "--limit=60", "--seq_len=128"};
    const auto with = [&](std::vector<std::string> more) {
      more.insert(more.end(), flags.begin(), flags.end());
      return more;
    };
    ASSERT_EQ(
        train("whole" + name, leg.saved_on, with({"--every=7", "--stage=" + std::to_string(leg.stage)})).exit_code, 0);
    ASSERT_NE(header("whole" + name + "/checkpoint-7").at("data").at("window"), 0);
    fs::create_directories(folder() / ("cut" + name));
    for (const char* file : {"run.json", "plan.json", "config.json", "metrics.jsonl", "checkpoint-7"})
      fs::copy(folder() / ("whole" + name) / file, folder() / ("cut" + name) / file, fs::copy_options::recursive);
    const Finished resumed =
        train("cut" + name, leg.goes_on_on, with({"--resume=auto", "--stage=" + std::to_string(leg.other_stage)}));
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    const auto whole = metrics(folder() / ("whole" + name)), joined = metrics(folder() / ("cut" + name));
    ASSERT_EQ(joined.size(), whole.size());
    for (size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(joined[i].at("tokens"), whole[i].at("tokens"));
      EXPECT_NEAR(joined[i].at("loss").get<double>() / whole[i].at("loss").get<double>(), 1, 1e-5) << "step " << i + 1;
    }
  }
}

TEST_F(Saves, ASignalSavesAndAnotherEnds) {
  Program program(words(2, "signals", {"--steps=1000000"}), folder());
  wait_until([] { return steps_of("signals") >= 2; });
  EXPECT_TRUE(checkpoints("signals").empty());
  program.signal(SIGUSR1);
  wait_until([] { return !checkpoints("signals").empty(); });
  const size_t then = steps_of("signals");
  wait_until([then] { return steps_of("signals") > then; });  // it goes on
  ASSERT_TRUE(program.running());
  program.signal(SIGTERM);
  const Finished stopped = program.wait();
  EXPECT_EQ(stopped.exit_code, 128 + SIGTERM) << stopped.err;
  const std::string last = "checkpoint-" + std::to_string(metrics(folder() / "signals").size());
  EXPECT_THAT(stopped.out, ContainsRegex("stopped after step [0-9]+; saved .*" + last));
  EXPECT_THAT(checkpoints("signals"), Contains(last));
  EXPECT_EQ(linked("signals", "latest"), last);
}

TEST_F(Saves, ASignalToOneRankIsMetByAll) {
  setenv("WORLD_SIZE", "2", 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", "29741", 1);
  std::vector<std::unique_ptr<Program>> ranks;
  std::vector<std::string> flags = words(2, "one_rank", {"--steps=1000000"});
  flags.erase(flags.begin() + 2);  // --nproc
  for (const char* rank : {"0", "1"}) {
    setenv("RANK", rank, 1);
    setenv("LOCAL_RANK", rank, 1);
    ranks.push_back(std::make_unique<Program>(flags, folder()));
  }
  for (const char* name : {"WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK"}) unsetenv(name);
  wait_until([] { return steps_of("one_rank") >= 2; });
  ranks[1]->signal(SIGUSR1);
  wait_until([] { return !checkpoints("one_rank").empty(); });
  ranks[1]->signal(SIGTERM);
  EXPECT_EQ(ranks[1]->wait().exit_code, 128 + SIGTERM);
  EXPECT_THAT(ranks[0]->wait().exit_code, AnyOf(128 + SIGTERM, 128 + SIGINT))
      << "interrupted, by what it does not know";
  EXPECT_THAT(checkpoints("one_rank"), Contains("checkpoint-" + std::to_string(metrics(folder() / "one_rank").size())));
}

}  // namespace
}  // namespace ft::test
