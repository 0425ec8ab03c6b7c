#pragma once
/// A rank that is only imagined: a device whose tensors have sizes and no memory (LibTorch's meta device), an account
/// of what they would take, and a group whose collectives move nothing and are counted. `ftengine plan` lays a model
/// out on it and walks a step, so that what it says comes from the code that a run uses. Owned by
/// engine/train/memory_plan.cpp. Thread rule: one thread, and one ImaginedMemory at a time. Not collective.

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <cstdint>
#include <memory>

#include "engine/parallel/compute_device.h"
#include "engine/parallel/process_group.h"

namespace ft {

/// While it lives, meta tensors are counted as if they had memory.
class ImaginedMemory {
 public:
  enum class Place { device, home };

  ImaginedMemory();
  ~ImaginedMemory();
  ImaginedMemory(const ImaginedMemory&) = delete;
  ImaginedMemory& operator=(const ImaginedMemory&) = delete;

  /// What stands there now, and the most since the last mark(); bytes as tensors ask for them.
  int64_t held(Place place) const;
  int64_t peak(Place place) const;
  /// Starts both peaks anew.
  void mark();

  /// Memory of the host that an OffloadHome would map: no bytes, and an account of them.
  c10::DataPtr allocate_at_home(size_t bytes);
  at::Tensor at_home(int64_t count, at::ScalarType dtype);

 private:
  class Allocator;
  std::unique_ptr<Allocator> allocator_;
  c10::Allocator* before_;
};

/// The device of such tensors.
std::shared_ptr<ComputeDevice> imagined_device();

/// Bytes that one rank receives, by kind of collective, over all groups.
struct Traffic {
  int64_t gathered = 0;   ///< all-gathers
  int64_t reduced = 0;    ///< reduce-scatters and all-reduces
  int64_t exchanged = 0;  ///< all-to-alls, and steps round a ring
};

/// Rank 0 of `size` ranks. Collectives of tensors on the host give every rank this one's values.
/// @param traffic counted in here, by subgroups too; outlives the group
std::shared_ptr<ProcessGroup> imagined_group(int size, Traffic& traffic);

}  // namespace ft
