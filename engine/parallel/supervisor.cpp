#include "engine/parallel/supervisor.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "engine/device/cores.h"
#include "engine/device/memory.h"

extern char** environ;

namespace ft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kStderrKept = 8192;  // of each rank but 0: the end, where a crash says what it was
constexpr size_t kErrorKept = 1 << 20;

[[noreturn]] void fail(const std::string& what) {
  throw Error(ErrorKind::io, what + ": " + std::strerror(errno)).context("starting local ranks");
}

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

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

bool Supervisor::RankProcess::failed() const { return status && !(WIFEXITED(*status) && WEXITSTATUS(*status) == 0); }

int Supervisor::RankProcess::exit_code() const {
  return WIFSIGNALED(*status) ? 128 + WTERMSIG(*status) : WEXITSTATUS(*status);
}

bool Supervisor::RankProcess::hung() const {
  return stopped_by_us && error_text.empty() && WIFSIGNALED(*status) && WTERMSIG(*status) == SIGKILL;
}

bool Supervisor::RankProcess::comm_only() const { return error_text.rfind("comm\n", 0) == 0; }

void Supervisor::RankProcess::drain_all() {
  drain(errors, error_text, kErrorKept);
  drain(stderr_end, stderr_text, kStderrKept);
}

Supervisor::Supervisor(LocalStart start, NodeLink* nodes) : start_(std::move(start)), nodes_(nodes) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1}) sigaddset(&set, signal);
  if (sigprocmask(SIG_BLOCK, &set, &mask_before_) != 0) fail("cannot block signals");
  signals_ = Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) fail("cannot watch for signals");
}

Supervisor::~Supervisor() {
  for (RankProcess& process : ranks_) {
    if (process.status) continue;
    kill(process.pid, SIGKILL);
    waitpid(process.pid, nullptr, 0);
  }
  sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
}

void Supervisor::start(const std::vector<std::string>& arguments) {
  for (int local_rank = 0; local_rank < start_.nproc; ++local_rank) ranks_.push_back(start_rank(local_rank, arguments));
}

std::vector<std::string> Supervisor::environment_of(int local_rank, int error_fd) const {
  const int rank = start_.place.first_rank + local_rank;
  std::vector<std::pair<std::string, std::string>> set = {
      {"RANK", std::to_string(rank)},
      {"LOCAL_RANK", std::to_string(local_rank)},
      {"WORLD_SIZE", std::to_string(start_.place.world_size)},
      {"LOCAL_WORLD_SIZE", std::to_string(start_.nproc)},
      {"MASTER_ADDR", start_.master_addr},
      {"MASTER_PORT", std::to_string(start_.place.master_port)},
      {"FTENGINE_STORE_FD", rank == 0 ? std::to_string(start_.store_fd) : ""},
      {kErrorFd, std::to_string(error_fd)},
      {kRunFd, rank == 0 ? std::to_string(start_.run_fd) : ""},
      {kRestartIn, start_.place.restart_in},
  };
  if (!std::getenv("OMP_NUM_THREADS"))
    set.emplace_back("OMP_NUM_THREADS", std::to_string(std::max(1, usable_cores() / start_.nproc)));
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

// Between fork and exec only async-signal-safe calls.
Supervisor::RankProcess Supervisor::start_rank(int local_rank, const std::vector<std::string>& arguments) const {
  RankProcess process;
  process.rank = start_.place.first_rank + local_rank;
  const bool first = process.rank == 0;
  Pipe errors, output;
  std::vector<std::string> argument_texts = arguments;
  std::vector<std::string> environment_texts = environment_of(local_rank, errors.write.get());
  const std::vector<char*> argv = pointers(argument_texts), envp = pointers(environment_texts);
  const Fd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nothing) fail("cannot open /dev/null");
  const pid_t supervisor = getpid();
  const pid_t pid = fork();
  if (pid < 0) fail("cannot start rank " + std::to_string(process.rank));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != supervisor) _exit(1);  // it died before the line above
    setpgid(0, 0);
    signal(SIGUSR1, SIG_IGN);  // until the rank watches for it
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    if (!first) {
      dup2(nothing.get(), STDIN_FILENO);
      dup2(nothing.get(), STDOUT_FILENO);
      dup2(output.write.get(), STDERR_FILENO);
    }
    fcntl(errors.write.get(), F_SETFD, 0);
    if (first) fcntl(start_.store_fd, F_SETFD, 0);
    if (first) fcntl(start_.run_fd, F_SETFD, 0);
    execve("/proc/self/exe", argv.data(), envp.data());
    _exit(127);
  }
  setpgid(pid, pid);
  process.pid = pid;
  process.errors = std::move(errors.read);
  if (!first) process.stderr_end = std::move(output.read);
  return process;
}

Ending Supervisor::supervise() {
  while (std::any_of(ranks_.begin(), ranks_.end(), [](const RankProcess& p) { return !p.status; })) {
    wait_for_news();
    take_signals();
    reap();
    if (nodes_ && nodes_->stop_wanted()) stop_others();
    if (deadline_ && Clock::now() >= *deadline_) {
      deadline_.reset();
      if (stopping_)
        signal_all(SIGKILL);
      else
        stop_others();
    }
  }
  for (RankProcess& process : ranks_) process.drain_all();
  return ending();
}

void Supervisor::wait_for_news() {
  std::vector<pollfd> watched{{signals_.get(), POLLIN, 0}};
  for (const RankProcess& process : ranks_)
    for (const Fd* fd : {&process.errors, &process.stderr_end})
      if (*fd) watched.push_back({fd->get(), POLLIN, 0});
  if (nodes_)
    for (const pollfd& one : nodes_->descriptors()) watched.push_back(one);
  int timeout_ms = -1;
  if (deadline_)
    timeout_ms = std::max<int>(
        0, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now()).count()));
  poll(watched.data(), watched.size(), timeout_ms);
  for (RankProcess& process : ranks_) process.drain_all();
}

void Supervisor::take_signals() {
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

void Supervisor::reap() {
  for (RankProcess& process : ranks_) {
    int status = 0;
    if (process.status || waitpid(process.pid, &status, WNOHANG) != process.pid) continue;
    process.status = status;
    if (!process.failed()) continue;
    if (!first_failed_) first_failed_ = process.rank;
    drain(process.errors, process.error_text, kErrorKept);
    // An interrupted run ends with 130 on every rank, each when its save is done: no failure to stop the others for.
    const bool told = process.error_text.rfind("interrupt\n", 0) == 0;
    if (told || (interrupts_ > 0 && process.error_text.empty() && process.exit_code() > 128)) continue;
    if (!process.comm_only())
      stop_others();
    else if (!deadline_ && !stopping_)  // the rank that it lost may still be about to say why
      deadline_ = Clock::now() + std::chrono::seconds(1);
  }
}

void Supervisor::stop_others() {
  if (stopping_) return;
  stopping_ = true;
  if (nodes_) nodes_->tell_failing();
  for (RankProcess& process : ranks_) {
    process.stopped_by_us = !process.status;
    // Queued, so that a rank can tell it from a user's.
    if (!process.status) sigqueue(process.pid, SIGTERM, {});
  }
  deadline_ = Clock::now() + std::chrono::seconds(start_.grace_seconds);
}

void Supervisor::signal_all(int signal) {
  for (const RankProcess& process : ranks_)
    if (!process.status) kill(process.pid, signal);
}

const Supervisor::RankProcess* Supervisor::to_blame() const {
  const auto worth = [](const RankProcess& p) {  // a reason, a crash, lost touch, stopped by us
    return !p.error_text.empty() ? (p.comm_only() ? 1 : 3) : p.stopped_by_us ? 0 : 2;
  };
  const RankProcess* blamed = nullptr;
  for (const RankProcess& p : ranks_) {
    if (!p.failed()) continue;
    if (!blamed || worth(p) > worth(*blamed) || (worth(p) == worth(*blamed) && p.rank == first_failed_)) blamed = &p;
  }
  return blamed;
}

Ending Supervisor::ending() const {
  const RankProcess* blamed = to_blame();
  if (!blamed) return {};
  Ending result{.exit_code = blamed->exit_code()};
  // An error that a rank tells would only come again.
  result.again = interrupts_ == 0 && std::none_of(ranks_.begin(), ranks_.end(), [](const RankProcess& p) {
                   return !p.error_text.empty() && !p.comm_only();
                 });
  // Ranks that ended by themselves, without a word or by a signal that was not ours, or that hung.
  result.failed_ranks = static_cast<int>(std::count_if(ranks_.begin(), ranks_.end(), [](const RankProcess& p) {
    return p.failed() && p.error_text.empty() && (!p.stopped_by_us || p.hung());
  }));
  if (!blamed->error_text.empty()) {
    const size_t end_of_kind = blamed->error_text.find('\n');
    result.weight = blamed->comm_only() ? 1 : 3;
    result.text = blamed->error_text.substr(end_of_kind + 1) + (blamed->comm_only() ? hung_text() : "");
  } else if (interrupts_ > 0) {
    if (result.exit_code > 128) result.exit_code = 128 + first_signal_;  // not what ended the stragglers
  } else if (!(nodes_ && blamed->stopped_by_us)) {                       // else another node knows why
    result.weight = 2;
    result.text = crash_text(*blamed);
  }
  return result;
}

// The ranks that all others waited for in vain: still there when we ended them, without a word.
std::string Supervisor::hung_text() const {
  std::string text;
  for (const RankProcess& process : ranks_)
    if (process.hung())
      text += "\n   rank " + std::to_string(process.rank) + " hung: it was at work to the end and had to be killed";
  return text;
}

std::string Supervisor::crash_text(const RankProcess& process) const {
  std::string text = "rank " + std::to_string(process.rank) + " of " + std::to_string(start_.place.world_size);
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

}  // namespace ft
