// What goes wrong on the way: ranks that die, raise or hang, kills in the middle of a save, a full or slow disk, losses
// that are no numbers, memory that is out. Whatever happens, one message says what it was, and checkpoints stay whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/recipes/small_model.h"

const char* ft_disk();  // the library of disk.cpp

namespace ft::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

/// An environment variable as long as it lives.
class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~Setting() { unsetenv(name_); }
  Setting(const Setting&) = delete;

 private:
  const char* name_;
};

constexpr const char* kRecipe = R"(local ft = require "ft"
local opt = ft.options {
  out = { "output", default = "runs/faults" }, every = { "integer", default = 1 }, steps = { "integer", default = 8 },
  lr = { "number", default = 1e-3 }, timeout = { "integer", default = 600 }, limit = { "integer", default = 60 },
  remainder = { "string", default = "pad" }, on_error = { "string", default = "stop" }, keep = { "integer", default = 20 },
  non_finite = { "string", default = "stop" }, seq_len = { "integer", default = 32 }, micro = { "integer", default = 1 },
}
local plan = ft.plan {
  model = ft.scratch { "parts/config.json", tokenizer = "parts", compute = "fp32" },
  data = { train = ft.completion { "corpus.jsonl", seq_len = opt.seq_len, pack = false, limit = opt.limit,
                                   remainder = opt.remainder } },
  parallel = ft.fsdp2 { timeout = opt.timeout },
  optimizer = ft.adamw { lr = opt.lr },
  batch = { total = 4 * opt.micro, micro = opt.micro },
  max_steps = opt.steps, non_finite = opt.non_finite,
  save = { dir = opt.out, every = opt.every, keep = opt.keep, on_error = opt.on_error },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  --FAULT
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm }
  --AFTER
end
run:finish()
)";

class Faults : public testing::Test {
 protected:
  static void SetUpTestSuite() { shared_ = folder_of_parts(); }
  static void TearDownTestSuite() { shared_.reset(); }

  static fs::path folder() { return shared_->path(); }
  /// The recipe, with lines of Lua planted into a step: before its backward, and after it is logged.
  static fs::path recipe_with(const std::string& fault, const std::string& after = "") {
    std::string text = kRecipe;
    text.replace(text.find("--FAULT"), 7, fault);
    text.replace(text.find("--AFTER"), 7, after);
    const fs::path path = folder() / "faults.lua";
    spill(path, text);
    return path;
  }
  static std::vector<std::string> words(const fs::path& recipe, int ranks, const std::string& out,
                                        std::vector<std::string> more = {}) {
    std::vector<std::string> all{"run", recipe.string(), "--nproc=" + std::to_string(ranks),
                                 "--out=" + (folder() / out).string()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static Finished train(const std::string& out, int ranks = 1, std::vector<std::string> more = {},
                        const std::string& fault = "", const std::string& after = "") {
    return run(words(recipe_with(fault, after), ranks, out, std::move(more)), folder());
  }
  static void expect_same_figures(const std::string& one, const std::string& other) {
    const auto a = metrics(folder() / one), b = metrics(folder() / other);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].at("step"), b[i].at("step"));
      EXPECT_EQ(a[i].at("loss").get<double>(), b[i].at("loss").get<double>()) << "step " << i + 1;
      EXPECT_EQ(a[i].at("grad_norm").get<double>(), b[i].at("grad_norm").get<double>()) << "step " << i + 1;
    }
  }
  static void expect_same_shards(const fs::path& one, const fs::path& other) {
    int shards = 0;
    for (const auto& entry : fs::directory_iterator(folder() / one)) {
      if (!entry.path().filename().string().starts_with("shard-")) continue;
      EXPECT_TRUE(slurp(entry.path()) == slurp(folder() / other / entry.path().filename())) << entry.path();
      ++shards;
    }
    EXPECT_GT(shards, 0) << one;
  }
  static std::vector<std::string> whole_checkpoints(const std::string& out) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder() / out))
      if (!entry.is_symlink() && fs::exists(entry.path() / "manifest.json")) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  static std::unique_ptr<TemporaryDirectory> shared_;
};
std::unique_ptr<TemporaryDirectory> Faults::shared_;

/// The fault comes at step 3 on rank 1, which leaves a file as it happens.
std::string on_rank_1(const std::string& fault) {
  return "if run.rank == 1 and step == 3 then io.open('"
         "at-fault', 'w'):close() " +
         fault + " end";
}

// What the program says once the fault has come; it must end long before the collectives' time-out, 600 s by default.
Finished fail(const std::vector<std::string>& words, const fs::path& folder) {
  fs::remove(folder / "at-fault");
  Program program(words, folder);
  for (int i = 0; i < 12'000 && !fs::exists(folder / "at-fault"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(fs::exists(folder / "at-fault"));
  return program.wait();
}

TEST_F(Faults, ARankThatDiesStopsAll) {
  for (const int ranks : {2, 4}) {
    const Finished died = fail(
        words(recipe_with(on_rank_1("os.execute('kill -9 $PPID')")), ranks, "died" + std::to_string(ranks)), folder());
    EXPECT_EQ(died.exit_code, 128 + SIGKILL);
    EXPECT_THAT(died.err, HasSubstr("rank 1 of " + std::to_string(ranks) + " was ended by signal 9 (Killed)"));
    EXPECT_THAT(died.err, HasSubstr("lower batch.micro"));
    EXPECT_THAT(died.err, Not(HasSubstr("lost rank")));
  }
}

TEST_F(Faults, ARankThatRaisesIsTheOneThatIsHeard) {
  for (const int ranks : {2, 4}) {
    const Finished raised =
        fail(words(recipe_with(on_rank_1("error('no such luck')")), ranks, "raised" + std::to_string(ranks)), folder());
    EXPECT_EQ(raised.exit_code, 1);
    EXPECT_THAT(raised.err, ContainsRegex("faults.lua:[0-9]+: no such luck"));
    EXPECT_THAT(raised.err, Not(HasSubstr("lost rank")));
  }
}

TEST_F(Faults, ARankThatHangsIsNamedOnceTheTimeIsOut) {
  for (const int ranks : {2, 4}) {
    const Finished hung =
        fail(words(recipe_with(on_rank_1("while true do end")), ranks, "hung" + std::to_string(ranks), {"--timeout=3"}),
             folder());
    EXPECT_EQ(hung.exit_code, 1);
    EXPECT_THAT(hung.err, HasSubstr("did not hear from rank 1 in time"));
    EXPECT_THAT(hung.err, HasSubstr("parallel.timeout"));
    EXPECT_THAT(hung.err, HasSubstr("rank 1 hung"));
  }
}

TEST_F(Faults, WithoutASupervisorOneRankSpeaks) {
  const fs::path recipe = recipe_with(on_rank_1("error('no such luck')"));
  std::vector<std::unique_ptr<Program>> ranks;
  const Setting world("WORLD_SIZE", "4"), address("MASTER_ADDR", "127.0.0.1"), port("MASTER_PORT", "29731");
  for (int rank = 0; rank < 4; ++rank) {
    const Setting place("RANK", std::to_string(rank)), local("LOCAL_RANK", std::to_string(rank));
    std::vector<std::string> flags = words(recipe, 4, "torchrun");
    flags.erase(flags.begin() + 2);
    ranks.push_back(std::make_unique<Program>(flags, folder()));
  }
  std::string all;
  for (auto& rank : ranks) {
    const Finished done = rank->wait();
    EXPECT_EQ(done.exit_code, 1);
    all += done.err;
  }
  EXPECT_THAT(all, ContainsRegex("no such luck"));
  EXPECT_EQ(all.find("no such luck"), all.rfind("no such luck")) << all;
  EXPECT_THAT(all, Not(HasSubstr("lost rank")));
}

/// Rank 1 comes to harm at step 5, and at that step of no later start.
std::string once_on_rank_1(const std::string& fault) {
  return "if run.rank == 1 and step == 5 and not io.open('fallen') then io.open('fallen', 'w'):close() " + fault +
         " end";
}

TEST_F(Faults, ARunIsStartedAgainToTheBit) {
  ASSERT_EQ(train("unharmed", 2).exit_code, 0);
  const std::pair<const char*, const char*> faults[] = {{"os.execute('kill -9 $PPID')", "was ended by signal 9"},
                                                        {"while true do end", "did not hear from rank 1 in time"}};
  for (const auto& [fault, message] : faults) {
    fs::remove(folder() / "fallen");
    const std::string out = std::string("again") + message[0];
    const Finished again = train(out, 2, {"--max-restarts=2", "--timeout=4"}, once_on_rank_1(fault));
    EXPECT_EQ(again.exit_code, 0) << again.err;
    EXPECT_THAT(again.err, HasSubstr(message));
    EXPECT_THAT(again.err, ContainsRegex("restart 1 of 2, 2 ranks, from the newest checkpoint in .*" + out));
    EXPECT_THAT(again.err, Not(HasSubstr("restart 2")));
    expect_same_figures("unharmed", out);
    const std::vector<std::string> checkpoints = whole_checkpoints("unharmed");
    ASSERT_EQ(whole_checkpoints(out), checkpoints);
    expect_same_shards(fs::path("unharmed") / checkpoints.back(), fs::path(out) / checkpoints.back());
  }
}

TEST_F(Faults, ARunGoesOnWithTheRanksThatAreLeft) {
  fs::remove(folder() / "fallen");
  const Finished fewer =
      train("fewer", 2, {"--max-restarts=1", "--min-nproc=1"}, once_on_rank_1("os.execute('kill -9 $PPID')"));
  EXPECT_EQ(fewer.exit_code, 0) << fewer.err;
  EXPECT_THAT(fewer.err, HasSubstr("restart 1 of 1, 1 ranks, from the newest checkpoint"));
  const auto whole = metrics(folder() / "unharmed"), left = metrics(folder() / "fewer");
  ASSERT_EQ(left.size(), whole.size());
  for (size_t i = 0; i < left.size(); ++i)
    EXPECT_NEAR(left[i].at("loss").get<double>() / whole[i].at("loss").get<double>(), 1, 1e-5) << "step " << i + 1;
}

TEST_F(Faults, WhatWouldOnlyComeAgainIsNotStartedAgain) {
  const Finished refused = train("refused", 2, {"--max-restarts=2"}, on_rank_1("error('no such luck')"));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, Not(HasSubstr("restart")));
  fs::remove(folder() / "fallen");
  const Finished out_of_tries =
      train("tries", 2, {"--max-restarts=1"}, "if run.rank == 1 and step == 5 then os.execute('kill -9 $PPID') end");
  EXPECT_EQ(out_of_tries.exit_code, 128 + SIGKILL);
  EXPECT_THAT(out_of_tries.err, HasSubstr("restart 1 of 1"));
}

TEST_F(Faults, CheckpointsInTheBackgroundChangeNoBit) {
  ASSERT_EQ(train("none", 2, {"--every=0"}).exit_code, 0);
  ASSERT_EQ(train("background", 2).exit_code, 0);
  ASSERT_EQ(train("waiting", 2, {"--every=0"}, "", "run:save()").exit_code, 0);
  Finished slow;
  {
    const Setting disk("LD_PRELOAD", ft_disk()), slowly("FT_DISK_SLOW_MS", "4");
    slow = train("slow", 2);
  }
  ASSERT_EQ(slow.exit_code, 0) << slow.err;
  for (const char* out : {"background", "waiting", "slow"}) {
    expect_same_figures("none", out);
    expect_same_shards("none/checkpoint-8", fs::path(out) / "checkpoint-8");
  }
  for (int step = 1; step < 8; ++step) {
    const std::string name = "checkpoint-" + std::to_string(step);
    expect_same_shards(fs::path("waiting") / name, fs::path("background") / name);
    expect_same_shards(fs::path("waiting") / name, fs::path("slow") / name);
    EXPECT_EQ(Json::parse(slurp(folder() / "waiting" / name / "manifest.json")),
              Json::parse(slurp(folder() / "slow" / name / "manifest.json")));
  }
  double waited = 0;  // the disk was slow indeed, and the update came upon it
  for (const Json& row : metrics(folder() / "slow")) waited += row.at("wait_save").get<double>();
  EXPECT_GT(waited, 0.1);
}

TEST_F(Faults, KilledAtAnyMomentOfASaveARunGoesOnToTheBit) {
  const std::vector<std::string> flags{"--steps=120", "--keep=2"};
  ASSERT_EQ(train("whole", 2, flags).exit_code, 0);
  const fs::path recipe = recipe_with("");
  std::vector<std::string> leg = words(recipe, 2, "killed", flags);
  leg.push_back("--resume=auto");
  std::mt19937 random(20);
  const auto newest = [&] {
    int64_t step = 0;
    std::error_code absent;
    for (const auto& entry : fs::directory_iterator(folder() / "killed", absent))
      if (const std::string name = entry.path().filename(); name.starts_with("checkpoint-"))
        step = std::max<int64_t>(step, std::stoll(name.substr(11)));
    return step;
  };
  int kills = 0, torn = 0;
  {
    const Setting disk("LD_PRELOAD", ft_disk()), slowly("FT_DISK_SLOW_MS", "1");
    while (kills < 20) {
      const int64_t before = newest();
      Program program(leg, folder());
      for (int i = 0; i < 20'000 && newest() <= before; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      ASSERT_GT(newest(), before) << "kill " << kills << ": it does not go on";
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 120));
      program.signal(SIGKILL);
      ASSERT_EQ(program.wait().exit_code, 128 + SIGKILL);
      ++kills;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the ranks die with their supervisor
      for (const auto& entry : fs::directory_iterator(folder() / "killed"))
        if (entry.path().filename().string().starts_with("checkpoint-") && !fs::exists(entry.path() / "manifest.json"))
          ++torn;
    }
  }
  EXPECT_GE(torn, 5) << "most kills should come while a checkpoint is written";
  const Finished last = run(leg, folder());
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_THAT(last.out, HasSubstr("going on from "));
  expect_same_figures("whole", "killed");
  expect_same_shards("whole/checkpoint-120", "killed/checkpoint-120");
}

TEST_F(Faults, AFullDiskStopsTheRunOrDoesNot) {
  const fs::path full = folder() / "full";
  const std::string fill = "if run.rank == 0 and step == 3 then io.open('full', 'w'):close() end";
  const std::string empty = "if run.rank == 0 and step == 6 then os.remove('full') end";
  const Setting disk("LD_PRELOAD", ft_disk()), when("FT_DISK_FULL", full.string());
  fs::remove(full);
  const Finished stopped = train("full_stop", 2, {}, fill);
  EXPECT_EQ(stopped.exit_code, 1);
  EXPECT_THAT(stopped.err, HasSubstr("No space left on device"));
  EXPECT_THAT(stopped.err, HasSubstr("saving on rank"));
  // The second one is written while step 3 begins: the disk may be full before it is whole.
  const auto up_to_the_fault = testing::AnyOf(std::vector<std::string>{"checkpoint-1"},
                                              std::vector<std::string>{"checkpoint-1", "checkpoint-2"});
  const auto left = whole_checkpoints("full_stop");
  EXPECT_THAT(left, up_to_the_fault);
  const std::string failed = "checkpoint-" + std::to_string(left.size() + 1);
  EXPECT_THAT(stopped.err, HasSubstr(failed + "/shard-"));
  EXPECT_FALSE(fs::exists(folder() / "full_stop" / failed));

  fs::remove(full);
  const Finished went_on = train("full_continue", 2, {"--on_error=continue", "--keep=2"}, fill, empty);
  EXPECT_EQ(went_on.exit_code, 0) << went_on.err;
  EXPECT_THAT(went_on.out + went_on.err, HasSubstr("could not be written, training goes on"));
  EXPECT_EQ(metrics(folder() / "full_continue").size(), 8u);
  EXPECT_EQ(whole_checkpoints("full_continue"), (std::vector<std::string>{"checkpoint-7", "checkpoint-8"}));

  fs::remove(full);  // to the end: nothing was saved at the end, and that is an error
  const Finished never = train("full_end", 2, {"--on_error=continue", "--keep=2"}, fill);
  fs::remove(full);
  EXPECT_EQ(never.exit_code, 1);
  EXPECT_THAT(whole_checkpoints("full_end"), up_to_the_fault);
}

TEST_F(Faults, ALossThatIsNoNumberStopsWithStepAndUnit) {
  for (const int ranks : {1, 2}) {
    for (const auto& [rate, found] :
         {std::pair("3e38",
                    "model[a-z_.0-9]* is the first unit whose output is not finite \\(rank 0, micro batch 1 of [24]"),
          std::pair("1e30", "every output is finite, and model.layers.1 is the first unit, from the last, whose")}) {
      const std::string out = "diverged" + std::to_string(ranks) + rate;
      const Finished stopped = train(out, ranks, {"--lr=" + std::string(rate)});
      EXPECT_EQ(stopped.exit_code, 1);
      EXPECT_THAT(stopped.err, HasSubstr("non_finite: step 2: the loss or its gradient is not finite"));
      EXPECT_THAT(stopped.err, ContainsRegex(found));
      EXPECT_THAT(stopped.err, HasSubstr("checkpoint-1 stands"));
      EXPECT_EQ(whole_checkpoints(out), (std::vector<std::string>{"checkpoint-1"}));
    }
  }
}

TEST_F(Faults, AStepThatIsNotFiniteCanBeSkipped) {
  const Finished skipped = train("skipped", 2, {"--lr=1e30", "--steps=4", "--non_finite=skip"});
  ASSERT_EQ(skipped.exit_code, 0) << skipped.err;
  const auto rows = metrics(folder() / "skipped");
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_FALSE(rows[0].contains("skipped_steps"));
  for (int step = 2; step <= 4; ++step) EXPECT_EQ(rows[static_cast<size_t>(step - 1)].at("skipped_steps"), step - 1);
  EXPECT_THAT(skipped.out, HasSubstr("3 steps were skipped"));
  expect_same_shards("skipped/checkpoint-1", "skipped/checkpoint-4");  // no weight was touched again
}

TEST_F(Faults, MemoryThatIsOutSaysWhereAndWhatToDo) {
  // The last rank of a run that goes on may hold little more from its first step on: less than what tensors' memory
  // grows by, so that it is a tensor that finds none.
  const std::string limit = R"(if run.rank == run.world_size - 1 then
    local size = io.open('/proc/self/status'):read('*a'):match('VmData:%s*(%d+)')
    local pid = io.open('/proc/self/stat'):read('*a'):match('^%d+')
    os.execute('prlimit --pid ' .. pid .. ' --data=' .. (tonumber(size) * 1024 + 4194304))
  end)";
  write_corpus(folder() / "corpus.jsonl", 300);
  for (const int ranks : {1, 2}) {
    const std::string out = "memory" + std::to_string(ranks);
    const std::vector<std::string> flags{"--micro=32", "--seq_len=64", "--every=100"};
    const auto with = [&](std::initializer_list<std::string> more) {
      std::vector<std::string> all = flags;
      all.insert(all.end(), more);
      return all;
    };
    ASSERT_EQ(train(out, ranks, with({"--steps=1"})).exit_code, 0);
    const Finished stopped = train(out, ranks, with({"--steps=3", "--resume=auto"}), limit);
    EXPECT_EQ(stopped.exit_code, 1) << stopped.err;
    EXPECT_THAT(stopped.err,
                ContainsRegex("model[a-z_.0-9]*: host memory is out: wanted [0-9.]+ [kMG]B, [0-9.]+ [kMGT]B "
                              "free; held: .*masters [0-9.]+"));
    EXPECT_THAT(stopped.err, HasSubstr("step 2"));
    EXPECT_THAT(stopped.err, HasSubstr("in this order: lower batch.micro"));
    EXPECT_EQ(whole_checkpoints(out), (std::vector<std::string>{"checkpoint-1"}));
    EXPECT_EQ(train(out, ranks, with({"--steps=3", "--resume=auto"})).exit_code, 0);
  }
  write_corpus(folder() / "corpus.jsonl");
}

TEST_F(Faults, MoreRanksThanSamplesPadOrAreRefused) {
  ASSERT_EQ(train("three_rows", 4, {"--limit=3"}).exit_code, 0);
  ASSERT_EQ(train("three_rows_alone", 1, {"--limit=3"}).exit_code, 0);
  const auto four = metrics(folder() / "three_rows"), one = metrics(folder() / "three_rows_alone");
  ASSERT_EQ(four.size(), one.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(four[i].at("tokens"), one[i].at("tokens"));
    EXPECT_NEAR(four[i].at("loss").get<double>(), one[i].at("loss").get<double>(), 1e-5);
  }
  const Finished refused = train("three_rows_dropped", 4, {"--limit=3", "--remainder=drop"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("3 rows do not fill one step of 4, and remainder = drop"));
}

TEST_F(Faults, AMissingShardIsNamed) {
  ASSERT_EQ(train("torn", 2, {"--steps=2"}).exit_code, 0);
  fs::remove(folder() / "torn/checkpoint-2/shard-00001-of-00002.safetensors");
  const Finished older = train("torn", 2, {"--steps=2", "--resume=auto"});
  EXPECT_EQ(older.exit_code, 0) << older.err;
  EXPECT_THAT(older.out, HasSubstr("going on from " + (folder() / "torn/checkpoint-1").string()));
  EXPECT_THAT(older.out + older.err, HasSubstr("passed over: "));
  EXPECT_THAT(older.out + older.err, HasSubstr("checkpoint-2: lacks shard-00001-of-00002.safetensors"));
  ASSERT_TRUE(fs::exists(folder() / "torn/checkpoint-2/shard-00001-of-00002.safetensors"));  // made anew
  for (const char* name : {"checkpoint-1", "checkpoint-2"})
    fs::remove(folder() / "torn" / name / "shard-00001-of-00002.safetensors");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"merge", "torn"}, {"eval", "torn", "corpus.jsonl"}}) {
    const Finished refused = run(command, folder());
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_THAT(refused.err, HasSubstr("holds no whole checkpoint"));
    EXPECT_THAT(refused.err, HasSubstr("checkpoint-2: lacks shard-00001-of-00002.safetensors"));
  }
}

}  // namespace
}  // namespace ft::test
