#pragma once
/// Notices that another machine of the run has vanished: its power, its kernel, its cable. A process that dies closes
/// its connections, and the others know at once; a machine that falls silent says nothing, and collectives would wait
/// for it until their time-out.
///
/// Each rank keeps one idle connection to rank 0, over which the two systems ask each other every second whether they
/// are there (TCP keepalive). No process takes part: ranks that compute, swap, or stand still in a debugger go on
/// being answered for, and a step costs nothing. Rank 0 tells the others which machine has gone; who loses rank 0's
/// needs no telling. Made by ProcessGroup::connect where ranks are on several machines, held by the group. One thread,
/// asleep.

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine/parallel/tcp.h"

namespace ft {

/// Of how many seconds' silence a machine is taken for gone: FTENGINE_HOST_TIMEOUT, else 6; 0: no watch is kept.
/// @throws Error(config) for what is no number
std::chrono::seconds host_timeout();

struct HostWatchOptions {
  int rank = 0;
  std::chrono::seconds timeout{6};  ///< of silence until a machine counts as gone
  /// Called once at most, by the watch's thread. @param what which machine is gone, with which ranks, for people
  /// @param told rank 0 said so, which says it to the user, too
  std::function<void(const std::string& what, bool told)> gone;
};

class HostWatch {
 public:
  /// Rank 0's: waits for the others. @param address of this machine that they reach; "": all it has
  /// @throws Error(io)
  HostWatch(HostWatchOptions options, const std::string& address);
  /// Another rank's. @param meeting_point what rank 0's says   @param otherwise its host where it names no address
  /// @throws Error(comm) where rank 0 is not to be reached
  HostWatch(HostWatchOptions options, const std::string& meeting_point, const std::string& otherwise);
  /// Ends the watch without a word.
  ~HostWatch();
  HostWatch(const HostWatch&) = delete;

  /// What the other ranks need to come to rank 0's.
  const std::string& meeting_point() const { return meeting_point_; }

 private:
  struct Watched {
    Connection connection;
    int rank = -1;  // until it has said which
    std::string host{};
  };

  void watch_all();
  void welcome(std::vector<Watched>& ranks);
  void introduce(Watched& one, const std::string& line) const;
  void watch_rank_0();

  HostWatchOptions options_;
  std::string meeting_point_, token_, rank_0_host_;
  Fd listener_, wake_;
  Connection rank_0_;
  std::thread thread_;
};

}  // namespace ft
