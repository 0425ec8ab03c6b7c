#include "engine/parallel/launch.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <thread>

#include "engine/device/cores.h"
#include "tests/ranks/ranks.h"

namespace ft {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Launched {
  int exit_code = 0;
  std::string output;
};

// Runs the launcher in a child, as main would; its ranks run a RANK_BODY. `during` may signal the supervisor.
Launched launch(int nproc, const char* body, const char* argument = "", std::function<void(pid_t, int)> during = {}) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    setenv("FTENGINE_TEST_BODY", body, 1);
    setenv("FTENGINE_TEST_ARGUMENT", argument, 1);
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    try {
      _exit(launch_local_ranks({"ranks", "--gtest_color=no"}, {.nproc = nproc, .grace_seconds = 2}));
    } catch (const Error& error) {
      report_fatal(error);
      _exit(99);
    }
  }
  close(ends[1]);
  if (during) during(child, ends[0]);
  Launched launched;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) launched.output.append(buffer, n);
  close(ends[0]);
  // Rank 0 is this test's own binary: what GoogleTest prints before the body runs is not the launcher's.
  const std::string banner = "Global test environment set-up.\n";
  if (const size_t at = launched.output.find(banner); at != std::string::npos)
    launched.output.erase(0, at + banner.size());
  int status = 0;
  waitpid(child, &status, 0);
  launched.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return launched;
}

void say(const std::string& text) { [[maybe_unused]] const auto n = write(STDOUT_FILENO, text.data(), text.size()); }

void wait_for_text(int fd, const std::string& want) {
  std::string seen;
  char c;
  while (seen.find(want) == std::string::npos && read(fd, &c, 1) == 1) seen += c;
}

RANK_BODY(says_its_place) {
  const auto environment = *RankEnvironment::from_env();
  say("rank " + std::to_string(group->rank()) + " of " + std::to_string(group->size()) + " local " +
      std::to_string(environment.local_rank) + " threads " + std::getenv("OMP_NUM_THREADS") + " sum " +
      std::to_string(static_cast<int>(group->sum(group->rank()))) + "\n");
  return "";
}

RANK_BODY(fails_on_one_rank) {
  group->barrier();
  if (group->rank() == std::atoi(argument.c_str()))
    throw Error(ErrorKind::format, "not JSON").at("chats.jsonl:17").help("each line is one object");
  group->barrier();
  return "";
}

RANK_BODY(fails_on_every_rank) { throw Error(ErrorKind::io, "cannot be read").at("model.safetensors"); }

// The rank that knows why comes to say it after those that have lost it.
RANK_BODY(says_why_late) {
  group->barrier();
  if (group->rank() == 1) {
    report_fatal(Error(ErrorKind::comm, "lost another rank"));
    _exit(1);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  throw Error(ErrorKind::memory, "no memory for the optimizer");
}

RANK_BODY(crashes) {
  group->barrier();
  if (group->rank() == 1) {
    std::fputs("free(): invalid pointer\n", stderr);
    std::signal(SIGABRT, SIG_DFL);
    std::abort();
  }
  group->barrier();
  return "";
}

RANK_BODY(hangs_while_another_fails) {
  group->barrier();
  if (group->rank() == 0) throw Error(ErrorKind::config, "no such key");
  std::signal(SIGTERM, SIG_IGN);
  for (;;) pause();
}

RANK_BODY(never_leaves) {
  group->barrier();
  if (group->rank() == 0) say("ready\n");
  for (;;) pause();
}

volatile std::sig_atomic_t g_interrupts = 0;

RANK_BODY(waits_for_interrupt) {
  const int wanted = std::atoi(argument.c_str());
  std::signal(SIGINT, [](int) { g_interrupts = g_interrupts + 1; });
  std::signal(SIGTERM, [](int) { g_interrupts = g_interrupts + 1; });
  group->barrier();
  if (group->rank() == 0) say("ready\n");
  for (int i = 0; i < 12'000 && g_interrupts < wanted; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  if (group->max(-g_interrupts) != -wanted || group->max(g_interrupts) != wanted) _exit(7);
  if (group->rank() == 0) {  // its save takes longer; the others' leaving must not end it
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    say(g_interrupts == wanted ? "saved\n" : "interrupted again\n");
  }
  report_fatal(Error(ErrorKind::interrupt, "stopped"));
  _exit(130);
}

TEST(Launch, RanksSeeTheirPlace) {
  unsetenv("OMP_NUM_THREADS");
  const Launched launched = launch(3, "says_its_place");
  EXPECT_EQ(launched.exit_code, 0);
  // Only rank 0 keeps the terminal.
  EXPECT_EQ(launched.output,
            "rank 0 of 3 local 0 threads " + std::to_string(std::max(1, usable_cores() / 3)) + " sum 3\n");
  setenv("OMP_NUM_THREADS", "5", 1);
  EXPECT_THAT(launch(1, "says_its_place").output, HasSubstr("rank 0 of 1 local 0 threads 5 sum 0\n"));
  unsetenv("OMP_NUM_THREADS");
}

TEST(Launch, OneMessageTheOneThatSaysWhy) {
  for (const char* rank : {"0", "2"}) {
    const Launched launched = launch(3, "fails_on_one_rank", rank);
    EXPECT_EQ(launched.exit_code, 1);
    EXPECT_EQ(launched.output, "chats.jsonl:17: not JSON\n   help: each line is one object\n") << rank;
  }
  EXPECT_EQ(launch(2, "says_why_late").output, "no memory for the optimizer\n");
  EXPECT_EQ(launch(4, "fails_on_every_rank").output, "model.safetensors: cannot be read\n");
}

TEST(Launch, ACrashIsNamedWithItsLastWords) {
  const Launched launched = launch(2, "crashes");
  EXPECT_EQ(launched.exit_code, 128 + SIGABRT);
  EXPECT_THAT(launched.output, HasSubstr("rank 1 of 2 was ended by signal 6 (Aborted)\n   its last words:\n"));
  EXPECT_THAT(launched.output, HasSubstr("free(): invalid pointer"));
  EXPECT_THAT(launched.output, Not(HasSubstr("lost another rank")));
}

// The launcher would wait for them for ever.
TEST(Launch, RanksThatDoNotLeaveAreKilled) {
  const Launched launched = launch(2, "hangs_while_another_fails");
  EXPECT_EQ(launched.exit_code, 1);
  EXPECT_EQ(launched.output, "no such key\n");
}

TEST(Launch, AnInterruptReachesEachRankOnceAndLetsItSave) {
  for (int signal : {SIGINT, SIGTERM}) {
    const Launched launched = launch(2, "waits_for_interrupt", "1", [&](pid_t supervisor, int out) {
      wait_for_text(out, "ready\n");
      kill(supervisor, signal);
    });
    EXPECT_EQ(launched.exit_code, 130) << launched.output;
    EXPECT_EQ(launched.output, "saved\nstopped\n");
  }
}

// The pipe closes when the last rank is gone, else never.
TEST(Launch, RanksDieWithTheSupervisor) {
  const Launched launched = launch(2, "never_leaves", "", [&](pid_t supervisor, int out) {
    wait_for_text(out, "ready\n");
    kill(supervisor, SIGKILL);
  });
  EXPECT_EQ(launched.exit_code, 128 + SIGKILL);
}

}  // namespace
}  // namespace ft
