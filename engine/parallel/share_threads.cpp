#include "engine/parallel/share_threads.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>

#include "engine/device/cores.h"

namespace ft {

void share_threads(ProcessGroup& group) {
  if (group.size() == 1) return;
  const std::string mine = core_set();
  const std::vector<std::string> all = group.all_gather_text(mine);
  const auto sharers = static_cast<int>(std::count(all.begin(), all.end(), mine));
  const char* set = std::getenv("OMP_NUM_THREADS");
  if (!set || !*set) at::set_num_threads(std::max(1, usable_cores() / sharers));
}

}  // namespace ft
