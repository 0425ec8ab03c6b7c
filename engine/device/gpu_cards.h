#pragma once
/// What the GPUs of this machine are, as the driver's management library (NVML) tells: no CUDA context is made and
/// nothing of CUDA is loaded, so that a check may ask. Any thread.

#include <string>
#include <vector>

namespace ft {

struct GpuCard {
  std::string name;  ///< "NVIDIA A100-SXM4-80GB"
  int major = 0;     ///< compute capability: 8.0 of an A100
  int minor = 0;
};

/// All cards of the machine, whichever CUDA_VISIBLE_DEVICES leaves. Empty where no GPU is shown (gpu_nodes.h), or the
/// driver comes without NVML. Asked once a process.
const std::vector<GpuCard>& gpu_cards();

}  // namespace ft
