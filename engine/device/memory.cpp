#include "engine/device/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <limits>
#include <optional>

namespace ft {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// "VmHWM:     1234 kB" -> bytes.
int64_t kilobytes_after(const std::string& line, const char* key) {
  const std::string prefix = std::string(key) + ":";
  if (line.rfind(prefix, 0) != 0) return -1;
  return std::strtoll(line.c_str() + prefix.size(), nullptr, 10) * 1024;
}

std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // absent, or "max"
}

struct Limit {
  int64_t bytes = kUnlimited, used = 0;
};

// The control group's own limit, version 2 then 1; limits of groups above it are not looked for.
Limit group_limit() {
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {
    const size_t path_at = line.rfind(':') + 1;
    const std::string path = line.substr(path_at);
    const bool second = line.rfind("0::", 0) == 0, first = line.find(":memory:") != std::string::npos;
    if (!second && !first) continue;
    // In a container the path may be seen from outside, and the group itself is mounted at the root.
    const std::string base = second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    for (const std::string& folder : {base + path, base}) {
      const auto limit = number_in(folder + (second ? "/memory.max" : "/memory.limit_in_bytes"));
      if (!limit || *limit <= 0) continue;
      return {*limit, number_in(folder + (second ? "/memory.current" : "/memory.usage_in_bytes")).value_or(0)};
    }
  }
  return {};
}

int64_t memory_info(const char* key) {
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line))
    if (const int64_t bytes = kilobytes_after(line, key); bytes >= 0) return bytes;
  return 0;
}

}  // namespace

HostMemory read_host_memory() {
  HostMemory memory;
  std::ifstream file("/proc/self/status");
  std::string line;
  const auto take = [&](const char* key, int64_t& into) {
    if (const int64_t bytes = kilobytes_after(line, key); bytes >= 0) into = bytes;
  };
  while (std::getline(file, line)) {
    take("VmHWM", memory.peak_resident);
    take("VmRSS", memory.resident);
    take("RssAnon", memory.anonymous);
    take("RssFile", memory.file_backed);
    take("VmLck", memory.locked);
  }
  return memory;
}

int64_t total_host_bytes() { return std::min(memory_info("MemTotal"), group_limit().bytes); }

int64_t available_host_bytes() {
  const Limit limit = group_limit();
  const int64_t left = limit.bytes == kUnlimited ? kUnlimited : std::max<int64_t>(0, limit.bytes - limit.used);
  return std::min(memory_info("MemAvailable"), left);
}

const char* memory_advice() {
  return "in this order: lower batch.micro (evaluation computes as many rows at once); leave batch.total, so that more "
         "micro batches add up to a step; shorten data.train.seq_len and set activation_checkpointing = true; then "
         "take "
         "the next profile: fsdp2_no_reshard, fsdp2, fsdp2_offload, or more ranks. Checkpoints stand: --resume goes on "
         "from the newest";
}

bool lock_pages(const void* data, int64_t bytes) {
  return bytes == 0 || ::mlock(data, static_cast<size_t>(bytes)) == 0;
}

bool reset_peak_resident() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

}  // namespace ft
