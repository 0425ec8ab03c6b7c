#include "engine/device/cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "engine/device/control_group.h"

namespace ft {
namespace {

// "200000 100000": microseconds of processor time in so many; "max 100000" or -1 where there is no limit.
int cores_of_quota(const std::filesystem::path& system) {
  double quota = -1, period = 0;
  if (const auto both = control_group_file("cpu", "cpu.max", "cpu.cfs_quota_us", system)) {
    std::istringstream text(*both);
    text >> quota;
    if (!(text >> period))
      if (const auto other = control_group_file("cpu", "cpu.max", "cpu.cfs_period_us", system))
        std::istringstream(*other) >> period;
  }
  if (!(quota > 0 && period > 0)) return std::numeric_limits<int>::max();
  return std::max(1, static_cast<int>(std::ceil(quota / period)));
}

cpu_set_t affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  return set;
}

}  // namespace

int usable_cores(const std::filesystem::path& system) {
  const cpu_set_t set = affinity();
  return std::max(1, std::min(CPU_COUNT(&set), cores_of_quota(system)));
}

std::string core_set() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);  // unlike a name, no two machines share it
  const cpu_set_t set = affinity();
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) boot += " " + std::to_string(core);
  return boot;
}

}  // namespace ft
