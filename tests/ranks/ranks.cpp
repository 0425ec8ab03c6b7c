#include "tests/ranks/ranks.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <map>

#include "engine/error/error.h"
#include "engine/parallel/launch.h"

namespace ft::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kBody = "FTENGINE_TEST_BODY";
constexpr const char* kArgument = "FTENGINE_TEST_ARGUMENT";
constexpr const char* kResultFd = "FTENGINE_TEST_FD";

std::map<std::string, RankBody>& bodies() {
  static std::map<std::string, RankBody> map;
  return map;
}

void write_all(int fd, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n <= 0) _exit(3);
    done += static_cast<size_t>(n);
  }
}

// In a rank's process, set-up of the tests is the body, and no test is run.
class RankSide : public testing::Environment {
 public:
  void SetUp() override {
    const char* body = std::getenv(kBody);
    if (!body) return;
    int code = 0;
    try {
      const auto found = bodies().find(body);
      FT_CHECK(found != bodies().end(), std::string("no RANK_BODY(") + body + ")");
      const auto group = ProcessGroup::connect(*RankEnvironment::from_env(), std::chrono::seconds(60));
      const char* argument = std::getenv(kArgument);
      const std::string value = found->second(group, argument ? argument : "");
      if (const char* fd = std::getenv(kResultFd)) write_all(std::atoi(fd), value);
    } catch (const Error& error) {
      report_fatal(error);
      code = 1;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      code = 1;
    }
    if (testing::Test::HasFailure()) code = 2;
    std::fflush(nullptr);
    _exit(code);
  }
};

[[maybe_unused]] const auto* const kRankSide = testing::AddGlobalTestEnvironment(new RankSide);

struct Started {
  pid_t pid = -1;
  int result_fd = -1, output_fd = -1;
  bool done = false;
};

Started start(int rank, int world, const std::string& body, const RanksOptions& options, int store_fd, int port) {
  int result[2], output[2];
  FT_CHECK(pipe2(result, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0, "pipe");
  const pid_t pid = fork();
  FT_CHECK(pid >= 0, "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const std::map<std::string, std::string> set = {
        {"RANK", std::to_string(rank)},
        {"LOCAL_RANK", std::to_string(rank)},
        {"WORLD_SIZE", std::to_string(world)},
        {"LOCAL_WORLD_SIZE", std::to_string(world)},
        {"MASTER_ADDR", "127.0.0.1"},
        {"MASTER_PORT", std::to_string(port)},
        {"FTENGINE_STORE_FD", rank == 0 ? std::to_string(store_fd) : ""},
        {"OMP_NUM_THREADS", std::to_string(options.threads)},
        {kBody, body},
        {kArgument, options.argument},
        {kResultFd, std::to_string(result[1])},
    };
    for (const auto& [name, value] : set) setenv(name.c_str(), value.c_str(), 1);
    unsetenv("GTEST_OUTPUT");
    dup2(output[1], STDOUT_FILENO);
    dup2(output[1], STDERR_FILENO);
    fcntl(result[1], F_SETFD, 0);
    fcntl(store_fd, F_SETFD, 0);
    execl("/proc/self/exe", "rank", "--gtest_color=no", nullptr);
    _exit(127);
  }
  close(result[1]);
  close(output[1]);
  fcntl(result[0], F_SETFL, O_NONBLOCK);
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  return {pid, result[0], output[0]};
}

void read_available(int fd, std::string& text) {
  char buffer[65536];
  for (ssize_t n; (n = ::read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
}

}  // namespace

RankBodyEntry::RankBodyEntry(const char* name, RankBody body) { bodies()[name] = body; }

std::vector<RankResult> run_ranks_raw(int world, const std::string& body, const RanksOptions& options) {
  int port = 0;
  const int store_fd = listen_on_loopback(port);
  const auto end = Clock::now() + options.limit;
  std::vector<Started> started;
  for (int rank = 0; rank < world; ++rank) started.push_back(start(rank, world, body, options, store_fd, port));
  close(store_fd);
  std::vector<RankResult> results(world);
  for (int left = world; left > 0;) {
    std::vector<pollfd> watched;
    for (const Started& one : started) {
      if (one.done) continue;
      watched.push_back({one.result_fd, POLLIN, 0});
      watched.push_back({one.output_fd, POLLIN, 0});
    }
    poll(watched.data(), watched.size(), 5);
    const bool late = Clock::now() > end;
    for (int rank = 0; rank < world; ++rank) {
      Started& one = started[rank];
      if (one.done) continue;
      if (late) kill(one.pid, SIGKILL);
      int status = 0;
      const bool ended = waitpid(one.pid, &status, late ? 0 : WNOHANG) == one.pid;
      read_available(one.result_fd, results[rank].value);
      read_available(one.output_fd, results[rank].output);
      if (!ended) continue;
      results[rank].exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      if (late) results[rank].output += "\n(killed at the time limit)";
      close(one.result_fd);
      close(one.output_fd);
      one.done = true;
      --left;
    }
  }
  return results;
}

std::vector<std::string> run_ranks(int world, const std::string& body, const RanksOptions& options) {
  std::vector<std::string> values;
  const std::vector<RankResult> results = run_ranks_raw(world, body, options);
  for (int rank = 0; rank < world; ++rank) {
    const RankResult& result = results[rank];
    if (result.exit_code != 0)
      ADD_FAILURE() << body << ": rank " << rank << " of " << world << " left with " << result.exit_code << "\n"
                    << result.output;
    values.push_back(result.exit_code == 0 ? result.value : "");
  }
  return values;
}

}  // namespace ft::test
