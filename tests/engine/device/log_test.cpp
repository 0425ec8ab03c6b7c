#include "engine/device/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "engine/error/error.h"
#include "tests/temporary_directory.h"

namespace ft {
namespace {

class Log : public testing::Test {
 protected:
  void SetUp() override { unsetenv("FTENGINE_LOG"); }
  void TearDown() override {
    stop_log();
    unsetenv("FTENGINE_LOG");
  }
  std::string file(const std::string& name) const { return test::slurp(directory_ / name); }
  const test::TemporaryDirectory directory_;
  std::string screen_;
  std::shared_ptr<Terminal> terminal_ =
      std::make_shared<Terminal>([this](std::string_view out) { screen_ += out; }, Terminal::Options{});
};

TEST_F(Log, AFileForEachRankAndWarningsOnTheTerminal) {
  start_log({.directory = directory_, .rank = 3, .terminal = terminal_});
  log_debug("unseen {}");
  log_info("braces {} stay");
  log_warning("look here");
  EXPECT_THAT(file("log-rank3.txt"), testing::HasSubstr(" info: braces {} stay\n"));
  EXPECT_THAT(file("log-rank3.txt"), testing::HasSubstr(" warning: look here\n"));
  EXPECT_THAT(file("log-rank3.txt"), testing::Not(testing::HasSubstr("unseen")));
  EXPECT_EQ(screen_, "warning: look here\n");
}

TEST_F(Log, TheLevelComesFromTheOptionThenTheEnvironment) {
  setenv("FTENGINE_LOG", "debug", 1);
  start_log({.directory = directory_, .terminal = terminal_});
  log_debug("detail");
  EXPECT_EQ(screen_, "debug: detail\n");
  start_log({.directory = directory_, .level = "error", .terminal = terminal_});
  log_warning("no");
  EXPECT_EQ(screen_, "debug: detail\n");
  setenv("FTENGINE_LOG", "loud", 1);
  try {
    start_log({.directory = directory_});
    FAIL() << "level loud";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "environment: FTENGINE_LOG: got 'loud', want trace, debug, info, warn, error or off");
  }
}

TEST_F(Log, AFolderThatIsNotThereIsAnError) { EXPECT_THROW(start_log({.directory = "/proc/nowhere"}), Error); }

}  // namespace
}  // namespace ft
