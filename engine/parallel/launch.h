#pragma once
/// Local ranks: `--nproc N` turns the process into a supervisor that starts N copies of itself, one a rank, and leaves
/// when they are done. Called by main before anything else is made (the supervisor forks, so it must have no threads).
/// With `--nnodes K` the same command, started on each of K machines, makes one run of all their ranks: the launchers
/// meet at the first node's (node_link.h).
///
/// The ranks stand in process groups of their own, so that each signal reaches each rank once, through the supervisor:
/// Ctrl-C, SIGTERM and SIGUSR1 are passed on, and the ranks die with the supervisor. Rank 0 keeps the terminal; the
/// others' stdout goes nowhere, the end of their stderr is kept for the case that they crash.

#include <string>
#include <vector>

#include "engine/error/error.h"

namespace ft {

struct NodeOptions {
  int count = 1;
  int node = -1;         ///< this one's place, from 0; below 0: as a launcher of one task a node says
  std::string host{};    ///< of node 0, for all nodes; empty: as that launcher says
  int port = 0;          ///< at which node 0's launcher listens; 0: as that launcher says, else 29500
  int wait_seconds = 0;  ///< for nodes to come; 0: 600, but 60 where it may go on without them
};

struct LaunchOptions {
  int nproc = 2;          ///< on this machine
  int grace_seconds = 5;  ///< from a rank's failure, or a second Ctrl-C, to SIGKILL for those still there
  /// How often ranks are started again after one was killed, crashed or was no longer heard of; in the run's directory,
  /// from its newest checkpoint. An error that a rank tells would only come again. Of several nodes the first one's
  /// numbers count.
  int max_restarts = 0;
  /// Above 0: ranks that failed are given up, down to this number; of several nodes, those that do not come again.
  /// 0: all are started again.
  int min_nproc = 0;
  NodeOptions nodes{};
};

/// Runs this binary `nproc` times with `arguments` (argv, with argv[0]) and RANK, LOCAL_RANK, WORLD_SIZE,
/// LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT as torchrun sets them; OMP_NUM_THREADS is the cores' share unless it is
/// set. When a rank fails, the others are stopped, on all nodes, and one message is printed: the first that is no mere
/// loss of another rank.
/// @return the exit code for main: 0, the failing rank's, or 128 + the signal that ended it.
/// @throws Error(io) when a process or socket cannot be made, Error(config) and Error(comm) as NodeLink does.
int launch_local_ranks(const std::vector<std::string>& arguments, const LaunchOptions& options);

/// True in a rank that launch_local_ranks started.
bool under_launcher();

/// Tells the supervisor where the run is, for a restart; called by rank 0. Nothing happens without a supervisor.
void report_run_directory(const std::string& directory);

/// The directory in which a restarted rank is to go on; empty in a first start.
std::string restart_directory();

/// The last thing that main does with an Error: hands it to the supervisor where there is one, else prints it on
/// stderr.
void report_fatal(const Error& error);

/// Binds a socket to a port of the loopback interface, a free one for 0, and listens: what rank 0's store takes over
/// (FTENGINE_STORE_FD), so that no port is lost between choosing and using it.   @return the descriptor; `port` is set.
/// @throws Error(io)
int listen_on_loopback(int& port);

}  // namespace ft
