#include "engine/parallel/buffer_pool.h"

#include <ATen/ops/empty.h>

namespace ft {
namespace {

// Size classes step by 64 KiB: decoder layers of one model fall into one class, an embedding has its own.
constexpr int64_t kClassBytes = 64 * 1024;

}  // namespace

BufferPool::Buffer& BufferPool::Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    give_back();
    pool_ = std::exchange(other.pool_, nullptr);
    bytes_ = std::move(other.bytes_);
  }
  return *this;
}

void BufferPool::Buffer::give_back() {
  if (!pool_) return;
  pool_->free_[bytes_.numel()].push_back(std::move(bytes_));
  pool_ = nullptr;
}

void* BufferPool::Buffer::data() const { return bytes_.data_ptr(); }

at::Tensor BufferPool::Buffer::view(int64_t count, at::ScalarType dtype) const {
  return bytes_.narrow(0, 0, count * static_cast<int64_t>(c10::elementSize(dtype))).view(dtype);
}

BufferPool::Buffer BufferPool::take(int64_t bytes) {
  const int64_t size = std::max<int64_t>(1, (bytes + kClassBytes - 1) / kClassBytes) * kClassBytes;
  std::vector<at::Tensor>& free = free_[size];
  if (free.empty()) {
    held_ += size;
    return Buffer(this, at::empty({size}, at::TensorOptions(at::kByte).device(device_)));
  }
  at::Tensor reused = std::move(free.back());
  free.pop_back();
  return Buffer(this, std::move(reused));
}

}  // namespace ft
