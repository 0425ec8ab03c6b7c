#include "engine/parallel/rank_environment.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>

#include "engine/error/error.h"

namespace ft {
namespace {

std::string variable(const char* name) {
  const char* text = name ? std::getenv(name) : nullptr;
  return text ? text : "";
}

std::optional<int64_t> integer_variable(const char* name, int64_t least, int64_t most) {
  const std::string text = variable(name);
  if (text.empty()) return std::nullopt;
  int64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || value < least || value > most)
    throw Error(ErrorKind::config,
                "got '" + text + "', want an integer from " + std::to_string(least) + " to " + std::to_string(most))
        .at("environment")
        .key(name)
        .help(
            "the launcher sets it (torchrun, srun, mpirun, ftengine --nproc); unset RANK and WORLD_SIZE to run one "
            "rank alone");
  return value;
}

Error missing(const std::string& key, const std::string& what, const std::string& help) {
  return Error(ErrorKind::config, what).at("environment").key(key).help(help);
}

/// What a launcher calls a rank's place.
struct Spelling {
  const char* launcher;
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};
constexpr Spelling kTorchrun{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Spelling kOpenMpi{"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                            "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Spelling kMpich{"MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};
constexpr Spelling kSlurm{"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr};

constexpr int64_t kMostRanks = 1 << 20;

const Spelling* spelling_in_use() {
  const auto there = [](const Spelling& s) { return !variable(s.rank).empty() && !variable(s.size).empty(); };
  for (const Spelling* s : {&kTorchrun, &kOpenMpi, &kMpich})
    if (there(*s)) return s;
  // A shell that srun has opened (--pty) is a step too, of one task: what is started in it is its user's business.
  if (there(kSlurm) && integer_variable(kSlurm.size, 1, kMostRanks) > 1) return &kSlurm;
  return nullptr;
}

int slurm_local_size(int world_size) {
  const std::vector<int> tasks = tasks_per_node(variable("SLURM_STEP_TASKS_PER_NODE"));
  const auto node = integer_variable("SLURM_NODEID", 0, kMostRanks);
  if (tasks.empty() || !node || *node >= static_cast<int64_t>(tasks.size()))
    throw missing("SLURM_STEP_TASKS_PER_NODE", "does not say how many tasks this node has",
                  "start ranks with srun, or set RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE");
  return std::min(world_size, tasks[static_cast<size_t>(*node)]);
}

/// The machine on which mpirun ran, which is rank 0's unless a host file says otherwise: the address in
/// "833224704.0;tcp://192.0.2.2,10.0.0.1:36701;…", as Open MPI hands it to its processes.
std::string mpirun_host() {
  const std::string uri = variable("OMPI_MCA_orte_hnp_uri");
  constexpr std::string_view kStart = "tcp://";
  const size_t begin = uri.find(kStart);
  if (begin == std::string::npos) return "";
  const size_t host = begin + kStart.size();
  return uri.substr(host, uri.find_first_of(",:;", host) - host);
}

/// Whether a socket can be bound to the address: only on the machine that has it.
bool is_own_address(const std::string& address) {
  sockaddr_in place{};
  place.sin_family = AF_INET;
  if (inet_pton(AF_INET, address.c_str(), &place.sin_addr) != 1) return false;
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool own = fd >= 0 && bind(fd, reinterpret_cast<const sockaddr*>(&place), sizeof place) == 0;
  if (fd >= 0) close(fd);
  return own;
}

/// A port that all ranks of a job work out alike, and other jobs on the machine rarely: below those that systems hand
/// out unasked (from 32768 on Linux).
int port_of(const std::string& job) {
  constexpr uint64_t kFirst = 20000, kPorts = 10000;
  uint64_t hash = 14695981039346656037ull;  // FNV-1a
  for (const char c : job) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return static_cast<int>(kFirst + hash % kPorts);
}

std::string job_number() {
  if (const std::string step = variable("SLURM_STEP_ID"); !step.empty()) return variable("SLURM_JOB_ID") + "." + step;
  if (const std::string uri = variable("OMPI_MCA_orte_hnp_uri"); !uri.empty()) return uri.substr(0, uri.find(';'));
  return variable("PMI_ID") + variable("PMIX_NAMESPACE");
}

void find_master(RankEnvironment& place, const Spelling& spelling) {
  const std::string address = variable("MASTER_ADDR");
  // Under Open MPI a step of SLURM's is mpirun's own, on some of the nodes.
  const std::string list = &spelling == &kOpenMpi ? "" : variable("SLURM_STEP_NODELIST");
  if (!address.empty()) {
    place.master_addr = address;
    place.master_from = "MASTER_ADDR";
  } else if (place.one_machine()) {
    place.master_from = "all ranks are on this machine";
  } else if (!list.empty()) {
    place.master_addr = first_host(list);
    place.master_from = "the first of SLURM_STEP_NODELIST (" + list + ")";
  } else if (const std::string host = mpirun_host(); !host.empty()) {
    place.master_addr = host;
    place.master_from = "the machine of mpirun (OMPI_MCA_orte_hnp_uri)";
    if (place.rank == 0 && !is_own_address(host))
      throw missing("MASTER_ADDR", "is not set, and mpirun ran on " + host + ", where rank 0 is not",
                    "set MASTER_ADDR to this machine's address: mpirun -x MASTER_ADDR=…");
  } else {
    throw missing("MASTER_ADDR", "is not set, and nothing else says on which machine rank 0 is",
                  "set MASTER_ADDR and MASTER_PORT to where rank 0 listens");
  }
}

}  // namespace

std::string first_host(const std::string& node_list) {
  std::string host;
  bool in_brackets = false, skipping = false;
  for (const char c : node_list) {
    if (c == '[') {
      in_brackets = true, skipping = false;
    } else if (c == ']') {
      in_brackets = skipping = false;
    } else if (c == ',' && !in_brackets) {
      break;
    } else if (in_brackets && (c == ',' || c == '-')) {
      skipping = true;
    } else if (!skipping) {
      host += c;
    }
  }
  return host;
}

std::vector<int> tasks_per_node(const std::string& text) {
  std::vector<int> tasks;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto number = [&](int& value) {
    const auto read = std::from_chars(at, end, value);
    at = read.ptr;
    return read.ec == std::errc() && value >= 1 && value <= kMostRanks;
  };
  while (at < end) {
    int count = 0, nodes = 1;
    if (!number(count)) return {};
    if (end - at >= 2 && at[0] == '(' && at[1] == 'x') {
      at += 2;
      if (!number(nodes) || at >= end || *at++ != ')') return {};
    }
    if (tasks.size() + static_cast<size_t>(nodes) > static_cast<size_t>(kMostRanks)) return {};
    tasks.insert(tasks.end(), static_cast<size_t>(nodes), count);
    if (at < end && *at++ != ',') return {};
  }
  return tasks;
}

std::pair<int, std::string> RankEnvironment::stated_world_size() {
  if (const auto stated = integer_variable("WORLD_SIZE", 1, kMostRanks))
    return {static_cast<int>(*stated), "WORLD_SIZE"};
  const auto place = from_env();
  return place ? std::pair(place->world_size, place->size_from) : std::pair(0, std::string());
}

std::optional<RankEnvironment> RankEnvironment::from_env() {
  const auto stated = integer_variable("WORLD_SIZE", 1, kMostRanks);
  const Spelling* spelling = spelling_in_use();
  if (!spelling) {
    if (!stated) return std::nullopt;
    if (*stated > 1)
      throw missing("RANK", "is not set, but WORLD_SIZE is " + std::to_string(*stated),
                    "let torchrun, srun or mpirun start the ranks, or unset WORLD_SIZE and say --nproc");
    spelling = &kTorchrun;
  }
  RankEnvironment place;
  place.launcher = spelling->launcher;
  place.size_from = spelling->size;
  place.world_size = static_cast<int>(*integer_variable(spelling->size, 1, kMostRanks));
  place.rank = static_cast<int>(integer_variable(spelling->rank, 0, place.world_size - 1).value_or(0));
  place.local_world_size =
      spelling == &kSlurm
          ? slurm_local_size(place.world_size)
          : static_cast<int>(integer_variable(spelling->local_size, 1, place.world_size).value_or(place.world_size));
  place.local_rank = static_cast<int>(integer_variable(spelling->local_rank, 0, place.local_world_size - 1)
                                          .value_or(place.rank % place.local_world_size));
  if (place.world_size == 1) return place;
  find_master(place, *spelling);
  const auto port = integer_variable("MASTER_PORT", 1, 65535);
  if (!port && spelling == &kTorchrun)
    throw missing("MASTER_PORT", "is not set, but WORLD_SIZE is " + std::to_string(place.world_size),
                  "set MASTER_ADDR and MASTER_PORT to where rank 0 listens");
  place.master_port = port ? static_cast<int>(*port) : port_of(job_number());
  return place;
}

}  // namespace ft
