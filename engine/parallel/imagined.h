#pragma once
/// A rank that is only imagined: a device whose tensors have sizes and no memory (LibTorch's meta device), an account
/// of what they would take, and a group whose collectives move nothing and are counted. `ftengine plan` lays a model
/// out on it and walks a step, so that what it says comes from the code that a run uses. Owned by
/// engine/train/memory_plan.cpp. Thread rule: one thread, and one ImaginedMemory at a time. Not collective.

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <array>
#include <cstdint>
#include <memory>

#include "engine/parallel/compute_device.h"
#include "engine/parallel/process_group.h"

namespace ft {

/// What memory is for.
enum class MemoryKind { nf4, frozen, masters, whole, gathered, gradients, optimizer, activations, loss, buffers };
inline constexpr size_t kNumMemoryKinds = 10;
/// "nf4 base", "gathered units", …: a row's name in plans.
const char* to_string(MemoryKind kind);

/// While it lives, what is made on the imagined device counts as `kind`; without one, as activations. Costs nothing in
/// a run, whose tensors nobody counts.
class MadeFor {
 public:
  explicit MadeFor(MemoryKind kind);
  ~MadeFor();
  MadeFor(const MadeFor&) = delete;
  MadeFor& operator=(const MadeFor&) = delete;

 private:
  MemoryKind before_;
};

/// Bytes by kind.
using BytesByKind = std::array<int64_t, kNumMemoryKinds>;
int64_t total(const BytesByKind& bytes);

/// While it lives, meta tensors are counted as if they had memory.
class ImaginedMemory {
 public:
  /// `map`: a read-only file map, whose pages the system may drop.
  enum class Place { device, home, map };
  static constexpr size_t kNumPlaces = 3;
  using Holding = std::array<BytesByKind, kNumPlaces>;  // by Place

  /// @param gpu the device is a GPU: its kernels take other temporaries than a CPU's
  explicit ImaginedMemory(bool gpu = false);
  ~ImaginedMemory();
  ImaginedMemory(const ImaginedMemory&) = delete;
  ImaginedMemory& operator=(const ImaginedMemory&) = delete;

  /// What stands there now.
  const Holding& held() const;
  /// What stood there when the device held the most since the last mark(), when the home did, and when both together
  /// did.
  const Holding& device_peak() const;
  const Holding& home_peak() const;
  const Holding& joint_peak() const;
  /// Starts the peaks anew.
  void mark();

  /// Memory that an OffloadHome would map: no bytes, and an account of them.
  c10::DataPtr allocate(Place place, size_t bytes);
  at::Tensor make(Place place, int64_t count, at::ScalarType dtype);

  /// Whether a GPU is imagined now.
  static bool gpu();

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
