#pragma once
/// This process's place among the ranks, as whoever started it states it in the environment: torchrun, `ftengine
/// --nproc`, srun, Open MPI's and MPICH's mpirun. Reads variables, meets nobody. Any thread.

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ft {

struct RankEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;        ///< index on this machine; picks the GPU
  int local_world_size = 1;  ///< ranks on this machine
  std::string master_addr = "127.0.0.1";
  int master_port = 0;
  std::string launcher = "torchrun";  ///< whose variables these are
  std::string size_from{};            ///< the one that says how many ranks there are
  std::string master_from{};          ///< what said where rank 0 is, for people

  /// True where all ranks are on this machine.
  bool one_machine() const { return world_size == local_world_size; }

  /// Reads the first of these that is there; nothing where none is:
  /// - RANK and WORLD_SIZE, with LOCAL_RANK, LOCAL_WORLD_SIZE (torchrun; WORLD_SIZE=1 alone is one rank)
  /// - OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE (Open MPI)
  /// - PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS (MPICH)
  /// - SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_STEP_TASKS_PER_NODE: a step of several tasks (srun)
  /// MASTER_ADDR and MASTER_PORT count under every launcher. Without them, ranks of one machine meet on loopback,
  /// others at the first node of SLURM's list or at the machine that mpirun ran on; the port follows from the job's
  /// number.
  /// @throws Error(config) naming a variable that is missing or out of range.
  static std::optional<RankEnvironment> from_env();

  /// How many ranks the environment speaks of, and which variable of it, for who only plans: WORLD_SIZE alone counts
  /// too. 0 and "": it does not say.
  /// @throws Error(config) as from_env
  static std::pair<int, std::string> stated_world_size();
};

/// The first host of a list as SLURM writes it: "gpu[07-09,12],login" is "gpu07"; several brackets in a name each give
/// their first.
std::string first_host(const std::string& node_list);

/// Tasks on each node from SLURM's "2(x3),1": 2, 2, 2, 1. Empty for text of another form.
std::vector<int> tasks_per_node(const std::string& text);

}  // namespace ft
