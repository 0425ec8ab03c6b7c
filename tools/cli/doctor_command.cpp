#include "tools/cli/doctor_command.h"

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "engine/device/cores.h"
#include "engine/device/cpu_features.h"
#include "engine/device/figures.h"
#include "engine/device/gpu_nodes.h"
#include "engine/device/memory.h"
#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/parallel/device_choice.h"
#include "engine/parallel/launch.h"
#include "engine/parallel/nccl_settings.h"
#include "engine/parallel/process_group.h"
#include "engine/parallel/share_threads.h"
#include "engine/parallel/tcp.h"
#include "tools/cli/version.h"

namespace ft {
namespace {

void line(const char* title, const std::string& text) { std::printf("%-14s%s\n", title, text.c_str()); }

/// The value after "key :" in a file of /proc, in its first such line.
std::string proc_value(const char* file, const std::string& key) {
  std::ifstream in(file);
  std::string row;
  while (std::getline(in, row)) {
    if (row.rfind(key, 0) != 0) continue;
    const size_t colon = row.find(':');
    const size_t begin = colon == std::string::npos ? colon : row.find_first_not_of(" \t", colon + 1);
    if (begin != std::string::npos) return row.substr(begin);
  }
  return "";
}

std::string bytes_or_unlimited(rlim_t bytes) {
  return bytes == RLIM_INFINITY ? "unlimited" : bytes_text(static_cast<double>(bytes));
}

std::string libtorch_path() {
  Dl_info found{};
  const auto* function = reinterpret_cast<const void*>(&at::get_num_threads);
  return dladdr(function, &found) && found.dli_fname ? found.dli_fname : "in this program";
}

void report_devices() {
  const std::string name = proc_value("/proc/cpuinfo", "model name");
  line("processor", (name.empty() ? "unknown" : name) + ", " + std::to_string(usable_cores()) + " of " +
                        std::to_string(std::thread::hardware_concurrency()) + " cores to use, " + to_string(cpu_isa()) +
                        ", compute = \"auto\" is " + to_string(fast_compute_dtype()));
  const int gpus = visible_gpus();
  if (gpus == 0) return line("GPUs", "none that the driver shows");
  for (int gpu = 0; gpu < gpus; ++gpu) {
    GpuAccess access;
    std::string passed_over;
    const auto device = device_for({}, gpu, access, passed_over);
    if (device->is_cpu()) return line("GPUs", std::to_string(gpus) + " shown, but not to be used: " + passed_over);
    const DeviceMemory memory = device->memory();
    line(gpu == 0 ? "GPUs" : "", device->name() + ", " + bytes_text(static_cast<double>(memory.free)) + " free of " +
                                     bytes_text(static_cast<double>(memory.total)));
  }
}

void report_memory() {
  line("memory", bytes_text(static_cast<double>(available_host_bytes())) + " free of " +
                     bytes_text(static_cast<double>(total_host_bytes())) + ", swap " +
                     bytes_text(static_cast<double>(total_swap_bytes())));
  rlimit locked{};
  getrlimit(RLIMIT_MEMLOCK, &locked);
  line("locked memory", bytes_or_unlimited(locked.rlim_cur) +
                            (locked.rlim_cur == RLIM_INFINITY || geteuid() == 0
                                 ? ""
                                 : ": what is offloaded beyond that is not pinned (ulimit -l, or memlock in "
                                   "limits.conf); cpu_offload_pin_memory: false does without"));
  struct statvfs shared {};
  if (statvfs("/dev/shm", &shared) == 0) {
    const double bytes = static_cast<double>(shared.f_blocks) * static_cast<double>(shared.f_frsize);
    constexpr double kSmall = 1 << 30;  // Docker gives 64 MB, too little for NCCL's shared segments
    line("/dev/shm",
         bytes_text(bytes) + (bytes < kSmall ? ": little for NCCL on one machine (docker run --shm-size)" : ""));
  }
}

void report_environment(const RankEnvironment* place) {
  if (place) {
    line("launcher", place->launcher + ": rank " + std::to_string(place->rank) + " of " +
                         std::to_string(place->world_size) + ", " + std::to_string(place->local_world_size) +
                         " on this machine");
    if (place->world_size > 1)
      line("rank 0 at", place->master_addr + ":" + std::to_string(place->master_port) +
                            (place->master_from.empty() ? "" : ", since " + place->master_from));
  } else {
    line("launcher", "none: ftengine starts local ranks itself (--nproc)");
  }
  std::string set;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    for (const char* prefix :
         {"GLOO_", "NCCL_", "OMP_", "MKL_", "FTENGINE_DEVICE", "FTENGINE_HOST_TIMEOUT", "FTENGINE_ISA", "CUDA_VISIBLE"})
      if (text.rfind(prefix, 0) == 0) set += (set.empty() ? "" : "  ") + text;
  }
  line("variables", set.empty() ? "none that change how ranks talk or compute" : set);
}

/// Adds up 64 MiB over the ranks and says how fast. Collective.
void meet(const RankEnvironment& place) {
  constexpr std::chrono::seconds kTimeout(60);
  constexpr std::int64_t kFloats = 16 << 20;
  constexpr int kTimes = 4;
  const auto group = ProcessGroup::connect(place, kTimeout);
  share_threads(*group);
  std::vector<std::string> devices;
  const auto device = choose_device("auto", *group, devices);
  const std::vector<std::string> hosts = group->all_gather_text(host_name());
  const at::Tensor numbers = at::ones({kFloats}, at::TensorOptions(at::kFloat).device(device->where()));
  double best = 1e30;
  for (int i = 0; i < kTimes; ++i) {  // the first time connections are made
    group->barrier();
    const auto start = std::chrono::steady_clock::now();
    group->all_reduce_sum(numbers).wait();
    group->barrier();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  double expected = 1;
  for (int i = 0; i < kTimes; ++i) expected *= group->size();
  if (numbers[kFloats - 1].item<double>() != expected)
    throw Error(ErrorKind::comm, "the ranks' sum came out wrong").help("a network card or cable that garbles data");
  if (group->rank() != 0) return;
  for (int rank = 0; rank < group->size(); ++rank)
    line(rank == 0 ? "ranks" : "",
         std::to_string(rank) + " on " + hosts[static_cast<size_t>(rank)] + ", " + devices[static_cast<size_t>(rank)]);
  for (const std::string& text : nccl_setting_lines(devices)) line("NCCL", text);
  const double bytes = static_cast<double>(kFloats) * sizeof(float);
  const double ranks = group->size();
  char speed[64];
  std::snprintf(speed, sizeof speed, "%.1f ms, %.2f GB/s a rank", 1e3 * best,
                2 * (ranks - 1) / ranks * bytes / best / 1e9);
  line("all-reduce", bytes_text(bytes) + " in " + speed);
}

}  // namespace

int doctor_command(const std::vector<std::string>& arguments, LaunchOptions options) {
  // Of several nodes, what a launcher has started are launchers of ours.
  const bool launches = options.nodes.count > 1 && !under_launcher();
  const auto place = launches ? std::nullopt : RankEnvironment::from_env();
  if (!under_launcher() && (!place || place->rank == 0)) {
    line("ftengine", version_text().substr(std::string("ftengine ").size(), version_text().size() - 10));
    line("LibTorch", libtorch_path());
    report_devices();
    report_memory();
    report_environment(place ? &*place : nullptr);
    std::fflush(stdout);
  }
  if (!place) {
    if (options.nproc == 0) options.nproc = std::max(launches ? 1 : 2, default_gpu_ranks("auto"));
    return launch_local_ranks(arguments, options);
  }
  if (place->world_size > 1) meet(*place);
  return 0;
}

}  // namespace ft
