// Training on Parquet and Arrow files: the losses of the same rows as JSONL, to the bit, however the files are named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

fs::path golden(const std::string& name) { return fs::path(ft_source_dir()) / "tests/golden/columns" / name; }
bool have_plugin() { return fs::exists(fs::path(ft_program()).parent_path() / "libftengine_arrow.so"); }

/// One pre-trained base, and a run on JSONL, for all tests.
class ColumnRuns : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!have_plugin()) return;
    shared_ = std::make_unique<TemporaryDirectory>();
    const fs::path model = pretrained(shared_->path());
    ASSERT_FALSE(model.empty());
    copy_of(model, *shared_ / "model");
    recipe_ = recipe("qlora_fsdp2.lua", shared_->path());
    json_ = losses("json", {"--data=" + golden("chats.jsonl").string()});
    ASSERT_GE(json_.size(), 3u);
  }
  static void TearDownTestSuite() { shared_.reset(); }
  void SetUp() override {
    if (!have_plugin()) GTEST_SKIP() << "the Arrow plugin is not built";
  }

  /// Runs the recipe into `out`. @return each step's loss, as it is written
  static std::vector<std::string> losses(const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> words{"run",       recipe_.string(), "--model=model", "--rank=2",
                                   "--lr=0.01", "--seq_len=64",   "--epochs=4",    "--out=" + out};
    words.insert(words.end(), more.begin(), more.end());
    const Finished done = run(words, shared_->path());
    EXPECT_EQ(done.exit_code, 0) << done.err;
    said_ = done.out;
    return done.exit_code == 0 ? losses_of(*shared_ / out) : std::vector<std::string>();
  }
  static std::vector<std::string> losses_of(const fs::path& folder) {
    std::vector<std::string> out;
    for (const Json& row : metrics(folder)) out.push_back(row.at("loss").dump());
    return out;
  }

  static std::unique_ptr<TemporaryDirectory> shared_;
  static fs::path recipe_;
  static std::vector<std::string> json_;
  static std::string said_;
};
std::unique_ptr<TemporaryDirectory> ColumnRuns::shared_;
fs::path ColumnRuns::recipe_;
std::vector<std::string> ColumnRuns::json_;
std::string ColumnRuns::said_;

TEST_F(ColumnRuns, LearnWhatJsonTeaches) {
  EXPECT_EQ(losses("parquet", {"--data=" + golden("chats.parquet").string()}), json_);
  EXPECT_EQ(losses("arrow", {"--data=" + golden("chats/train").string()}), json_);
  EXPECT_EQ(losses("glob", {"--data=" + golden("chats/tr*/data-*.arrow").string()}), json_);
}

TEST_F(ColumnRuns, MapWhatPreprocessTokenized) {
  const std::string data = "--data=" + golden("chats.parquet").string();
  const std::string cache = "FTENGINE_CACHE=" + (*shared_ / "cache").string() + " ";
  const std::string words = recipe_.string() + " --model=model --rank=2 --lr=0.01 --seq_len=64 --epochs=4 ";
  const Finished made = shell(cache + "ftengine preprocess " + words + data, shared_->path());
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const Finished done = shell(cache + "ftengine run " + words + data + " --out=mapped", shared_->path());
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("mapped from "));
  EXPECT_EQ(losses_of(*shared_ / "mapped"), json_);
}

// A folder of two splits, as Axolotl's users name it.
TEST_F(ColumnRuns, AreNamedInConfigurations) {
  const auto config = [&](const std::string& data) {
    return "base_model: model\nadapter: lora\nlora_r: 2\nlora_alpha: 4\nlora_target_linear: true\nsequence_len: 64\n"
           "micro_batch_size: 2\nmax_steps: 3\noptimizer: adamw_torch_fused\nlr_scheduler: constant\nlearning_rate: "
           "0.01\n"
           "chat_template: chatml\ndatasets:\n" +
           data;
  };
  const auto losses_with = [&](const std::string& name, const std::string& data) {
    spill(*shared_ / (name + ".yml"), config(data) + "output_dir: " + name + "\n");
    const Finished done = run({"run", name + ".yml"}, shared_->path());
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return losses_of(*shared_ / name);
  };
  const auto entry = [](const std::string& path, const std::string& more = "") {
    return "  - path: " + path + "\n    type: chat_template\n" + more;
  };
  const auto want = losses_with("yaml_json", entry(golden("chats.jsonl").string()));
  ASSERT_EQ(want.size(), 3u);
  EXPECT_EQ(losses_with("yaml_folder", entry(golden("chats").string(), "    split: train\n")), want);
  EXPECT_EQ(losses_with("yaml_kind", entry("parquet", "    data_files: [" + golden("chats.parquet").string() + "]\n")),
            want);
  EXPECT_EQ(losses_with("yaml_type", entry(golden("chats.parquet").string(), "    ds_type: parquet\n")), want);
  spill(*shared_ / "none.yml", config(entry(golden("saved").string(), "    split: test\n")) + "output_dir: none\n");
  const Finished none = run({"run", "none.yml"}, shared_->path());
  EXPECT_NE(none.exit_code, 0);
  EXPECT_THAT(none.err + none.out, HasSubstr("holds no files of the split 'test'"));
}

TEST_F(ColumnRuns, SayWhatToDoWithoutThePlugin) {
  const Finished done = shell(
      "FTENGINE_ARROW_PLUGIN=/none ftengine run " + recipe_.string() +
          " --model=model --rank=2 --seq_len=64 --epochs=4 --data=" + golden("chats.parquet").string() + " --out=none",
      shared_->path());
  EXPECT_NE(done.exit_code, 0);
  EXPECT_THAT(done.err, AllOf(HasSubstr("chats.parquet: cannot be read: this ftengine was built without Arrow"),
                              HasSubstr("run tools/setup, which fetches it (55 MB), and build again")));
  EXPECT_THAT(done.err, Not(HasSubstr("a bug")));
}

}  // namespace
}  // namespace ft::test
