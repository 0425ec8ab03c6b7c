#include "engine/parallel/launch.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "engine/device/cores.h"
#include "engine/device/memory.h"

extern char** environ;

namespace ft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kErrorFd = "FTENGINE_ERROR_FD";
constexpr const char* kRunFd = "FTENGINE_RUN_FD";  // a file in memory: the run's directory, from rank 0
constexpr const char* kRestartIn = "FTENGINE_RESTART_IN";
constexpr size_t kStderrKept = 8192;  // of each rank but 0: the end, where a crash says what it was

[[noreturn]] void fail(const std::string& what) {
  throw Error(ErrorKind::io, what + ": " + std::strerror(errno)).context("starting local ranks");
}

// A file descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    reset();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  ~Fd() { reset(); }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read, write;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail("cannot make a pipe");
    read = Fd(ends[0]);
    write = Fd(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
  }
};

struct RankProcess {
  int rank = 0;
  pid_t pid = -1;
  Fd errors, stderr_end;
  std::string error_text, stderr_text;
  std::optional<int> status;  // of waitpid
  bool stopped_by_us = false;

  bool failed() const { return status && !(WIFEXITED(*status) && WEXITSTATUS(*status) == 0); }
  int exit_code() const { return WIFSIGNALED(*status) ? 128 + WTERMSIG(*status) : WEXITSTATUS(*status); }
};

// Reads what is there; closes at the end. Keeps at most `most` bytes, the last ones.
void drain(Fd& fd, std::string& text, size_t most) {
  char buffer[4096];
  while (fd) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return fd.reset();
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > most) text.erase(0, text.size() - most);
  }
}

// What the starts of a run's ranks share.
struct Attempt {
  LaunchOptions options;
  int run_fd = -1;
  std::string restart_in;
};

std::vector<std::string> environment_of(int rank, const Attempt& attempt, int port, int store_fd, int error_fd) {
  const LaunchOptions& options = attempt.options;
  std::vector<std::pair<std::string, std::string>> set = {
      {"RANK", std::to_string(rank)},
      {"LOCAL_RANK", std::to_string(rank)},
      {"WORLD_SIZE", std::to_string(options.nproc)},
      {"LOCAL_WORLD_SIZE", std::to_string(options.nproc)},
      {"MASTER_ADDR", "127.0.0.1"},
      {"MASTER_PORT", std::to_string(port)},
      {"FTENGINE_STORE_FD", rank == 0 ? std::to_string(store_fd) : ""},
      {kErrorFd, std::to_string(error_fd)},
      {kRunFd, rank == 0 ? std::to_string(attempt.run_fd) : ""},
      {kRestartIn, attempt.restart_in},
  };
  if (!std::getenv("OMP_NUM_THREADS"))
    set.emplace_back("OMP_NUM_THREADS", std::to_string(std::max(1, usable_cores() / options.nproc)));
  std::vector<std::string> environment;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    if (std::none_of(set.begin(), set.end(), [&](const auto& pair) { return pair.first == name; }))
      environment.push_back(text);
  }
  for (const auto& [name, value] : set) environment.push_back(name + "=" + value);
  return environment;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Starts one rank. Between fork and exec only async-signal-safe calls.
RankProcess start_rank(int rank, const std::vector<std::string>& arguments, const Attempt& attempt, int port,
                       int store_fd) {
  RankProcess process;
  process.rank = rank;
  Pipe errors, output;
  std::vector<std::string> argument_texts = arguments;
  std::vector<std::string> environment_texts = environment_of(rank, attempt, port, store_fd, errors.write.get());
  const std::vector<char*> argv = pointers(argument_texts), envp = pointers(environment_texts);
  const Fd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nothing) fail("cannot open /dev/null");
  const pid_t supervisor = getpid();
  const pid_t pid = fork();
  if (pid < 0) fail("cannot start rank " + std::to_string(rank));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != supervisor) _exit(1);  // it died before the line above
    setpgid(0, 0);
    signal(SIGUSR1, SIG_IGN);  // until the rank watches for it
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    if (rank > 0) {
      dup2(nothing.get(), STDIN_FILENO);
      dup2(nothing.get(), STDOUT_FILENO);
      dup2(output.write.get(), STDERR_FILENO);
    }
    fcntl(errors.write.get(), F_SETFD, 0);
    if (rank == 0) fcntl(store_fd, F_SETFD, 0);
    if (rank == 0) fcntl(attempt.run_fd, F_SETFD, 0);
    execve("/proc/self/exe", argv.data(), envp.data());
    _exit(127);
  }
  setpgid(pid, pid);
  process.pid = pid;
  process.errors = std::move(errors.read);
  if (rank > 0) process.stderr_end = std::move(output.read);
  return process;
}

class Supervisor {
 public:
  explicit Supervisor(Attempt attempt) : attempt_(std::move(attempt)) {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1}) sigaddset(&set, signal);
    if (sigprocmask(SIG_BLOCK, &set, &mask_before_) != 0) fail("cannot block signals");
    signals_ = Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) fail("cannot watch for signals");
  }
  ~Supervisor() {
    for (RankProcess& process : ranks_) {
      if (process.status) continue;
      kill(process.pid, SIGKILL);
      waitpid(process.pid, nullptr, 0);
    }
    sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
  }

  void start(const std::vector<std::string>& arguments) {
    int port = 0;
    const Fd store(listen_on_loopback(port));
    for (int rank = 0; rank < attempt_.options.nproc; ++rank)
      ranks_.push_back(start_rank(rank, arguments, attempt_, port, store.get()));
  }

  int supervise() {
    while (std::any_of(ranks_.begin(), ranks_.end(), [](const RankProcess& p) { return !p.status; })) {
      wait_for_news();
      take_signals();
      reap();
      if (deadline_ && Clock::now() >= *deadline_) {
        deadline_.reset();
        if (stopping_)
          signal_all(SIGKILL);
        else
          stop_others();
      }
    }
    for (RankProcess& process : ranks_) {
      drain(process.errors, process.error_text, 1 << 20);
      drain(process.stderr_end, process.stderr_text, kStderrKept);
    }
    return closing_word();
  }

  /// Whether the ranks might do better when started again: one was killed, crashed or hung.
  bool worth_another_start() const {
    return interrupts_ == 0 && std::none_of(ranks_.begin(), ranks_.end(), [](const RankProcess& p) {
             return !p.error_text.empty() && !comm_only(p);
           });
  }
  /// Ranks that ended by themselves, without a word or by a signal that was not ours, or that hung.
  int failed_ranks() const {
    return static_cast<int>(std::count_if(ranks_.begin(), ranks_.end(), [](const RankProcess& p) {
      return p.failed() && p.error_text.empty() && (!p.stopped_by_us || hung(p));
    }));
  }

 private:
  void wait_for_news() {
    std::vector<pollfd> watched{{signals_.get(), POLLIN, 0}};
    for (const RankProcess& process : ranks_)
      for (const Fd* fd : {&process.errors, &process.stderr_end})
        if (*fd) watched.push_back({fd->get(), POLLIN, 0});
    int timeout_ms = -1;
    if (deadline_)
      timeout_ms = std::max<int>(
          0, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now()).count()));
    poll(watched.data(), watched.size(), timeout_ms);
    for (RankProcess& process : ranks_) {
      drain(process.errors, process.error_text, 1 << 20);
      drain(process.stderr_end, process.stderr_text, kStderrKept);
    }
  }

  void take_signals() {
    signalfd_siginfo info;
    while (read(signals_.get(), &info, sizeof info) == sizeof info) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD) continue;
      if (signal == SIGUSR1) {  // a wish to save and go on
        signal_all(signal);
        continue;
      }
      if (signal == SIGTSTP) {  // Ctrl-Z: all stop, and all go on together
        signal_all(SIGSTOP);
        kill(getpid(), SIGSTOP);
        signal_all(SIGCONT);
        continue;
      }
      // The ranks count for themselves: once is a wish to finish the step and save, twice to stop at once.
      signal_all(signal == SIGHUP ? SIGTERM : signal);
      if (++interrupts_ == 1) first_signal_ = signal;
      if (interrupts_ >= 2) stop_others();
    }
  }

  void reap() {
    for (RankProcess& process : ranks_) {
      int status = 0;
      if (process.status || waitpid(process.pid, &status, WNOHANG) != process.pid) continue;
      process.status = status;
      if (!process.failed()) continue;
      if (!first_failed_) first_failed_ = process.rank;
      drain(process.errors, process.error_text, 1 << 20);
      // An interrupted run ends with 130 on every rank, each when its save is done: no failure to stop the others for.
      const bool told = process.error_text.rfind("interrupt\n", 0) == 0;
      if (told || (interrupts_ > 0 && process.error_text.empty() && process.exit_code() > 128)) continue;
      if (!comm_only(process))
        stop_others();
      else if (!deadline_ && !stopping_)  // the rank that it lost may still be about to say why
        deadline_ = Clock::now() + std::chrono::seconds(1);
    }
  }

  void stop_others() {
    if (stopping_) return;
    stopping_ = true;
    for (RankProcess& process : ranks_) {
      process.stopped_by_us = !process.status;
      // Queued, so that a rank can tell it from a user's.
      if (!process.status) sigqueue(process.pid, SIGTERM, {});
    }
    deadline_ = Clock::now() + std::chrono::seconds(attempt_.options.grace_seconds);
  }

  void signal_all(int signal) {
    for (const RankProcess& process : ranks_)
      if (!process.status) kill(process.pid, signal);
  }

  static bool hung(const RankProcess& process) {
    return process.stopped_by_us && process.error_text.empty() && WIFSIGNALED(*process.status) &&
           WTERMSIG(*process.status) == SIGKILL;
  }

  static bool comm_only(const RankProcess& process) { return process.error_text.rfind("comm\n", 0) == 0; }

  // Prints the one message, and returns the exit code that belongs to it.
  int closing_word() const {
    const RankProcess* blamed = nullptr;
    const auto better = [&](const RankProcess& p) {
      const auto worth = [&](const RankProcess& q) {  // a reason, a crash, lost touch, stopped by us
        return !q.error_text.empty() ? (comm_only(q) ? 1 : 3) : q.stopped_by_us ? 0 : 2;
      };
      return !blamed || worth(p) > worth(*blamed) || (worth(p) == worth(*blamed) && p.rank == first_failed_);
    };
    for (const RankProcess& process : ranks_)
      if (process.failed() && better(process)) blamed = &process;
    if (!blamed) return 0;
    if (!blamed->error_text.empty()) {
      const size_t end_of_kind = blamed->error_text.find('\n');
      std::fprintf(stderr, "%s\n%s", blamed->error_text.substr(end_of_kind + 1).c_str(),
                   comm_only(*blamed) ? hung_text().c_str() : "");
    } else if (interrupts_ == 0) {
      std::fprintf(stderr, "%s\n", crash_text(*blamed).c_str());
    } else if (blamed->exit_code() > 128) {
      return 128 + first_signal_;  // not that of the signal which ended the stragglers
    }
    return blamed->exit_code();
  }

  // The ranks that all others waited for in vain: still there when we ended them, without a word.
  std::string hung_text() const {
    std::string text;
    for (const RankProcess& process : ranks_)
      if (hung(process))
        text += "   rank " + std::to_string(process.rank) + " hung: it was at work to the end and had to be killed\n";
    return text;
  }

  std::string crash_text(const RankProcess& process) const {
    std::string text = "rank " + std::to_string(process.rank) + " of " + std::to_string(attempt_.options.nproc);
    if (WIFSIGNALED(*process.status)) {
      const int signal = WTERMSIG(*process.status);
      text += std::string(" was ended by signal ") + std::to_string(signal) + " (" + strsignal(signal) + ")";
      if (signal == SIGKILL)
        text += std::string("\n   help: the system does this when memory runs out; then, ") + memory_advice();
    } else {
      text += " left with code " + std::to_string(WEXITSTATUS(*process.status)) + " without a word";
    }
    if (!process.stderr_text.empty()) text += "\n   its last words:\n" + process.stderr_text;
    return text;
  }

  Attempt attempt_;
  sigset_t mask_before_{};
  Fd signals_;
  std::vector<RankProcess> ranks_;
  std::optional<Clock::time_point> deadline_;
  std::optional<int> first_failed_;
  int interrupts_ = 0, first_signal_ = 0;
  bool stopping_ = false;
};

std::string told_run_directory(int file) {
  std::string text(4096, '\0');
  const ssize_t size = pread(file, text.data(), text.size(), 0);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, size)));
  return text;
}

}  // namespace

int launch_local_ranks(const std::vector<std::string>& arguments, const LaunchOptions& options) {
  FT_CHECK(options.nproc >= 1 && !arguments.empty(), "launch_local_ranks: at least one rank, and argv[0]");
  const Fd run_file(memfd_create("ftengine-run", MFD_CLOEXEC));
  if (!run_file) fail("cannot make a file in memory");
  Attempt attempt{options, run_file.get(), ""};
  for (int restarts = 0;; ++restarts) {
    Supervisor supervisor(attempt);
    supervisor.start(arguments);
    const int exit_code = supervisor.supervise();
    if (exit_code == 0 || restarts == options.max_restarts || !supervisor.worth_another_start()) return exit_code;
    attempt.restart_in = told_run_directory(run_file.get());
    if (options.min_nproc > 0)
      attempt.options.nproc = std::max(options.min_nproc, attempt.options.nproc - supervisor.failed_ranks());
    std::fprintf(stderr, "restart %d of %d, %d ranks, %s\n", restarts + 1, options.max_restarts, attempt.options.nproc,
                 attempt.restart_in.empty() ? "from the beginning"
                                            : ("from the newest checkpoint in " + attempt.restart_in).c_str());
  }
}

void report_run_directory(const std::string& directory) {
  const char* fd = std::getenv(kRunFd);
  if (!fd || !*fd) return;
  const int file = std::atoi(fd);
  if (ftruncate(file, 0) != 0 ||
      pwrite(file, directory.data(), directory.size(), 0) != static_cast<ssize_t>(directory.size()))
    throw Error(ErrorKind::io, std::string("cannot tell the supervisor where the run is: ") + std::strerror(errno));
}

std::string restart_directory() {
  const char* directory = std::getenv(kRestartIn);
  return directory ? directory : "";
}

bool under_launcher() { return std::getenv(kErrorFd) != nullptr; }

void report_fatal(const Error& error) {
  std::string text = error.what();
  if (const char* fd = std::getenv(kErrorFd)) {
    text = std::string(to_string(error.kind())) + "\n" + text;
    size_t written = 0;
    while (written < text.size()) {
      const ssize_t n = ::write(std::atoi(fd), text.data() + written, text.size() - written);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      written += static_cast<size_t>(n);
    }
    if (written == text.size()) return;
    text = error.what();
  }
  std::fprintf(stderr, "%s\n", text.c_str());
}

int listen_on_loopback(int& port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) fail("cannot make a socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int reuse = 1;  // connections of a run that has ended may linger
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd.get(), generic, length) != 0 || listen(fd.get(), 1024) != 0 ||
      getsockname(fd.get(), generic, &length) != 0)
    fail("cannot listen on 127.0.0.1:" + (port ? std::to_string(port) : "any"));
  port = ntohs(address.sin_port);
  return fd.release();
}

}  // namespace ft
