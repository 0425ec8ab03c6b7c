#pragma once
/// Which device a rank computes on: what the plan's parallel.device says, or FTENGINE_DEVICE, which comes before it.
/// Called by ShardedModel, and by the front for the number of ranks to start.

#include <memory>
#include <string>
#include <vector>

#include "engine/parallel/compute_device.h"

namespace ft {

class ProcessGroup;

/// What is asked for: "auto", "cpu" or "cuda", and who says so.
struct DeviceWish {
  std::string kind = "auto";
  bool from_environment = false;

  /// @param planned the plan's parallel.device   @throws Error(config) for another word
  static DeviceWish of(const std::string& planned);
};

/// What stands between a rank and a GPU.
class GpuAccess {
 public:
  virtual ~GpuAccess() = default;
  virtual int visible() const;  ///< GPUs that the driver shows (gpu_nodes.h): costs nothing
  /// Opens the CUDA plugin. @return null with the reason where that fails
  virtual CudaDevices* open(std::string& problem);
};

/// The device of one rank of this machine: for "auto" GPU number `local_rank` where the driver shows one, the plugin
/// opens and CUDA can use it, else the CPU. Where no GPU is shown and none asked for, nothing of CUDA is touched.
/// @param passed_over why a GPU that is shown is not taken; empty where none is passed over
/// @throws Error(config) where CUDA is asked for and not to be had, or there are more ranks than GPUs; says what is
/// missing.
std::shared_ptr<ComputeDevice> device_for(const DeviceWish& wish, int local_rank, GpuAccess& gpus,
                                          std::string& passed_over);

/// Opens what choose_device will choose, and leaves it: a GPU that is missing is named before data is read, and
/// LibTorch learns of CUDA before it is asked about it.   @throws Error(config) as device_for
void open_device(const std::string& planned);

/// The device of this rank of `world`, with a warning where a GPU is passed over. Collective.
/// @param names of all ranks' devices, by rank
/// @throws Error(config) as above, and where some ranks have a GPU and some have none.
std::shared_ptr<ComputeDevice> choose_device(const std::string& planned, ProcessGroup& world,
                                             std::vector<std::string>& names);

/// How many ranks are started where nobody says: one for each GPU, or 0 where ranks will compute on the CPU, as far as
/// that can be told without opening anything.
int default_gpu_ranks(const std::string& planned);

}  // namespace ft
