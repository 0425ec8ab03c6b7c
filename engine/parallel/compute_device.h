#pragma once
/// The device that a rank computes on, and the queues in which its work stands. This class is the CPU, where work is
/// done when the call that asks for it returns, so that there is nothing to wait for; GPUs come from the CUDA plugin
/// (compute_device_cuda.cpp). Chosen once by ShardedModel, which shares it with the shard units and the saver.
///
/// On a GPU each thread queues its work on one queue at a time: the compute queue, unless it has entered another.
/// Queues run beside each other; a mark says what must come before what. The collectives of NCCL have two more, one for
/// gathers and one for the rest, which wait for the queue that they are called from, as that waits for their end in
/// Pending::wait. Thread rule: any thread; a guard dies on the thread that entered.

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/parallel/offload_home.h"

namespace ft {

/// Bytes of a device; all 0 for the CPU, whose memory engine/device/memory.h tells.
struct DeviceMemory {
  int64_t held = 0, peak = 0;   ///< by this process's tensors: now, and the most so far
  int64_t free = 0, total = 0;  ///< of the device
};

/// A place in the order of a queue. Empty: nothing to wait for.
using Mark = std::shared_ptr<void>;

class ComputeDevice {
 public:
  /// Queues beside the compute queue.
  enum class Queue {
    copies,  ///< what a unit's gather copies together first
    saving,  ///< what a checkpoint reads
  };

  static std::shared_ptr<ComputeDevice> cpu();
  virtual ~ComputeDevice() = default;
  ComputeDevice(const ComputeDevice&) = delete;

  c10::Device where() const { return where_; }
  bool is_cpu() const { return where_.is_cpu(); }
  const std::string& name() const { return name_; }  ///< "cpu", "cuda:0 NVIDIA H200"

  /// The place behind all that this thread has queued where it queues now.
  virtual Mark mark() { return nullptr; }
  /// What this thread queues from now on comes after the mark. Returns at once.
  virtual void wait([[maybe_unused]] const Mark& mark) {}
  /// Until the guard dies this thread queues on `queue`, which knows nothing of the order of others.
  [[nodiscard]] virtual std::shared_ptr<void> enter([[maybe_unused]] Queue queue) { return nullptr; }
  virtual DeviceMemory memory() { return {}; }
  /// How memory of the host is page-locked, so that this device copies from and to it by itself; nothing: the system's
  /// way will do.
  virtual std::optional<PageLocking> page_locking() { return std::nullopt; }

 protected:
  ComputeDevice(c10::Device where, std::string name) : where_(where), name_(std::move(name)) {}

 private:
  c10::Device where_;
  std::string name_;
};

/// What the plugin knows of GPUs: the function that it exports, and its symbol.
class CudaDevices {
 public:
  virtual ~CudaDevices() = default;
  /// GPUs that CUDA can use. @param problem why there are none: what is missing, driver or device
  virtual int count(std::string& problem) = 0;
  /// @throws std::exception where it cannot be used
  virtual std::shared_ptr<ComputeDevice> open(int index) = 0;
};
using CudaDevicesFunction = CudaDevices* (*)();
inline constexpr const char* kCudaDevicesSymbol = "ft_cuda_devices";

}  // namespace ft
