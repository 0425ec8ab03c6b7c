#pragma once
/// What the hardware needs of NCCL: variables that are set before ranks on GPUs talk, unless the user has set them.
/// Called by choose_device on every rank alike, before a communicator is made; `ftengine doctor` shows the reasons.

#include <string>
#include <vector>

namespace ft {

struct NcclSetting {
  std::string name, value, reason;
};

/// @param devices of all ranks, as ComputeDevice::name(): "cuda:0 NVIDIA GeForce RTX 4090"
/// @return what such cards need; nothing for one rank, or for ranks on CPUs
std::vector<NcclSetting> needed_nccl_settings(const std::vector<std::string>& devices);

/// Sets what is needed and not in the environment. One thread.
void set_needed_nccl(const std::vector<std::string>& devices);

/// A line for each: "NCCL_P2P_DISABLE=1: …", or what the user has set instead.
std::vector<std::string> nccl_setting_lines(const std::vector<std::string>& devices);

}  // namespace ft
