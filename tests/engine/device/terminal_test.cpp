#include "engine/device/terminal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <thread>

#include "engine/device/progress_bar.h"

namespace ft {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

struct Screen {
  std::string text;
  std::shared_ptr<Terminal> terminal(bool live, bool color = false, int width = 80) {
    return std::make_shared<Terminal>([this](std::string_view out) { text += out; },
                                      Terminal::Options{.live = live, .color = color, .width = width});
  }
  // What would be seen: erased lines left out.
  std::string seen() const {
    std::string result;
    for (size_t at = 0; at < text.size();) {
      if (text.compare(at, 5, "\r\x1b[2K") == 0) {
        result.erase(result.rfind('\n') + 1);
        at += 5;
      } else {
        result += text[at++];
      }
    }
    return result;
  }
};

TEST(Terminal, LinesStandAboveTheLiveLine) {
  Screen screen;
  const auto terminal = screen.terminal(true);
  terminal->draw("step 1");
  terminal->print("warning: something");
  terminal->draw("step 2");
  EXPECT_EQ(screen.seen(), "warning: something\nstep 2");
  terminal->keep();
  terminal->print("done");
  EXPECT_EQ(screen.seen(), "warning: something\nstep 2\ndone\n");
}

TEST(Terminal, WithoutOneNothingIsDrawn) {
  Screen screen;
  const auto terminal = screen.terminal(false);
  terminal->draw("step 1");
  terminal->print("line");
  terminal->keep();
  EXPECT_EQ(screen.text, "line\n");
}

TEST(Terminal, ColorOnlyWhereThereIs) {
  Screen screen;
  EXPECT_EQ(screen.terminal(true, false)->paint(Style::red, "x"), "x");
  EXPECT_EQ(screen.terminal(true, true)->paint(Style::red, "x"), "\x1b[31mx\x1b[0m");
}

TEST(Terminal, CutsToTheWidthWithoutBreakingCharacters) {
  EXPECT_EQ(columns("naïve █▌"), 8);
  EXPECT_EQ(columns("\x1b[31mred\x1b[0m"), 3);
  EXPECT_EQ(cut("naïve", 3), "naï");
  EXPECT_EQ(cut("\x1b[31mred\x1b[0m", 2), "\x1b[31mre\x1b[0m");
  EXPECT_EQ(cut("short", 80), "short");
  Screen screen;
  screen.terminal(true, false, 10)->draw("0123456789abc");
  EXPECT_THAT(screen.text, StartsWith("\r\x1b[2K012345678"));  // one column free
  EXPECT_THAT(screen.text, Not(HasSubstr("9")));
}

TEST(Terminal, APipeIsNoTerminal) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  setenv("TERM", "xterm", 1);
  EXPECT_FALSE(Terminal::on(ends[1])->live());
  close(ends[0]);
  close(ends[1]);
}

TEST(Terminal, NoColorIsHonoured) {
  const int fd = posix_openpt(O_RDWR | O_NOCTTY);
  if (fd < 0) GTEST_SKIP() << "no pseudo terminal here";
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  EXPECT_TRUE(Terminal::on(fd)->live());
  EXPECT_NE(Terminal::on(fd)->paint(Style::red, "x"), "x");
  setenv("NO_COLOR", "1", 1);
  EXPECT_EQ(Terminal::on(fd)->paint(Style::red, "x"), "x");
  EXPECT_TRUE(Terminal::on(fd)->live());
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(Terminal::on(fd)->live());
  close(fd);
}

TEST(ProgressBar, OnATerminal) {
  Screen screen;
  {
    ProgressBar bar(screen.terminal(true), "Loading & Quantizing Model Shards", 2'000'000);
    EXPECT_THAT(screen.seen(), HasSubstr("Loading & Quantizing Model Shards |                        | 0% of 2.00 MB"));
    std::this_thread::sleep_for(std::chrono::milliseconds(120));
    bar.advance(1'000'000);
    EXPECT_THAT(screen.seen(), HasSubstr("|████████████            | 50% of 2.00 MB"));
    bar.advance(1'000'000);
    bar.finish();
  }
  EXPECT_THAT(screen.seen(), MatchesRegex("Loading & Quantizing Model Shards: 2.00 MB in [0-9.]+ s\n"));
}

TEST(ProgressBar, WithoutATerminalItIsALineNowAndThen) {
  Screen screen;
  ProgressBar bar(screen.terminal(false), "Merging", 100, std::chrono::seconds(10));
  for (int i = 0; i < 100; ++i) bar.advance(1);
  EXPECT_EQ(screen.text, "");
  bar.finish();
  EXPECT_THAT(screen.text, MatchesRegex("Merging: 100 B in [0-9.e-]+ s\n"));
  ProgressBar eager(screen.terminal(false), "Merging", 100, std::chrono::seconds(0));
  eager.advance(43);
  EXPECT_THAT(screen.text, HasSubstr("Merging: 43% of 100 B\n"));
}

TEST(ProgressBar, ManyThreadsAdvanceIt) {
  Screen screen;
  ProgressBar bar(screen.terminal(true), "Loading", 4000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) bar.advance(1);
    });
  for (auto& thread : threads) thread.join();
  bar.finish();
  EXPECT_THAT(screen.seen(), StartsWith("Loading: 4.00 kB in"));
}

}  // namespace
}  // namespace ft
