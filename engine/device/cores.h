#pragma once
/// Processor cores that this process may use. Any thread.

#include <filesystem>
#include <string>

namespace ft {

/// Cores in this process's affinity mask, or what its control group's quota comes to where that is less; at least 1.
/// @param system where /proc and /sys are: elsewhere in tests
int usable_cores(const std::filesystem::path& system = "/");

/// Which machine's which cores those are: two processes with the same text share them.
std::string core_set();

}  // namespace ft
