#include "engine/parallel/offload_home.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "engine/device/figures.h"
#include "engine/device/memory.h"
#include "engine/device/memory_meter.h"
#include "engine/error/error.h"
#include "engine/parallel/imagined.h"
#include "engine/parallel/stopwatch.h"

namespace ft {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kChunk = size_t{256} << 10;  // small tensors of the optimizer: a page each would be mostly waste
constexpr size_t kSmall = kChunk / 4;
constexpr size_t kAlignment = 64;
constexpr int64_t kStagingBytes = int64_t{1} << 20;  // stays in a core's second cache
constexpr uint8_t kAllocatorPriority = 1;            // that of the host's allocator (host_allocator.h)

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// `bytes` of anonymous memory, at a multiple of a huge page where it fills one; null where there is none.
void* map_pages(size_t bytes) {
  const auto anonymous = [](size_t size) {
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
  };
  if (bytes < kHugePage) return anonymous(bytes);
  std::byte* wide = anonymous(bytes + kHugePage);
  if (!wide) return nullptr;
  auto* data = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<size_t>(wide), kHugePage));
  const auto before = static_cast<size_t>(data - wide);
  if (before > 0) ::munmap(wide, before);
  ::munmap(data + bytes, kHugePage - before);
  ::madvise(data, bytes, MADV_HUGEPAGE);  // a wish: without it pages are small
  return data;
}

// The same of a file without a name, which goes with the mapping. The disk is asked for its blocks now: a full one is
// an error here, not a signal at some write.
void* map_file_pages(const std::filesystem::path& directory, size_t bytes) {
  const auto fail = [&](int reason) {
    throw Error(ErrorKind::io, "cannot page out " + std::to_string(bytes) + " bytes: " + std::strerror(reason))
        .at(directory.string())
        .key("parallel.page_directory")
        .help("name a directory on a disk with more room");
  };
  const int file = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) fail(errno);
  int reason = ::posix_fallocate(file, 0, static_cast<off_t>(bytes));
  void* data = reason == 0 ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  if (reason == 0 && data == MAP_FAILED) reason = errno;
  ::close(file);
  if (reason != 0) fail(reason);
  return data;
}

}  // namespace

PageLocking PageLocking::of_the_system() {
  return {.lock = [](void* data, size_t bytes) { return lock_pages(data, static_cast<int64_t>(bytes)); },
          .unlock = [](void* data, size_t bytes) { ::munlock(data, bytes); }};
}

// Outlives the home for as long as memory of it is held.
struct OffloadHome::Account {
  PageLocking locking;
  std::atomic<int64_t> held = 0, pinned = 0, refused = 0;
};

struct OffloadHome::Mapping {
  Mapping(std::shared_ptr<Account> account, size_t size, const OffloadOptions& options)
      : account_(std::move(account)), bytes(size) {
    const bool paged = !options.pages_in.empty();
    data = static_cast<std::byte*>(paged ? map_file_pages(options.pages_in, bytes) : map_pages(bytes));
    // The phrase of LibTorch's own allocator, by which its readers know it.
    if (!data)
      C10_THROW_ERROR(Error,
                      "OffloadHome: can't allocate memory: you tried to allocate " + std::to_string(bytes) + " bytes.");
    account_->held += static_cast<int64_t>(bytes);
    if (paged) return;
    metered_ = static_cast<int64_t>(bytes);
    memory_meter::count(metered_);
    if (!options.pin) return;
    locked_ = account_->locking.lock(data, bytes);
    (locked_ ? account_->pinned : account_->refused) += static_cast<int64_t>(bytes);
    refused_ = !locked_;
  }
  ~Mapping() {
    if (locked_) account_->locking.unlock(data, bytes);
    ::munmap(data, bytes);
    const auto freed = static_cast<int64_t>(bytes);
    account_->held -= freed;
    memory_meter::count(-metered_);
    if (locked_) account_->pinned -= freed;
    if (refused_) account_->refused -= freed;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

 private:
  std::shared_ptr<Account> account_;
  bool locked_ = false, refused_ = false;
  int64_t metered_ = 0;  // not of a file's pages: the system drops them when it needs the memory

 public:
  std::byte* data = nullptr;
  size_t bytes;
};

// What LibTorch takes the optimizer's state from.
class OffloadHome::Allocator : public c10::Allocator {
 public:
  explicit Allocator(OffloadHome& home) : home_(&home) {}
  c10::DataPtr allocate(size_t bytes) override { return bytes < kSmall ? home_->share(bytes) : home_->allocate(bytes); }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  OffloadHome* home_;
};

OffloadHome::OffloadHome(OffloadOptions options)
    : options_(std::move(options)),
      account_(std::make_shared<Account>()),
      allocator_(std::make_unique<Allocator>(*this)) {
  account_->locking = options_.locking;
}

OffloadHome::~OffloadHome() = default;

std::shared_ptr<OffloadHome::Mapping> OffloadHome::map(size_t bytes) {
  const size_t whole = round_up(bytes, static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
  return std::make_shared<Mapping>(account_, whole, options_);
}

namespace {

ImaginedMemory::Place place_of(const OffloadOptions& options) {
  return options.pages_in.empty() ? ImaginedMemory::Place::home : ImaginedMemory::Place::map;
}

// Memory that holds what it lies in until it is freed.
template <class Mapping>
c10::DataPtr held_by(std::shared_ptr<Mapping> mapping, std::byte* data) {
  using Holder = std::shared_ptr<Mapping>;
  auto holder = std::make_unique<Holder>(std::move(mapping));
  return {data, holder.release(), [](void* held) { std::unique_ptr<Holder>(static_cast<Holder*>(held)); },
          c10::Device(c10::DeviceType::CPU)};
}

}  // namespace

c10::DataPtr OffloadHome::allocate(size_t bytes) {
  if (options_.imagined) return options_.imagined->allocate(place_of(options_), bytes);
  if (bytes == 0) return {nullptr, c10::Device(c10::DeviceType::CPU)};
  auto mapping = map(bytes);
  std::byte* data = mapping->data;
  return held_by(std::move(mapping), data);
}

c10::DataPtr OffloadHome::share(size_t bytes) {
  if (bytes == 0) return {nullptr, c10::Device(c10::DeviceType::CPU)};
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!chunk_ || chunk_used_ + bytes > kChunk) {
    chunk_ = map(kChunk);
    chunk_used_ = 0;
  }
  std::byte* data = chunk_->data + chunk_used_;
  chunk_used_ += round_up(bytes, kAlignment);
  return held_by(chunk_, data);
}

at::Tensor OffloadHome::zeros(int64_t count, at::ScalarType dtype) {
  if (options_.imagined) return options_.imagined->make(place_of(options_), count, dtype);
  c10::DataPtr memory = allocate(static_cast<size_t>(count) * c10::elementSize(dtype));
  void* data = memory.get();
  auto held = std::make_shared<c10::DataPtr>(std::move(memory));
  return at::from_blob(
      data, {count}, [held](void*) mutable { held.reset(); }, at::TensorOptions(dtype));
}

void OffloadHome::to_device(const at::Tensor& there, const at::Tensor& here) {
  const Stopwatch watch(seconds_);
  there.copy_(here, /*non_blocking=*/true);  // `here` changes with the next update at the earliest
  to_device_ += static_cast<int64_t>(there.nbytes());
}

void OffloadHome::to_home(const at::Tensor& here, const at::Tensor& there) {
  const Stopwatch watch(seconds_);
  here.copy_(there);
  to_home_ += static_cast<int64_t>(there.nbytes());
}

void OffloadHome::add_at_home(const at::Tensor& here, const at::Tensor& there) {
  const Stopwatch watch(seconds_);
  if (!staging_.defined()) {
    const MadeFor made_for(MemoryKind::buffers);
    staging_ = zeros(kStagingBytes, at::kByte);
  }
  const auto width = static_cast<int64_t>(there.element_size());
  const int64_t at_once = kStagingBytes / width;
  for (int64_t begin = 0; begin < there.numel(); begin += at_once) {
    const int64_t count = std::min(at_once, there.numel() - begin);
    const at::Tensor piece = staging_.narrow(0, 0, count * width).view(there.scalar_type());
    piece.copy_(there.narrow(0, begin, count));
    here.narrow(0, begin, count).add_(piece);
  }
  to_home_ += static_cast<int64_t>(there.nbytes());
}

at::Tensor OffloadHome::brought_home(const at::Tensor& there) {
  const Stopwatch watch(seconds_);
  to_home_ += static_cast<int64_t>(there.nbytes());
  if (options_.imagined) return there;
  return there.to(at::kCPU, there.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
}

OffloadHome::Stay::Stay(OffloadHome* home) {
  if (!home) return;
  before_ = c10::GetCPUAllocator();
  c10::SetCPUAllocator(home->allocator_.get(), kAllocatorPriority);
}

OffloadHome::Stay::~Stay() {
  if (before_) c10::SetCPUAllocator(before_, kAllocatorPriority);
}

OffloadBytes OffloadHome::bytes() const { return {account_->held, account_->pinned, account_->refused}; }

std::optional<std::string> OffloadHome::refusal() const {
  const OffloadBytes now = bytes();
  if (now.refused == 0) return std::nullopt;
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const auto text = [](int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
  return "parallel.cpu_offload_pin_memory: got " + text(now.pinned) + " page-locked, want " +
         text(now.pinned + now.refused) + " (RLIMIT_MEMLOCK is " +
         (limit.rlim_cur == RLIM_INFINITY ? "unlimited" : text(static_cast<int64_t>(limit.rlim_cur))) + ", RAM " +
         text(total_host_bytes()) +
         "); the rest may be swapped out\n   help: cpu_offload_pin_memory: false does without, or raise the limit "
         "(ulimit -l)";
}

}  // namespace ft
