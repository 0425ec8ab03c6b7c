#include "engine/parallel/imagined.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr uint8_t kAllocatorPriority = 1;

// What the thread that plans makes now, and whether for a GPU.
thread_local MemoryKind making = MemoryKind::activations;
thread_local bool on_gpu = false;

}  // namespace

const char* to_string(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::nf4:
      return "nf4 base";
    case MemoryKind::frozen:
      return "frozen";
    case MemoryKind::masters:
      return "masters";
    case MemoryKind::whole:
      return "whole parameters";
    case MemoryKind::gathered:
      return "gathered units";
    case MemoryKind::gradients:
      return "gradients";
    case MemoryKind::optimizer:
      return "optimizer";
    case MemoryKind::activations:
      return "activations";
    case MemoryKind::loss:
      return "loss";
    case MemoryKind::buffers:
      return "buffers";
  }
  return "?";
}

MadeFor::MadeFor(MemoryKind kind) : before_(std::exchange(making, kind)) {}
MadeFor::~MadeFor() { making = before_; }

int64_t total(const BytesByKind& bytes) { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }

class ImaginedMemory::Allocator : public c10::Allocator {
 public:
  struct Account {
    Holding held{}, device_peak{}, home_peak{}, joint_peak{};
    void add(Place place, MemoryKind kind, int64_t bytes) {
      held[static_cast<size_t>(place)][static_cast<size_t>(kind)] += bytes;
      if (bytes < 0) return;
      const auto at = [](const Holding& holding, Place where) { return total(holding[static_cast<size_t>(where)]); };
      const int64_t device = at(held, Place::device), home = at(held, Place::home);
      if (device > at(device_peak, Place::device)) device_peak = held;
      if (home > at(home_peak, Place::home)) home_peak = held;
      if (device + home > at(joint_peak, Place::device) + at(joint_peak, Place::home)) joint_peak = held;
    }
  };

  // An address that is nobody's: layers tell by it that a parameter is gathered.
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, c10::Device(c10::DeviceType::Meta)};
    auto* block = new Block{account_, place, making, static_cast<int64_t>(bytes)};
    account_->add(place, block->kind, block->bytes);
    return {block, block, free_block, c10::Device(c10::DeviceType::Meta)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override {}
  Account& account() const { return *account_; }
  Place place = Place::device;

 private:
  struct Block {
    std::shared_ptr<Account> account;  // tensors may outlive the allocator
    Place place;
    MemoryKind kind;
    int64_t bytes;
  };
  static void free_block(void* data) {
    const std::unique_ptr<Block> block(static_cast<Block*>(data));
    block->account->add(block->place, block->kind, -block->bytes);
  }
  std::shared_ptr<Account> account_ = std::make_shared<Account>();
};

ImaginedMemory::ImaginedMemory(bool gpu)
    : allocator_(std::make_unique<Allocator>()), before_(c10::GetAllocator(c10::DeviceType::Meta)) {
  c10::SetAllocator(c10::DeviceType::Meta, allocator_.get(), kAllocatorPriority);
  on_gpu = gpu;
}

ImaginedMemory::~ImaginedMemory() {
  c10::SetAllocator(c10::DeviceType::Meta, before_, kAllocatorPriority);
  on_gpu = false;
}

const ImaginedMemory::Holding& ImaginedMemory::held() const { return allocator_->account().held; }
const ImaginedMemory::Holding& ImaginedMemory::device_peak() const { return allocator_->account().device_peak; }
const ImaginedMemory::Holding& ImaginedMemory::home_peak() const { return allocator_->account().home_peak; }
const ImaginedMemory::Holding& ImaginedMemory::joint_peak() const { return allocator_->account().joint_peak; }

void ImaginedMemory::mark() {
  Allocator::Account& account = allocator_->account();
  account.device_peak = account.home_peak = account.joint_peak = account.held;
}

c10::DataPtr ImaginedMemory::allocate(Place place, size_t bytes) {
  allocator_->place = place;
  c10::DataPtr memory = allocator_->allocate(bytes);
  allocator_->place = Place::device;
  return memory;
}

at::Tensor ImaginedMemory::make(Place place, int64_t count, at::ScalarType dtype) {
  allocator_->place = place;
  at::Tensor made = at::empty({count}, at::TensorOptions(dtype).device(at::kMeta));
  allocator_->place = Place::device;
  return made;
}

bool ImaginedMemory::gpu() { return on_gpu; }

namespace {

class ImaginedDevice : public ComputeDevice {
 public:
  ImaginedDevice() : ComputeDevice(c10::Device(c10::DeviceType::Meta), "imagined") {}
};

// The others' parts of a sum, which CPUs add in rank order.
struct Reduction : Pending::Work {
  explicit Reduction(at::Tensor held) : parts(std::move(held)) {}
  void wait() override {}
  at::Tensor parts;
};

class ImaginedGroup : public ProcessGroup {
 public:
  ImaginedGroup(int rank, int size, Traffic& traffic) : ProcessGroup(rank, size), traffic_(&traffic) {}

  Pending all_gather_into(const at::Tensor& whole, const at::Tensor& mine) override {
    FT_CHECK(whole.numel() == mine.numel() * size(), "all_gather_into: the whole is one part a rank");
    if (mine.is_cpu())
      for (int r = 0; r < size(); ++r)
        if (r != rank()) whole.view({-1}).narrow(0, r * mine.numel(), mine.numel()).copy_(mine.reshape({-1}));
    if (!mine.is_cpu()) traffic_->gathered += bytes(whole) - bytes(mine);
    return {};
  }
  Pending reduce_scatter_sum(const at::Tensor& mine, const at::Tensor& whole) override {
    FT_CHECK(whole.numel() == mine.numel() * size(), "reduce_scatter_sum: the whole is one part a rank");
    if (mine.is_cpu()) return mine.copy_(whole.narrow(0, rank() * mine.numel(), mine.numel())), Pending();
    traffic_->reduced += bytes(whole) - bytes(mine);
    if (ImaginedMemory::gpu()) return {};
    const MadeFor made_for(MemoryKind::buffers);
    return Pending(std::make_unique<Reduction>(at::empty({whole.numel() - mine.numel()}, mine.options())));
  }
  Pending all_reduce_sum(const at::Tensor& tensor) override { return all_reduce(tensor); }
  Pending all_reduce_max(const at::Tensor& tensor) override { return all_reduce(tensor); }
  Pending broadcast(const at::Tensor&, int) override { return {}; }
  Pending all_to_all(const at::Tensor& received, const at::Tensor& sent) override {
    if (!sent.is_cpu()) traffic_->exchanged += bytes(received) / size() * (size() - 1);
    return {};
  }
  Pending pass_on(const at::Tensor& received, const at::Tensor&) override {
    if (!received.is_cpu()) traffic_->exchanged += bytes(received);
    return {};
  }
  void barrier() override {}
  std::shared_ptr<ProcessGroup> subgroup(const std::vector<int>& ranks, const std::string&) override {
    const auto found = std::find(ranks.begin(), ranks.end(), rank());
    if (found == ranks.end()) return nullptr;
    if (ranks.size() == 1) return single();
    return std::make_shared<ImaginedGroup>(static_cast<int>(found - ranks.begin()), static_cast<int>(ranks.size()),
                                           *traffic_);
  }

 private:
  static int64_t bytes(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }
  Pending all_reduce(const at::Tensor& tensor) {
    if (!tensor.is_cpu()) traffic_->reduced += 2 * bytes(tensor) / size() * (size() - 1);
    return {};
  }

  Traffic* traffic_;
};

}  // namespace

std::shared_ptr<ComputeDevice> imagined_device() { return std::make_shared<ImaginedDevice>(); }

std::shared_ptr<ProcessGroup> imagined_group(int size, Traffic& traffic) {
  if (size == 1) return ProcessGroup::single();
  return std::make_shared<ImaginedGroup>(0, size, traffic);
}

}  // namespace ft
