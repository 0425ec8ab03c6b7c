#pragma once
/// The ranks of this machine in one start of a run: started as processes of their own, watched, stopped when one of
/// them fails, and what there is to say about their end. Used by launch.cpp alone, in a process without threads, since
/// it forks. Signals are the supervisor's while one lives: see launch.h.

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "engine/parallel/node_link.h"
#include "engine/parallel/tcp.h"

namespace ft {

/// Variables through which launcher and ranks know of each other.
inline constexpr const char* kErrorFd = "FTENGINE_ERROR_FD";  ///< a pipe: a rank's last word
inline constexpr const char* kRunFd = "FTENGINE_RUN_FD";      ///< a file in memory: the run's directory, from rank 0
inline constexpr const char* kRestartIn = "FTENGINE_RESTART_IN";  ///< that directory, in a later start

/// What the ranks of one start share.
struct LocalStart {
  int nproc = 1;
  NodePlace place{};                      ///< among the nodes' ranks
  std::string master_addr = "127.0.0.1";  ///< its port is place.master_port
  int store_fd = -1;                      ///< the socket at that port, for rank 0
  int run_fd = -1;                        ///< for rank 0
  int grace_seconds = 5;
};

class Supervisor {
 public:
  /// @param nodes the launchers of other nodes, or nullptr   @throws Error(io)
  Supervisor(LocalStart start, NodeLink* nodes);
  /// Kills what is left.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;

  /// Runs this program once a rank.   @throws Error(io)
  void start(const std::vector<std::string>& arguments);
  /// Returns when all have ended.
  Ending supervise();

 private:
  struct RankProcess {
    int rank = 0;
    pid_t pid = -1;
    Fd errors, stderr_end;
    std::string error_text, stderr_text;
    std::optional<int> status;  // of waitpid
    bool stopped_by_us = false;

    bool failed() const;
    int exit_code() const;
    bool hung() const;       // it had to be killed
    bool comm_only() const;  // it lost another rank, which may know more
    void drain_all();
  };

  RankProcess start_rank(int local_rank, const std::vector<std::string>& arguments) const;
  std::vector<std::string> environment_of(int local_rank, int error_fd) const;
  void wait_for_news();
  void take_signals();
  void reap();
  void stop_others();
  void signal_all(int signal);
  Ending ending() const;
  const RankProcess* to_blame() const;
  std::string hung_text() const;
  std::string crash_text(const RankProcess& process) const;

  LocalStart start_;
  NodeLink* nodes_;
  sigset_t mask_before_{};
  Fd signals_;
  std::vector<RankProcess> ranks_;
  std::optional<std::chrono::steady_clock::time_point> deadline_;
  std::optional<int> first_failed_;
  int interrupts_ = 0, first_signal_ = 0;
  bool stopping_ = false;
};

}  // namespace ft
