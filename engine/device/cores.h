#pragma once
/// Processor cores that this process may use. Any thread.

#include <string>

namespace ft {

/// Cores in this process's affinity mask, or what its control group's quota comes to where that is less; at least 1.
int usable_cores();

/// Which machine's which cores those are: two processes with the same text share them.
std::string core_set();

}  // namespace ft
