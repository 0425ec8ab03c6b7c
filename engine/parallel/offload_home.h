#pragma once
/// Where a rank's own ranges live while they are offloaded: host memory of its own, mapped apart from what tensors are
/// otherwise made in, page-locked or left for the system to swap out. Ranges, their gradients and the optimizer's state
/// stand there as tensors on the host; a unit computes on its device (ShardUnitOptions::device), to which gathers copy
/// and from which gradients come back. On a CPU the device's side is the gathered buffer. One home a run, owned by
/// ShardedModel, which outlives what stands in it.
///
/// What crosses is counted, so that tests can tell that it did. Thread rule: copies come from the schedule's thread;
/// memory may be taken and freed on any. Not collective.

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace ft {

class ImaginedMemory;

/// How pages are kept in memory. Another device's way (registered with its driver) takes the place of the system's.
struct PageLocking {
  std::function<bool(void* data, size_t bytes)> lock;  ///< false where it is refused: the pages stay as they are
  std::function<void(void* data, size_t bytes)> unlock;

  static PageLocking of_the_system();  ///< mlock
};

struct OffloadOptions {
  bool pin = true;  ///< page-lock everything; else nothing
  PageLocking locking = PageLocking::of_the_system();
  /// A directory on a disk: memory is that of nameless files in it, which the system writes out when it needs the
  /// pages, and nothing is page-locked. Empty: ordinary memory.
  std::filesystem::path pages_in{};
  ImaginedMemory* imagined = nullptr;  ///< where nothing is mapped, but counted; outlives the home
};

/// Bytes of whole pages, now.
struct OffloadBytes {
  int64_t held = 0;     ///< mapped
  int64_t pinned = 0;   ///< of which page-locked
  int64_t refused = 0;  ///< of which to be page-locked, and refused
};

class OffloadHome {
 public:
  explicit OffloadHome(OffloadOptions options);
  ~OffloadHome();
  OffloadHome(const OffloadHome&) = delete;
  OffloadHome& operator=(const OffloadHome&) = delete;

  bool pins() const { return options_.pin; }
  /// Fresh memory in a mapping of its own, zero, on page boundaries; of 2 MiB and more on huge pages where the system
  /// has them.   @throws c10::Error as LibTorch's allocator does where there is none
  c10::DataPtr allocate(size_t bytes);
  /// A tensor [count] of zeros in such memory.
  at::Tensor zeros(int64_t count, at::ScalarType dtype);

  /// Copies a range to where it computes, rounding to the dtype there. @param there [n] on the device.
  void to_device(const at::Tensor& there, const at::Tensor& here);
  /// Copies a gradient home. @param here [n] fp32 @param there [n] in any float dtype.
  void to_home(const at::Tensor& here, const at::Tensor& there);
  /// Copies a gradient home, a piece at a time, and adds it to one there.
  void add_at_home(const at::Tensor& here, const at::Tensor& there);
  /// A copy, in ordinary memory of the host: the rows of a gradient that are few.
  at::Tensor brought_home(const at::Tensor& there);

  /// Until the guard dies, tensors that are made on the CPU stand at home: for the optimizer's state. Null: no change.
  /// One at a time, while no other thread makes tensors that outlive the home.
  class Stay {
   public:
    explicit Stay(OffloadHome* home);
    ~Stay();
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;

   private:
    c10::Allocator* before_ = nullptr;
  };

  int64_t bytes_to_device() const { return to_device_; }  ///< copied so far, as they arrived
  int64_t bytes_to_home() const { return to_home_; }      ///< copied so far, as they left the device
  double seconds() const { return seconds_; }             ///< so far, of copies and of adding at home
  OffloadBytes bytes() const;
  /// What to tell the user where memory was not page-locked as it should have been: how much, the limit, what to do.
  std::optional<std::string> refusal() const;

 private:
  struct Account;
  struct Mapping;
  class Allocator;
  std::shared_ptr<Mapping> map(size_t bytes);
  c10::DataPtr share(size_t bytes);

  OffloadOptions options_;
  std::shared_ptr<Account> account_;
  std::unique_ptr<Allocator> allocator_;
  std::mutex mutex_;                // of what is shared
  std::shared_ptr<Mapping> chunk_;  // small tensors stand side by side in it
  size_t chunk_used_ = 0;
  at::Tensor staging_;  // [kStagingBytes] uint8: of constant size, whatever the model's
  int64_t to_device_ = 0, to_home_ = 0;
  double seconds_ = 0;
};

}  // namespace ft
