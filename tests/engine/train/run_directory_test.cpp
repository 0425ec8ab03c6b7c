#include "engine/train/run_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <set>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/train/interrupt.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class RunDirectoryTest : public testing::Test {
 protected:
  static std::string refusal(const std::function<void()>& action) {
    const Error error = test::thrown(action);
    EXPECT_EQ(error.kind(), ErrorKind::config);
    return error.what();
  }
  const test::TemporaryDirectory root_;
};

TEST_F(RunDirectoryTest, FreshNumberedDirectories) {
  const fs::path base = root_ / "runs" / "demo";
  const RunDirectory first = RunDirectory::create_numbered(base);
  const RunDirectory second = RunDirectory::create_numbered(base);
  EXPECT_EQ(first.path(), root_ / "runs" / "demo-1");
  EXPECT_EQ(second.path(), root_ / "runs" / "demo-2");
  fs::create_directory(root_ / "runs" / "demo-10");
  fs::create_directory(root_ / "runs" / "demo-11b");
  fs::create_directory(root_ / "runs" / "demo-x-12");
  EXPECT_EQ(RunDirectory::create_numbered(base).path().filename(), "demo-11");
}

TEST_F(RunDirectoryTest, ProcessesThatStartTogetherNeverShareOne) {
  constexpr int kProcesses = 8;
  for (int i = 0; i < kProcesses; ++i) {
    if (fork() != 0) continue;
    const RunDirectory directory = RunDirectory::create_numbered(root_ / "demo");
    write_text(directory.path() / ("by-" + std::to_string(i)), "");
    _exit(0);
  }
  for (int i = 0; i < kProcesses; ++i) {
    int status = 0;
    wait(&status);
    EXPECT_EQ(status, 0);
  }
  for (int number = 1; number <= kProcesses; ++number) {
    int by = 0;
    for (const auto& entry : fs::directory_iterator(root_ / ("demo-" + std::to_string(number))))
      by += entry.path().filename().string().rfind("by-", 0) == 0;
    EXPECT_EQ(by, 1) << number;
  }
}

TEST_F(RunDirectoryTest, NothingIsOverwrittenUnasked) {
  const fs::path path = root_ / "mine";
  fs::create_directories(path / "checkpoint-200");
  write_text(path / "run.json", "{}");
  write_text(path / "notes.txt", "");
  const std::string text = refusal([&] { RunDirectory::create_at(path); });
  EXPECT_THAT(text,
              HasSubstr("mine: --out: holds a run already (checkpoint-200, run.json), and nothing is overwritten"));
  fs::remove(path / "run.json");
  fs::remove(path / "checkpoint-200");
  EXPECT_EQ(RunDirectory::create_at(path).path(), path);  // notes.txt alone is no run
  EXPECT_THAT(refusal([&] { RunDirectory::reopen(path); }), HasSubstr("run.json is missing"));
  EXPECT_TRUE(fs::exists(path / "notes.txt"));
}

TEST_F(RunDirectoryTest, ALockGuardsIt) {
  const fs::path path = root_ / "locked";
  {
    const RunDirectory directory = RunDirectory::create_at(path);
    EXPECT_THAT(refusal([&] { RunDirectory::create_at(path); }),
                HasSubstr("another run is at work here, process " + std::to_string(getpid())));
  }
  EXPECT_FALSE(fs::exists(path / "lock"));
  const pid_t child = fork();
  if (child == 0) {
    const RunDirectory directory = RunDirectory::create_at(path);
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(fs::exists(path / "lock"));
  EXPECT_NO_THROW(RunDirectory::create_at(path));  // the lock died with its process
}

TEST_F(RunDirectoryTest, HoldsWhatTheRunWasMadeFrom) {
  write_text(root_ / "tokenizer.json", "{}");
  write_text(root_ / "train.jsonl", "{\"text\": \"a\"}\n");
  RunContents contents;
  contents.plan = Value::map({{"epochs", 1.0}});
  contents.config = Value::map({{"model_type", "qwen3"}});
  contents.companions = {root_ / "tokenizer.json"};
  contents.record.base_model = "/models/demo";
  contents.record.quantized = {"model.layers.0.mlp.up_proj.weight"};
  contents.record.double_quant = true;
  contents.record.seed = 7;
  contents.record.data = {
      {"train", root_ / "train.jsonl"}, {"val", root_ / "train.jsonl"}, {"val", root_ / "tokenizer.json"}};
  const RunDirectory directory = RunDirectory::create_at(root_ / "run");
  directory.write(contents);
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory.path())) names.insert(entry.path().filename());
  EXPECT_THAT(names, testing::ElementsAre("config.json", "lock", "plan.json", "run.json", "tokenizer.json"));
  const Value record = read_json(directory.path() / "run.json");
  EXPECT_EQ(record.at("base_model").as_string(), "/models/demo");
  EXPECT_EQ(record.at("quantized").as_list().size(), 1u);
  EXPECT_TRUE(record.at("double_quant").as_bool());
  EXPECT_EQ(record.at("versions").at("libtorch").as_string().substr(0, 3), "2.1");
  EXPECT_EQ(record.at("data").at("train").at("bytes").as_integer(), 14);
  EXPECT_EQ(record.at("data").at("train").at("xxh3").as_string().size(), 16u);
  const Value::List& val = record.at("data").at("val").as_list();
  ASSERT_EQ(val.size(), 2u);
  EXPECT_EQ(val[0], record.at("data").at("train"));
  EXPECT_EQ(val[1].at("path").as_string(), (root_ / "tokenizer.json").string());
}

TEST(Interrupt, OnceIsAWishTwiceStops) {
  const pid_t child = fork();
  if (child == 0) {
    watch_for_interrupts();
    if (interrupted() != 0) _exit(1);
    raise(SIGINT);
    if (interrupted() != SIGINT || interrupt_exit_code(interrupted()) != 130) _exit(2);
    raise(SIGINT);
    _exit(3);  // not reached
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 130);
}

}  // namespace
}  // namespace ft
