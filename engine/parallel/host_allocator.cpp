#include "engine/parallel/host_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <malloc.h>
#include <sys/mman.h>

#include <cstdlib>
#include <iterator>
#include <mutex>

#include "engine/device/memory.h"
#include "engine/device/memory_meter.h"
#include "engine/error/error.h"

namespace ft {

uint64_t LowestFit::take(uint64_t bytes) {
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const auto [place, size] = *it;
    if (size < bytes) continue;
    free_.erase(it);
    if (size > bytes) free_.emplace(place + bytes, size - bytes);
    used_.emplace(place, bytes);
    return place;
  }
  const uint64_t place = end_;
  end_ += bytes;
  used_.emplace(place, bytes);
  return place;
}

uint64_t LowestFit::give_back(uint64_t place) {
  const auto found = used_.find(place);
  FT_CHECK(found != used_.end(), "a place is given back that nobody took");
  const uint64_t bytes = found->second;
  used_.erase(found);
  uint64_t begin = place, size = bytes;
  const auto next = free_.lower_bound(place);
  if (next != free_.end() && next->first == begin + size) size += next->second;
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) begin = before->first, size += before->second;
  }
  if (next != free_.end() && next->first == place + bytes) free_.erase(next);
  if (begin + size == end_) {
    free_.erase(begin);
    end_ = begin;
  } else {
    free_.insert_or_assign(begin, size);
  }
  return bytes;
}

namespace {

constexpr size_t kLeast = size_t{256} << 10;  // smaller blocks are glibc's, which is quick with them
constexpr size_t kAlignment = 64;
// Between blocks, so that arrays of a power of two do not all begin on the same cache sets.
constexpr size_t kGap = 3 * kAlignment;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kGrowth = 8 * kHugePage;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

class HostAllocator : public c10::Allocator {
 public:
  HostAllocator(std::byte* base, size_t reserved) : base_(base), reserved_(reserved) {}

  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes == 0 ? nullptr : bytes < kLeast ? small(bytes) : large(bytes);
    return {data, data, raw_deleter(), c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free_block; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

  static HostAllocator* installed;

 private:
  static void* small(size_t bytes) {
    void* data = nullptr;
    if (posix_memalign(&data, kAlignment, bytes) != 0) refuse(bytes);
    memory_meter::count(static_cast<int64_t>(malloc_usable_size(data)));
    return data;
  }

  void* large(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t place = places_.take(round_up(bytes, kAlignment) + kGap);
    if (!commit(places_.end())) {
      places_.give_back(place);
      refuse(bytes);
    }
    memory_meter::count(static_cast<int64_t>(round_up(bytes, kAlignment) + kGap));
    return base_ + place;
  }

  // The phrase of LibTorch's own allocator, by which its readers know it.
  [[noreturn]] static void refuse(size_t bytes) {
    C10_THROW_ERROR(Error,
                    "HostAllocator: can't allocate memory: you tried to allocate " + std::to_string(bytes) + " bytes.");
  }

  bool commit(uint64_t end) {
    if (end <= committed_) return true;
    const size_t wanted = round_up(end, kGrowth);
    if (wanted > reserved_) return false;
    std::byte* from = base_ + committed_;
    if (mprotect(from, wanted - committed_, PROT_READ | PROT_WRITE) != 0) return false;
    madvise(from, wanted - committed_, MADV_HUGEPAGE);  // a wish: without it pages are small
    committed_ = wanted;
    return true;
  }

  static void free_block(void* data) {
    HostAllocator& self = *installed;
    auto* bytes = static_cast<std::byte*>(data);
    if (bytes < self.base_ || bytes >= self.base_ + self.reserved_) {
      memory_meter::count(-static_cast<int64_t>(malloc_usable_size(data)));
      return std::free(data);
    }
    const std::lock_guard<std::mutex> lock(self.mutex_);
    memory_meter::count(-static_cast<int64_t>(self.places_.give_back(static_cast<uint64_t>(bytes - self.base_))));
  }

  std::byte* base_;
  size_t reserved_, committed_ = 0;
  std::mutex mutex_;
  LowestFit places_;
};

HostAllocator* HostAllocator::installed = nullptr;

}  // namespace

bool install_host_allocator() {
  FT_CHECK(!HostAllocator::installed, "the host allocator is installed once");
  // Addresses alone: twice what the machine has leaves room for holes.
  const size_t reserved = round_up(2 * static_cast<size_t>(total_host_bytes()), kGrowth) + kHugePage;
  void* range = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return false;
  auto* aligned = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<size_t>(range), kHugePage));
  // Never freed: tensors that statics hold are freed after everything else.
  HostAllocator::installed = new HostAllocator(aligned, reserved - kHugePage);
  c10::SetCPUAllocator(HostAllocator::installed, /*priority=*/1);
  return true;
}

}  // namespace ft
