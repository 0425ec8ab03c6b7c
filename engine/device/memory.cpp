#include "engine/device/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>

#include "engine/device/control_group.h"

namespace ft {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// "VmHWM:     1234 kB" -> bytes.
int64_t kilobytes_after(const std::string& line, const char* key) {
  const std::string prefix = std::string(key) + ":";
  if (line.rfind(prefix, 0) != 0) return -1;
  return std::strtoll(line.c_str() + prefix.size(), nullptr, 10) * 1024;
}

struct Limit {
  int64_t bytes = kUnlimited, used = 0;
};

std::optional<int64_t> group_number(const std::filesystem::path& system, const char* second, const char* first) {
  const auto text = control_group_file("memory", second, first, system);
  char* end = nullptr;
  const int64_t value = text ? std::strtoll(text->c_str(), &end, 10) : 0;
  if (!text || end == text->c_str()) return std::nullopt;  // absent, or "max"
  return value;
}

Limit group_limit(const std::filesystem::path& system) {
  const auto limit = group_number(system, "memory.max", "memory.limit_in_bytes");
  if (!limit || *limit <= 0) return {};
  return {*limit, group_number(system, "memory.current", "memory.usage_in_bytes").value_or(0)};
}

int64_t memory_info(const std::filesystem::path& system, const char* key) {
  std::ifstream file(system / "proc/meminfo");
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

int64_t total_host_bytes(const std::filesystem::path& system) {
  return std::min(memory_info(system, "MemTotal"), group_limit(system).bytes);
}

int64_t available_host_bytes(const std::filesystem::path& system) {
  const Limit limit = group_limit(system);
  const int64_t left = limit.bytes == kUnlimited ? kUnlimited : std::max<int64_t>(0, limit.bytes - limit.used);
  return std::min(memory_info(system, "MemAvailable"), left);
}

int64_t total_swap_bytes(const std::filesystem::path& system) {
  const int64_t machine = memory_info(system, "SwapTotal");
  if (const auto swap = group_number(system, "memory.swap.max", "")) return std::min(machine, *swap);
  // Version 1 limits memory and swap together.
  const auto both = group_number(system, "", "memory.memsw.limit_in_bytes");
  return both ? std::clamp<int64_t>(*both - group_limit(system).bytes, 0, machine) : machine;
}

const char* memory_advice() {
  return "in this order: lower batch.micro (evaluation computes as many rows at once); leave batch.total, so that more "
         "micro batches add up to a step; shorten data.train.seq_len and set activation_checkpointing = true; then "
         "take "
         "the next profile: zero1, zero2, fsdp2, fsdp2_offload, fsdp2_swap, or more ranks. Checkpoints stand: --resume "
         "goes on from the newest; see docs/troubleshooting.md#memory";
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
