// optimizer.overlap from end to end: whole runs of the program whose updates overlap what they may, checkpoints written
// behind them, and what a run says that asks for what cannot be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kRecipe = R"(local ft = require "ft"
local opt = ft.options {
  out = { "output", default = "runs/overlap" }, overlap = { "string", default = "auto" }, bits = { "integer", default = 8 },
  clip = { "number", default = 0 }, every = { "integer", default = 2 }, offload = { "boolean", default = true },
  state = { "string", default = "with_params" }, non_finite = { "string", default = "stop" },
  compute = { "string", default = "fp32" }, lr = { "number", default = 1e-3 },
}
local pin -- says nothing where nothing is offloaded
if opt.offload then pin = false end
local plan = ft.plan {
  model = ft.scratch { "parts/config.json", tokenizer = "parts", compute = opt.compute },
  data = { train = ft.completion { "corpus.jsonl", seq_len = 32, pack = false, split = "train" },
           val = ft.completion { "corpus.jsonl", seq_len = 32, pack = false, split = 0.1 } },
  parallel = ft.fsdp2 { offload_params = opt.offload, cpu_offload_pin_memory = pin, optimizer_state = opt.state },
  optimizer = ft.adamw { lr = opt.lr, bits = opt.bits, overlap = opt.overlap, schedule = ft.linear { warmup = 2 } },
  batch = { total = 8, micro = 2 },
  max_steps = 8, non_finite = opt.non_finite,
  save = { dir = opt.out, every = opt.every, keep = 20 },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  --PLANT
  local norm = run:clip(opt.clip > 0 and opt.clip or math.huge)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm, lr = run.lr }
  if step % 3 == 0 then run:log { step = step, val_loss = run:evaluate("val").loss } end
  --AFTER
end
run:finish()
)";

class Overlap : public testing::Test {
 protected:
  static void SetUpTestSuite() { shared_ = folder_of_parts(); }
  static void TearDownTestSuite() { shared_.reset(); }

  static fs::path folder() { return shared_->path(); }
  static Finished train(const std::string& out, int ranks, std::vector<std::string> flags,
                        const std::string& plant = "", const std::string& after = "") {
    std::string text = kRecipe;
    text.replace(text.find("--PLANT"), 7, plant);
    text.replace(text.find("--AFTER"), 7, after);
    spill(folder() / "overlap.lua", text);
    std::vector<std::string> words{"run", (folder() / "overlap.lua").string(), "--nproc=" + std::to_string(ranks),
                                   "--out=" + (folder() / out).string()};
    words.insert(words.end(), flags.begin(), flags.end());
    return run(words, folder());
  }
  static void expect_same(const std::string& one, const std::string& other) {
    const auto a = metrics(folder() / one), b = metrics(folder() / other);
    ASSERT_EQ(a.size(), 8u);
    ASSERT_EQ(b.size(), 8u);
    for (size_t i = 0; i < a.size(); ++i)
      for (const char* key : {"loss", "grad_norm", "lr", "val_loss"})
        EXPECT_EQ(a[i].value(key, Json()), b[i].value(key, Json())) << key << " of step " << i + 1 << " of " << other;
    int shards = 0;
    for (const char* checkpoint : {"checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8"})
      for (const auto& entry : fs::directory_iterator(folder() / one / checkpoint)) {
        const std::string name = entry.path().filename();
        if (!name.starts_with("shard-")) continue;
        EXPECT_TRUE(slurp(entry.path()) == slurp(folder() / other / checkpoint / name)) << other << " " << checkpoint;
        ++shards;
      }
    EXPECT_GE(shards, 4);
  }

  static std::unique_ptr<TemporaryDirectory> shared_;
};
std::unique_ptr<TemporaryDirectory> Overlap::shared_;

TEST_F(Overlap, ChangesNoBitOfARunNorOfItsCheckpoints) {
  for (const int ranks : {1, 2}) {
    const std::string n = std::to_string(ranks);
    ASSERT_EQ(train("none" + n, ranks, {"--overlap=none"}).exit_code, 0);
    for (const char* overlap : {"auto", "forward", "backward"}) {
      const Finished done = train(overlap + n, ranks, {std::string("--overlap=") + overlap});
      ASSERT_EQ(done.exit_code, 0) << done.err;
      EXPECT_THAT(done.out, HasSubstr(overlap == std::string("backward") ? "beside the backward"
                                                                         : "beside the next step's forward"));
      expect_same("none" + n, overlap + n);
      for (const Json& row : metrics(folder() / (overlap + n))) EXPECT_TRUE(row.contains("wait_update"));
    }
    for (const Json& row : metrics(folder() / ("none" + n))) EXPECT_FALSE(row.contains("wait_update"));
  }
  ASSERT_EQ(train("paged", 2, {"--overlap=backward", "--offload=false", "--state=paged"}).exit_code, 0);
  expect_same("none2", "paged");
}

TEST_F(Overlap, ChangesNoBitWhereGradientsAreClipped) {
  ASSERT_EQ(train("clipped", 2, {"--overlap=none", "--clip=0.1", "--bits=32"}).exit_code, 0);
  const Finished forward = train("clipped-forward", 2, {"--overlap=forward", "--clip=0.1", "--bits=32"});
  ASSERT_EQ(forward.exit_code, 0) << forward.err;
  expect_same("clipped", "clipped-forward");
  EXPECT_GT(metrics(folder() / "clipped")[0].at("grad_norm").get<double>(), 0.1);
  const Finished refused = train("refused", 2, {"--overlap=backward", "--clip=0.1"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("optimizer.overlap: got run:clip(0.1000) and \"backward\""));
  EXPECT_THAT(refused.err, HasSubstr("set overlap = \"forward\""));
}

// A stopped run saves what its last step made; the run that goes on from it ends as one that was never stopped.
TEST_F(Overlap, IsInterruptedAndGoesOnToTheBit) {
  ASSERT_EQ(train("through", 2, {"--overlap=none"}).exit_code, 0);
  for (const char* overlap : {"forward", "backward"}) {
    const std::string flag = std::string("--overlap=") + overlap, out = std::string("stopped-") + overlap;
    const Finished stopped =
        train(out, 2, {flag}, "", "if step == 5 and run.rank == 1 then os.execute('kill -TERM $PPID') end");
    EXPECT_NE(stopped.exit_code, 0);
    EXPECT_THAT(stopped.out + stopped.err, HasSubstr("stopped after step 5; saved "));
    const Finished rest = train(out, 2, {flag, "--resume=auto"});
    ASSERT_EQ(rest.exit_code, 0) << rest.err;
    expect_same("through", out);
  }
}

TEST_F(Overlap, RefusesWhatWouldReadOrJudgeTooLate) {
  const auto refused = [](const std::vector<std::string>& flags, const std::string& plant = "") {
    fs::remove_all(folder() / "refused-too");
    std::vector<std::string> all{"--overlap=backward"};
    all.insert(all.end(), flags.begin(), flags.end());
    const Finished done = train("refused-too", 1, all, plant);
    EXPECT_EQ(done.exit_code, 1) << done.out;
    return done.err;
  };
  EXPECT_THAT(refused({"--non_finite=skip"}), HasSubstr("optimizer.overlap"));
  EXPECT_THAT(refused({"--compute=fp16"}), HasSubstr("optimizer.overlap"));
  const std::string early = "optimizer.overlap: parameters are asked for between";
  EXPECT_THAT(refused({}, "run:evaluate('val')"), HasSubstr(early));
  EXPECT_THAT(refused({}, "run:save()"), HasSubstr(early));
  EXPECT_THAT(refused({}, "for batch in window:each() do run:backward(batch, tokens) end"), HasSubstr(early));
  const std::string stopped = refused({"--lr=1e30"});
  EXPECT_THAT(stopped, HasSubstr("the loss or its gradient is not finite"));
  EXPECT_THAT(stopped, Not(HasSubstr("optimizer.overlap")));
}

}  // namespace
}  // namespace ft::test
