#pragma once
/// Host memory of this process and machine, read from /proc and the control group. Any thread; not collective.

#include <cstdint>
#include <filesystem>
#include <string>

namespace ft {

/// Bytes of this process (/proc/self/status); 0 where the system does not say.
struct HostMemory {
  int64_t peak_resident = 0;  ///< VmHWM: the most that was ever resident
  int64_t resident = 0;       ///< VmRSS
  int64_t anonymous = 0;      ///< RssAnon: resident and backed by no file, what swap or a kill would have to take
  int64_t file_backed = 0;    ///< RssFile: clean pages of maps, which the system may drop and read again
  int64_t locked = 0;         ///< VmLck: pages that the system must not swap out
};
HostMemory read_host_memory();

/// The machine's memory, or what the control group allows where that is less.
/// @param system where /proc and /sys are, here and below: elsewhere in tests
int64_t total_host_bytes(const std::filesystem::path& system = "/");
/// Bytes that could be taken now without swapping: MemAvailable, or what the control group leaves where that is less.
int64_t available_host_bytes(const std::filesystem::path& system = "/");
/// The machine's swap, or what the control group allows where that is less.
int64_t total_swap_bytes(const std::filesystem::path& system = "/");

/// What to do when memory is out, in the order in which it costs least; ends without a full stop.
const char* memory_advice();

/// Page-locks a range of this process's memory until the process ends: it is never swapped out. Pages are locked whole.
/// @return false where the limit of locked memory (ulimit -l) forbids it.
bool lock_pages(const void* data, int64_t bytes);

/// Starts the peak anew (Linux 4.0, /proc/self/clear_refs). @return false where the system does not allow it.
bool reset_peak_resident();

}  // namespace ft
