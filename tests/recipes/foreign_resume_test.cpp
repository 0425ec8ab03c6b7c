// Training that other engines began goes on here as torch goes on: losses and weights of the steps after the save
// (tests/golden/resume.py). Every step trains on all rows, so that their order says nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "engine/formats/checkpoint.h"
#include "engine/formats/safetensors.h"
#include "tests/recipes/small_model.h"
#include "tests/recipes/train_plan.h"

namespace ft::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kSaved = 4, kTotal = 8;
constexpr double kLoss = 2e-6;    // fp32 sums in another order, relative
constexpr double kWeight = 5e-6;  // the same, eight steps of 2e-2 deep
// bitsandbytes on the CPU rounds to codes by a table of 65,536 bins, which tells small squares in a block least.
constexpr double kCoded = 1e-5;
constexpr double kCutAnew = 3e-4;  // slices whose blocks are not the file's: one rounding of each code

fs::path golden(const std::string& name) { return fs::path(ft_source_dir()) / "tests/golden/resume" / name; }

const std::string kRecipe = std::string(R"(local ft = require "ft"
local opt = ft.options {
  model = { "path" }, out = { "output", default = "run" }, steps = { "integer", default = 8 }, every = { "integer", default = 0 },
  r = { "integer", default = 0 }, alpha = { "number", default = 6 }, bits = { "integer", default = 32 },
  sgd = { "boolean", default = false }, targets = { "list", default = { "q_proj", "v_proj", "down_proj" } },
  unfrozen = { "list", default = {} }, parallel = { "profile", default = "single" }, tensor = { "integer", default = 1 },
}
local schedule = ft.linear { warmup = 2 }
local plan = ft.plan {
  model = ft.hf { opt.model, compute = "fp32" },
  adapter = opt.r > 0 and ft.lora { r = opt.r, alpha = opt.alpha, dropout = 0, target_modules = opt.targets } or nil,
  unfrozen_parameters = opt.unfrozen,
  parallel = opt.tensor > 1 and ft.fsdp2 { tensor_parallel_size = opt.tensor } or opt.parallel,
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 12, pack = false, shuffle = false } },
  optimizer = opt.sgd and ft.sgd { lr = 0.02, schedule = schedule }
    or ft.adamw { lr = 0.02, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0.1, bits = opt.bits, schedule = schedule },
  batch = { total = 4, micro = 1 }, epochs = 1000, max_steps = opt.steps, save = { dir = opt.out, every = opt.every },
}
)") + test::kTrainPlan;

struct Source {
  const char* path;
  bool lora;
  std::vector<std::string> layout;
};

class ForeignResume : public testing::Test {
 protected:
  void SetUp() override {
    spill(folder_ / "train.lua", kRecipe);
    fs::copy(golden("rows.jsonl"), folder_ / "rows.jsonl");
  }
  Finished go_on(const fs::path& from, bool lora, std::vector<std::string> more) {
    std::vector<std::string> words{"run", "train.lua", "--model=" + golden("model").string()};
    if (!from.empty()) words.push_back("--resume=" + from.string());
    if (lora) words.push_back("--r=2");
    words.insert(words.end(), more.begin(), more.end());
    return run(words, folder_.path());
  }
  /// A copy in the test's folder, to be damaged.
  fs::path copy(const std::string& name) {
    fs::create_directories((folder_ / name).parent_path());
    fs::copy(golden(name), folder_ / name, fs::copy_options::recursive);
    return folder_ / name;
  }
  /// Losses of the steps after the save.
  std::vector<double> losses(const std::string& out) {
    std::vector<double> found;
    for (const Json& row : metrics(folder_ / out)) {
      EXPECT_EQ(row.at("step"), kSaved + 1 + static_cast<int64_t>(found.size()));
      found.push_back(row.at("loss"));
    }
    return found;
  }
  std::vector<double> wanted(const char* kind, const char* which) {
    return Json::parse(slurp(golden("losses.json"))).at(kind).at(which);
  }
  /// Nothing but a refusal: exit code 1, all of the texts in one message, no run directory.
  void expect_refused(const Finished& done, const std::vector<std::string>& texts) {
    EXPECT_EQ(done.exit_code, 1) << done.out;
    for (const std::string& text : texts) EXPECT_THAT(done.err, HasSubstr(text));
    EXPECT_FALSE(fs::exists(folder_ / "refused"));
  }

  TemporaryDirectory folder_;
};

double worst(const std::vector<double>& got, const std::vector<double>& want) {
  if (got.size() != want.size()) return INFINITY;
  double most = 0;
  for (size_t i = 0; i < got.size(); ++i) most = std::max(most, std::abs(got[i] - want[i]) / want[i]);
  return most;
}

/// The largest difference of a checkpoint's masters from what torch ended with.
double worst_weight(const fs::path& checkpoint, const char* kind) {
  const Checkpoint ended(checkpoint);
  const SafetensorsFile want(golden(std::string(kind) + ".safetensors"));
  double most = 0;
  for (const TensorEntry& entry : want.entries()) {
    std::string name = entry.name;
    for (const std::string part : {"base_model.model.", ".default"})
      if (const size_t at = name.find(part); at != std::string::npos) name.erase(at, part.size());
    std::vector<float> a(static_cast<size_t>(entry.numel())), b(a.size());
    want.read(entry, 0, std::as_writable_bytes(std::span(a)));
    ended.read(name, "master", 0, entry.numel(), b.data());
    for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return most;
}

TEST_F(ForeignResume, TakesTheStepsThatTorchTakes) {
  const std::vector<std::string> one{"--nproc=1"}, ddp{"--nproc=2", "--parallel=ddp"},
      zero3{"--nproc=2", "--parallel=zero3"}, tensor{"--nproc=2", "--tensor=2"},
      small{"--nproc=1", "--bits=8"};  // of which nothing here is large enough
  const Source sources[] = {{"fsdp/checkpoint-4", false, one},
                            {"fsdp/checkpoint-4", false, zero3},
                            {"fsdp/checkpoint-4/pytorch_model_fsdp_0", false, ddp},
                            {"fsdp_full/checkpoint-4", false, one},
                            {"zero1", false, one},
                            {"zero2/global_step4", false, ddp},
                            {"zero3", false, one},
                            {"zero3", false, tensor},
                            {"zero3_lora/checkpoint-4", true, tensor},
                            {"fsdp_lora/checkpoint-4", true, zero3},
                            {"joint_lora", true, one},
                            {"joint_lora", true, ddp},
                            {"zero2_lora/checkpoint-4", true, one},
                            {"zero3_lora/checkpoint-4", true, zero3},
                            {"trainer/checkpoint-4", false, one},
                            {"trainer/checkpoint-4", false, zero3},
                            {"trainer_lora/checkpoint-4", true, ddp},
                            {"trainer/checkpoint-4", false, small}};
  int number = 0;
  for (const Source& source : sources) {
    SCOPED_TRACE(source.path + (" " + source.layout.back()));
    const char* kind = source.lora ? "lora" : "full";
    const std::string out = "run" + std::to_string(++number);
    std::vector<std::string> more = source.layout;
    more.push_back("--out=" + out);
    const Finished done = go_on(golden(source.path), source.lora, more);
    ASSERT_EQ(done.exit_code, 0) << done.err;
    EXPECT_THAT(done.out, HasSubstr("at step 4 of another engine"));
    EXPECT_THAT(done.out, HasSubstr("the order of rows is this engine's"));
    EXPECT_THAT(done.out + done.err, Not(HasSubstr("no optimizer's state")));
    EXPECT_LE(worst(losses(out), wanted(kind, "after")), kLoss);
    EXPECT_LE(worst_weight(folder_ / out / "checkpoint-8", kind), kWeight);
    EXPECT_GT(worst(losses(out), wanted(kind, "fresh")), 1e-3) << "the gate notices averages that are lost";
  }
}

const std::vector<std::string> kBlocksLora{"--r=257", "--alpha=771", "--targets=q_proj,v_proj", "--bits=8"};

// bitsandbytes' 8 bits: codes as they are, with and without a dict around them, paged or not; embeddings, which it
// keeps in fp32, become codes.
TEST_F(ForeignResume, GoesOnWithCodesOfBitsandbytes) {
  std::vector<std::string> full{"--model=" + golden("blocks_full/checkpoint-4").string(), "--bits=8"},
      lora = kBlocksLora;
  lora.push_back("--model=" + golden("model").string());
  int number = 0;
  for (const std::vector<std::string>& layout : {std::vector<std::string>{"--nproc=1"},
                                                 {"--nproc=2", "--parallel=ddp"},
                                                 {"--nproc=2", "--parallel=zero3"},
                                                 {"--nproc=2", "--tensor=2"}})
    for (const char* kind : {"blocks_full", "blocks_lora"}) {
      SCOPED_TRACE(kind + (" " + layout.back()));
      const bool whole = std::string(kind) == "blocks_full", cut = layout.back() == "--tensor=2";
      const std::string out = "run" + std::to_string(++number);
      std::vector<std::string> words{"run", "train.lua", "--out=" + out,
                                     "--resume=" + golden(kind).string() + "/checkpoint-4"};
      for (const auto& more : {layout, whole ? full : lora}) words.insert(words.end(), more.begin(), more.end());
      const Finished done = run(words, folder_.path());
      ASSERT_EQ(done.exit_code, 0) << done.err;
      EXPECT_THAT(done.out + done.err, Not(HasSubstr("no optimizer's state")));
      const std::vector<double> got = losses(out), coded = wanted(kind, "coded");
      ASSERT_EQ(got.size(), coded.size());
      // The step after the save is taken with the averages as they were saved.
      const double first = worst({got[0], got[1]}, {coded[0], coded[1]});
      EXPECT_LE(first, cut ? kCutAnew : kLoss);
      EXPECT_LE(worst(got, coded), cut ? kCutAnew : kCoded);
      EXPECT_LE(worst(got, wanted(kind, "after")), cut ? kCutAnew : 2 * kCoded);
      EXPECT_GT(worst(got, wanted(kind, "fresh")), 1e-2) << "the gate notices averages that are lost";
    }
}

TEST_F(ForeignResume, RefusesOtherBitsByName) {
  const fs::path lora = copy("blocks_lora") / "checkpoint-4";
  const auto go_on_with = [&](const char* optimizer, const char* bits) {
    if (optimizer)
      fs::copy_file(golden("blocks_lora") / optimizer, lora / "optimizer.pt", fs::copy_options::overwrite_existing);
    std::vector<std::string> more = kBlocksLora;
    more.back() = bits;
    more.insert(more.end(), {"--nproc=1", "--out=refused"});
    return go_on(lora, false, more);
  };
  expect_refused(go_on_with(nullptr, "--bits=32"),
                 {"averages in 8 bits", "adamw with 32 bits", "ft.adamw { bits = 8 }"});
  expect_refused(go_on_with(nullptr, "--sgd"), {"averages in 8 bits", "the plan's optimizer is sgd"});
  expect_refused(go_on_with("floats.pt", "--bits=8"), {"in floating point", "adamw with 8 bits", "bits = 32"});
  expect_refused(go_on_with("codes.pt", "--bits=8"),
                 {"model.layers.0.self_attn.v_proj.lora_B.weight", "fewer than 4096 elements", "merge the checkpoint"});
  EXPECT_EQ(go_on_with("floats.pt", "--bits=32").exit_code, 0);
}

// Weights alone: averages begin anew, and the run says so; the step is that of the files or of the folder's name.
TEST_F(ForeignResume, GoesOnFromWeightsAlone) {
  const fs::path fsdp = copy("fsdp/checkpoint-4"), bin = folder_ / "checkpoint-4", plain = copy("trainer/checkpoint-4");
  fs::remove_all(fsdp / "optimizer_0");
  fs::copy(golden("bin"), bin);
  // Numbers of other parameters than the plan's.
  fs::copy(golden("trainer_lora/checkpoint-4/optimizer.pt"), plain / "optimizer.pt",
           fs::copy_options::overwrite_existing);
  for (const fs::path& from : {fsdp, bin, plain}) {
    SCOPED_TRACE(from);
    const std::string out = "run";
    const Finished done = go_on(from, false, {"--nproc=1", "--out=" + out});
    ASSERT_EQ(done.exit_code, 0) << done.err;
    EXPECT_THAT(done.out + done.err, HasSubstr("no optimizer's state to go on with"));
    EXPECT_LE(worst(losses(out), wanted("full", "fresh")), kLoss);
    fs::remove_all(folder_ / out);
    EXPECT_EQ((done.out + done.err).find("optimizer.pt numbers its parameters") != std::string::npos, from == plain);
  }
}

// What the run saves is ours; one that was stopped before its first checkpoint begins where it began.
TEST_F(ForeignResume, IsARunOfOursAfterwards) {
  const std::vector<double> want = wanted("full", "after");
  ASSERT_EQ(go_on(golden("zero2"), false, {"--nproc=2", "--parallel=zero3", "--every=2", "--out=run"}).exit_code, 0);
  fs::remove_all(folder_ / "run/checkpoint-8");
  const Finished again = go_on("auto", false, {"--nproc=1", "--out=run"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("checkpoint-6"));
  EXPECT_LE(worst(losses("run"), want), kLoss);
  for (const char* name : {"checkpoint-6", "checkpoint-8"}) fs::remove_all(folder_ / "run" / name);
  const Finished anew = go_on("auto", false, {"--nproc=1", "--out=run"});
  ASSERT_EQ(anew.exit_code, 0) << anew.err;
  EXPECT_THAT(anew.out, HasSubstr("at step 4 of another engine"));
  EXPECT_LE(worst(losses("run"), want), kLoss);
  EXPECT_LE(worst_weight(folder_ / "run/checkpoint-8", "full"), kWeight);
}

TEST_F(ForeignResume, RefusesAnotherPlanByName) {
  const std::vector<std::string> one{"--nproc=1", "--out=refused"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), one.begin(), one.end());
    return more;
  };
  expect_refused(go_on(golden("joint_lora"), true, with({"--alpha=8"})), {"adapter.alpha", "got 8", "made with 6"});
  expect_refused(go_on(golden("joint_lora"), false, one), {"adapter.r", "got none", "made with 2"});
  expect_refused(go_on(golden("joint_lora"), true, with({"--targets=q_proj,v_proj"})),
                 {"it also holds model.layers.0.mlp.down_proj.lora_A.weight"});
  expect_refused(go_on(golden("joint_lora"), true, with({"--targets=q_proj,v_proj,down_proj,up_proj"})),
                 {"it lacks model.layers.0.mlp.up_proj.lora_A.weight"});
  expect_refused(go_on(golden("zero1"), false, with({"--unfrozen=model.layers"})),
                 {"it also holds model.embed_tokens.weight, lm_head.weight, model.norm.weight"});
  for (const char* from : {"fsdp/checkpoint-4", "zero3"}) {
    expect_refused(go_on(golden(from), false, with({"--sgd"})), {"the plan's optimizer is sgd"});
    expect_refused(go_on(golden(from), false, with({"--steps=3"})), {"has taken 4 steps", "this run has 3 in all"});
  }
  const fs::path copied = copy("joint_lora");
  fs::remove(copied / "adapter_config.json");  // the matrices still tell
  std::vector<std::string> other_rank = with({"--r=3"});
  expect_refused(go_on(copied, false, other_rank), {"other shapes", "lora_A.weight (saved [2, 16], wanted [3, 16])"});
}

TEST_F(ForeignResume, RefusesFilesThatAreNotWhole) {
  const std::vector<std::string> two{"--nproc=2", "--parallel=zero3", "--out=refused"};
  const auto cut = [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) / 2); };
  struct Damage {
    const char* source;
    std::function<void(const fs::path&)> act;
    std::vector<std::string> texts;
  };
  const Damage all[] = {
      {"fsdp/checkpoint-4", [](const fs::path& at) { fs::remove(at / "optimizer_0/__1_0.distcp"); }, {"__1_0.distcp"}},
      {"fsdp/checkpoint-4",
       [](const fs::path& at) { fs::remove(at / "pytorch_model_fsdp_0/__0_0.distcp"); },
       {"__0_0.distcp"}},
      {"fsdp/checkpoint-4", [&](const fs::path& at) { cut(at / "optimizer_0/__0_0.distcp"); }, {"__0_0.distcp"}},
      {"fsdp/checkpoint-4",
       [](const fs::path& at) { spill(at / "trainer_state.json", "{\"global_step\": \"x\"}"); },
       {"global_step", "want a count"}},
      {"zero2",
       [](const fs::path& at) { fs::remove(at / "global_step4/zero_pp_rank_1_mp_rank_00_optim_states.pt"); },
       {"want 2", "missing"}},
      {"zero3",
       [&](const fs::path& at) { cut(at / "global_step4/zero_pp_rank_2_mp_rank_00_optim_states.pt"); },
       {"zero_pp_rank_2_mp_rank_00_optim_states.pt"}},
  };
  for (const Damage& damage : all) {
    SCOPED_TRACE(damage.source + (": " + damage.texts[0]));
    const fs::path at = copy(damage.source);
    damage.act(at);
    expect_refused(go_on(at, false, two), damage.texts);
    fs::remove_all(at);
  }
}

// With a config.json beside it such a folder is a model: its loss, logits and gradients are those of transformers.
TEST_F(ForeignResume, IsAModelToCompareAndEvaluate) {
  for (const char* name : {"fsdp/checkpoint-4", "zero1", "zero2", "zero3", "bin"}) {
    SCOPED_TRACE(name);
    const std::string model = copy(name).string();
    fs::copy(golden("model/config.json"), fs::path(model) / "config.json");
    const Finished parity = run({"parity", model, "--reference", golden("values.safetensors")}, folder_.path());
    EXPECT_EQ(parity.exit_code, 0) << parity.err;
    EXPECT_THAT(parity.out, HasSubstr("gradients  12 compared"));
    const Finished eval = run({"eval", model, "rows.jsonl", "--json"}, folder_.path());
    ASSERT_EQ(eval.exit_code, 0) << eval.err;
    const double loss = Json::parse(eval.out).at("loss");
    EXPECT_NEAR(loss, wanted("full", "after")[0], 5e-3);  // in whatever dtype this processor computes
  }
}

}  // namespace
}  // namespace ft::test
