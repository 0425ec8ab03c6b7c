#pragma once
/// Launchers of several nodes: before each start of their ranks they meet at the first one, which says who is which
/// rank; while ranks run they tell each other that some have failed; and after that they agree how it goes on. Used by
/// launch.cpp and supervisor.cpp. One thread, no locks: what is not waited for is read when the supervisor polls.
///
/// A launcher that dies, or whose machine vanishes, is one whose ranks have failed. It may be started again, and comes
/// to the next meeting. The first node's is the one that cannot be done without: where it ends the others wait for it
/// as for a start.

#include <poll.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/parallel/launch.h"

namespace ft {

/// How one machine's ranks ended.
struct Ending {
  int exit_code = 0;     ///< of the rank to blame, 128 + the signal that ended it; 0: all is well
  int weight = 0;        ///< how much `text` explains: 3 a reason, 2 a crash, 1 ranks lost touch, 0 nothing
  bool again = true;     ///< another start may do better: ranks were killed, crashed or hung, nobody asked to stop
  std::string text{};    ///< the one message
  int failed_ranks = 0;  ///< that went by themselves, or hung
};

/// What a meeting comes to.
struct NodePlace {
  int first_rank = 0;  ///< of this node's
  int world_size = 0;
  int nodes = 0;             ///< that take part
  int master_port = 0;       ///< of rank 0's store, at NodeOptions::host
  std::string restart_in{};  ///< the run's directory; empty in a first start
};

/// What the first node makes of everybody's ending.
struct Verdict {
  bool again = false;  ///< the ranks are started once more, after another meeting
  int exit_code = 0;
  std::string text{};  ///< to be printed here
};

class NodeLink {
 public:
  /// @throws Error(config) where neither options nor a launcher of one task a node says which node this is and where
  /// the first one is, Error(io) where its port is taken
  static std::unique_ptr<NodeLink> make(const NodeOptions& options);
  virtual ~NodeLink() = default;

  virtual bool first() const = 0;  ///< this is the node of rank 0
  const std::string& first_address() const { return options_.host; }

  /// Waits until all nodes have come.
  /// @param place on the first node: what is to be told of master_port and restart_in
  /// @param min_ranks above 0: goes on with the nodes that have come in time, if they have so many ranks
  /// @throws Error(comm) naming the nodes that have not come, or the first one's address
  virtual NodePlace meet(int nproc, const NodePlace& place, int min_ranks) = 0;

  /// What to poll for news, beside the ranks.
  virtual std::vector<pollfd> descriptors() const = 0;
  /// Reads what has come. True once ranks have failed elsewhere: those here are to stop, too.
  virtual bool stop_wanted() = 0;
  /// Ranks have failed here. Again and again without harm.
  virtual void tell_failing() = 0;

  /// Waits until all nodes' ranks have ended.   @param may_restart there are tries left
  virtual Verdict conclude(const Ending& here, bool may_restart) = 0;

 protected:
  explicit NodeLink(NodeOptions options) : options_(std::move(options)) {}
  NodeOptions options_;
};

}  // namespace ft
