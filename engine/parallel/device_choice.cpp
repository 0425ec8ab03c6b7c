#include "engine/parallel/device_choice.h"

#include <cstdlib>

#include "engine/device/gpu_nodes.h"
#include "engine/device/log.h"
#include "engine/error/error.h"
#include "engine/parallel/cuda_plugin.h"
#include "engine/parallel/launch.h"
#include "engine/parallel/nccl_settings.h"
#include "engine/parallel/process_group.h"

namespace ft {
namespace {

constexpr const char* kVariable = "FTENGINE_DEVICE";

Error refusal(const DeviceWish& wish, const std::string& what) {
  Error error(ErrorKind::config, what);
  if (wish.from_environment) return error.at("environment").key(kVariable);
  return error.key("parallel.device");
}

std::string message_of(const std::exception& exception) {
  const auto* error = dynamic_cast<const Error*>(&exception);
  const std::string text = error ? error->message() : exception.what();
  return text.substr(0, text.find('\n'));
}

std::shared_ptr<ComputeDevice> own_device(const std::string& planned, std::string& passed_over) {
  const auto environment = RankEnvironment::from_env();
  GpuAccess gpus;
  return device_for(DeviceWish::of(planned), environment ? environment->local_rank : 0, gpus, passed_over);
}

std::string kind_of(const std::string& device) { return device.substr(0, device.find(':')); }

/// GPU `index`. @return null with the reason where it is not to be had
std::shared_ptr<ComputeDevice> open_gpu(CudaDevices& cuda, int index, std::string& problem) {
  try {
    return cuda.open(index);
  } catch (const std::exception& e) {
    problem = message_of(e);
    return nullptr;
  }
}

}  // namespace

std::shared_ptr<ComputeDevice> ComputeDevice::cpu() {
  struct Cpu : ComputeDevice {
    Cpu() : ComputeDevice(c10::kCPU, "cpu") {}
  };
  return std::make_shared<Cpu>();
}

DeviceWish DeviceWish::of(const std::string& planned) {
  DeviceWish wish{planned, false};
  if (const char* said = std::getenv(kVariable); said && *said) wish = {said, true};
  if (wish.kind != "auto" && wish.kind != "cpu" && wish.kind != "cuda")
    throw refusal(wish, "got '" + wish.kind + "', want auto, cpu or cuda");
  return wish;
}

int GpuAccess::visible() const { return visible_gpus(); }

CudaDevices* GpuAccess::open(std::string& problem) {
  std::string reason;
  void* plugin = open_cuda_plugin(reason);
  if (!plugin) return problem = "the CUDA plugin cannot be opened (" + reason + ")", nullptr;
  const auto devices = reinterpret_cast<CudaDevicesFunction>(cuda_plugin_symbol(plugin, kCudaDevicesSymbol));
  if (!devices) return problem = "the CUDA plugin is of another version of ftengine", nullptr;
  return devices();
}

std::shared_ptr<ComputeDevice> device_for(const DeviceWish& wish, int local_rank, GpuAccess& gpus,
                                          std::string& passed_over) {
  passed_over.clear();
  const bool asked = wish.kind == "cuda";
  if (wish.kind == "cpu" || (!asked && gpus.visible() == 0)) return ComputeDevice::cpu();
  std::string problem;
  CudaDevices* cuda = gpus.open(problem);
  const int count = cuda ? cuda->count(problem) : 0;
  // A scheduler may show each rank a GPU of its own, which is then number 0 for every one.
  const bool own = count == 1 && std::getenv("CUDA_VISIBLE_DEVICES") && !under_launcher();
  if (count > 0 && local_rank >= count && !own)
    throw refusal(wish, "rank " + std::to_string(local_rank) + " of this machine has no GPU of its own: there are " +
                            std::to_string(count))
        .help("start one rank a GPU (--nproc " + std::to_string(count) + "), or set parallel.device = \"cpu\"");
  std::shared_ptr<ComputeDevice> device;
  if (count > 0) device = open_gpu(*cuda, own ? 0 : local_rank, problem);
  if (device) return device;
  const std::string shown = gpus.visible() == 0 ? "none is shown in /dev, and " : "";
  if (asked)
    throw refusal(wish, "no GPU to compute on: " + shown + problem)
        .help(
            "a GPU wants NVIDIA's driver (does nvidia-smi list it?), ftengine built with CUDA (tools/setup --cuda, "
            "FTENGINE_CUDA=ON), and CUDA_VISIBLE_DEVICES not to hide it; \"auto\" takes the CPU where one is missing");
  passed_over = problem;
  return ComputeDevice::cpu();
}

void open_device(const std::string& planned) {
  std::string passed_over;
  own_device(planned, passed_over);
}

std::shared_ptr<ComputeDevice> choose_device(const std::string& planned, ProcessGroup& world,
                                             std::vector<std::string>& names) {
  std::string passed_over;
  auto device = own_device(planned, passed_over);
  if (!passed_over.empty()) log_warning("computing on the CPU, although a GPU is there: " + passed_over);
  names = world.all_gather_text(device->name());
  for (size_t rank = 0; rank < names.size(); ++rank)
    if (kind_of(names[rank]) != kind_of(names[0]))
      throw Error(ErrorKind::config, "rank 0 computes on " + names[0] + ", rank " + std::to_string(rank) + " on " +
                                         names[rank] + "; want one kind of device")
          .key("parallel.device")
          .help("set it to \"cuda\", and the rank without a GPU says what it lacks; or to \"cpu\"");
  set_needed_nccl(names);
  for (const std::string& line : nccl_setting_lines(names)) log_info(line);
  return device;
}

int default_gpu_ranks(const std::string& planned) {
  const DeviceWish wish = DeviceWish::of(planned);
  if (wish.kind == "cpu" || (wish.kind == "auto" && !cuda_plugin_exists())) return 0;
  return visible_gpus();
}

}  // namespace ft
