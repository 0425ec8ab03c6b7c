#include "engine/device/gpu_cards.h"

#include <dlfcn.h>

#include <array>
#include <type_traits>

#include "engine/device/gpu_nodes.h"

namespace ft {
namespace {

// NVML's C interface, as far as it is asked; 0 is success everywhere.
struct Nvml {
  using Device = void*;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*device)(unsigned, Device*) = nullptr;
  int (*name)(Device, char*, unsigned) = nullptr;
  int (*capability)(Device, int*, int*) = nullptr;

  bool open() {
    void* library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!library) return false;
    const auto find = [library](const char* symbol, auto& function) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
      return function != nullptr;
    };
    return find("nvmlInit_v2", init) && find("nvmlShutdown", shutdown) && find("nvmlDeviceGetCount_v2", count) &&
           find("nvmlDeviceGetHandleByIndex_v2", device) && find("nvmlDeviceGetName", name) &&
           find("nvmlDeviceGetCudaComputeCapability", capability);
  }
};

std::vector<GpuCard> ask() {
  Nvml nvml;
  std::vector<GpuCard> cards;
  if (visible_gpus() == 0 || !nvml.open() || nvml.init() != 0) return cards;
  unsigned count = 0;
  if (nvml.count(&count) != 0) count = 0;
  for (unsigned i = 0; i < count; ++i) {
    Nvml::Device device = nullptr;
    std::array<char, 96> name{};
    GpuCard card;
    if (nvml.device(i, &device) != 0 || nvml.capability(device, &card.major, &card.minor) != 0) continue;
    if (nvml.name(device, name.data(), name.size() - 1) == 0) card.name = name.data();
    cards.push_back(std::move(card));
  }
  nvml.shutdown();
  return cards;
}

}  // namespace

const std::vector<GpuCard>& gpu_cards() {
  static const std::vector<GpuCard> cards = ask();
  return cards;
}

}  // namespace ft
