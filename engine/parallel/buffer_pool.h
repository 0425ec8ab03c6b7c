#pragma once
/// Memory that units take in turn: gathered parameters and gradients on their way. A buffer goes back to the pool when
/// its guard dies, and is handed out again to the next unit of its size class; the pool's size is therefore what is in
/// use at one time (two or three units), whatever the depth of the model. One pool a run, used from the schedule's
/// thread alone.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace ft {

class BufferPool {
 public:
  /// Takes a buffer of at least `bytes`, uninitialised. Gives it back when the guard dies.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), bytes_(std::move(other.bytes_)) {}
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer() { give_back(); }
    explicit operator bool() const { return pool_ != nullptr; }
    void* data() const;
    /// The first `count` elements as a 1-D tensor of `dtype`; it must not outlive the guard.
    at::Tensor view(int64_t count, at::ScalarType dtype) const;

   private:
    friend class BufferPool;
    Buffer(BufferPool* pool, at::Tensor bytes) : pool_(pool), bytes_(std::move(bytes)) {}
    void give_back();
    BufferPool* pool_ = nullptr;
    at::Tensor bytes_;  // uint8 [size class]
  };

  explicit BufferPool(at::Device device) : device_(device) {}
  Buffer take(int64_t bytes);
  /// Bytes held, in use or not: the peak of what was in use, per size class.
  int64_t held_bytes() const { return held_; }

 private:
  at::Device device_;
  std::map<int64_t, std::vector<at::Tensor>> free_;  // by size class
  int64_t held_ = 0;
};

}  // namespace ft
