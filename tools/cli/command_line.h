#pragma once
/// argv of the program: the command, its file, and what is the recipe's own business. Pure.

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct CommandLine {
  std::string command;             ///< "run", "merge", …, "--help", "--version"
  std::string file;                ///< of run, check and plan: a recipe, or a YAML configuration
  std::vector<std::string> flags;  ///< the rest, in order
  int64_t nproc = 0;               ///< --nproc; 0: not given
  int64_t max_restarts = 0;        ///< --max-restarts
  int64_t min_nproc = 0;           ///< --min-nproc; 0: not given
  int64_t nnodes = 1;              ///< --nnodes
  int64_t node_rank = -1;          ///< --node-rank; -1: not given
  int64_t node_wait = 0;           ///< --node-wait, seconds; 0: not given
  std::string master_addr{};       ///< --master-addr; empty: not given
  int64_t master_port = 0;         ///< --master-port; 0: not given
  std::string resume{};            ///< --resume: "auto", a run directory or a checkpoint; empty: not given
  int64_t device_memory = 0;       ///< plan --device-memory, bytes; 0: not given
  int64_t host_memory = 0;         ///< plan --host-memory, bytes; 0: not given
  bool trace = false;              ///< --trace
  bool json = false;               ///< check --json
  std::string wrong;               ///< what is wrong with it (exit code 2); "" when nothing is
};

CommandLine read_command_line(const std::vector<std::string>& arguments);

/// The page of --help.
std::string help_text();

}  // namespace ft
