#include "engine/parallel/nccl_settings.h"

#include <algorithm>
#include <cstdlib>

namespace ft {

std::vector<NcclSetting> needed_nccl_settings(const std::vector<std::string>& devices) {
  if (devices.size() < 2) return {};
  // GeForce cards from the 40 series on: the driver refuses peer-to-peer, and NCCL, which takes it to be there, hangs
  // (NVIDIA's forum, "RTX 4090 peer to peer"; accelerate and Axolotl set the same two).
  const auto without_peers = std::find_if(devices.begin(), devices.end(), [](const std::string& device) {
    return device.find("GeForce RTX 40") != std::string::npos || device.find("GeForce RTX 50") != std::string::npos;
  });
  if (without_peers == devices.end()) return {};
  const std::string card = without_peers->substr(std::min(without_peers->size(), without_peers->find(' ') + 1));
  return {{"NCCL_P2P_DISABLE", "1", card + " cannot reach another card's memory"},
          {"NCCL_IB_DISABLE", "1", card + " cannot be reached by a network card"}};
}

void set_needed_nccl(const std::vector<std::string>& devices) {
  for (const NcclSetting& setting : needed_nccl_settings(devices))
    setenv(setting.name.c_str(), setting.value.c_str(), /*replace=*/0);
}

std::vector<std::string> nccl_setting_lines(const std::vector<std::string>& devices) {
  std::vector<std::string> lines;
  for (const NcclSetting& setting : needed_nccl_settings(devices)) {
    const char* set = std::getenv(setting.name.c_str());
    const bool ours = !set || set == setting.value;
    lines.push_back(setting.name + "=" + (ours ? setting.value : set) + ": " + setting.reason +
                    (ours ? "" : ", but that is what the environment says"));
  }
  return lines;
}

}  // namespace ft
