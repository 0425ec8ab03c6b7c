#include "engine/parallel/shard_unit.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "engine/error/error.h"
#include "engine/parallel/add_in_pieces.h"
#include "engine/parallel/imagined.h"
#include "engine/parallel/stopwatch.h"
#include "engine/quant/nf4.h"

namespace ft {
namespace {

constexpr int64_t kTrainableAlignment = 256;  // a block of the 8-bit optimizer's state
constexpr int64_t kFrozenAlignment = 64;      // 128 bytes of bf16: whole cache lines on every rank

// Ranges come in the order in which their first parameter comes, so that every rank builds the same ones.
struct Kind {
  Storage storage;
  at::ScalarType dtype;
  int64_t record;
  bool operator==(const Kind&) const = default;
};

Kind kind_of(const Parameter& parameter, at::ScalarType frozen_dtype) {
  switch (parameter.storage) {
    case Storage::trainable:
      return {Storage::trainable, at::kFloat, 1};
    case Storage::frozen:
      return {Storage::frozen, frozen_dtype, 1};
    case Storage::nf4:
      return {Storage::nf4, at::kByte, static_cast<int64_t>(nf4::record_bytes(parameter.double_quant))};
  }
  return {};
}

// The rows of a table that were looked up come as a sparse tensor: indices [1, n], values [n, width].
// @param home where `into` lives, the gradient being on the device; null: both are there.
void add_to(const at::Tensor& into, const at::Tensor& grad, OffloadHome* home = nullptr) {
  if (!grad.is_sparse()) {
    const at::Tensor flat = grad.reshape({-1});
    home ? home->add_at_home(into, flat) : add_in_pieces(into, flat);
    return;
  }
  at::Tensor rows = grad._indices().select(0, 0), values = grad._values().to(at::kFloat);
  if (home) rows = home->brought_home(rows), values = home->brought_home(values);
  into.view(grad.sizes()).index_add_(0, rows, values);
}

void set_to(const at::Tensor& into, const at::Tensor& grad, OffloadHome* home = nullptr) {
  if (!grad.is_sparse()) {
    const at::Tensor flat = grad.reshape({-1});
    home ? home->to_home(into, flat) : static_cast<void>(into.copy_(flat));
    return;
  }
  into.zero_();
  add_to(into, grad, home);
}

MemoryKind memory_kind(Storage storage) {
  if (storage == Storage::nf4) return MemoryKind::nf4;
  return storage == Storage::frozen ? MemoryKind::frozen : MemoryKind::masters;
}

int64_t alignment(Storage storage) {
  return storage == Storage::trainable ? kTrainableAlignment : storage == Storage::frozen ? kFrozenAlignment : 1;
}

}  // namespace

ShardUnit::ShardUnit(std::string name, const std::vector<Parameter*>& parameters,
                     const std::vector<at::ScalarType>& frozen_dtypes, ProcessGroup& group, BufferPool& pool,
                     const ShardUnitOptions& options)
    : name_(std::move(name)), group_(&group), pool_(&pool), options_(options) {
  std::vector<std::pair<Kind, std::vector<Parameter*>>> kinds;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Kind kind = kind_of(*parameters[i], frozen_dtypes[i]);
    auto found = std::find_if(kinds.begin(), kinds.end(), [&](const auto& entry) { return entry.first == kind; });
    if (found == kinds.end()) found = kinds.insert(kinds.end(), {kind, {}});
    found->second.push_back(parameters[i]);
  }
  for (auto& [kind, members] : kinds) {
    const bool mapped = options.map_frozen && kind.storage != Storage::trainable;
    FlatRange range{.storage = kind.storage,
                    .owned_dtype = kind.dtype,
                    .gather_dtype = kind.storage == Storage::trainable ? options.param_dtype : kind.dtype,
                    .atom_elements = kind.record,
                    .layout = ShardLayout(members, alignment(kind.storage), mapped ? 1 : group.size()),
                    .mapped = mapped};
    const int64_t mine = range.layout.per_rank() * kind.record;
    std::optional<MadeFor> made_for(memory_kind(kind.storage));
    if (mapped) {
      if (options.imagined) range.owned = options.imagined->make(ImaginedMemory::Place::map, mine, kind.dtype);
    } else if (options.pages && kind.storage == Storage::trainable) {
      range.owned = options.pages->zeros(mine, kind.dtype);
    } else if (options.home) {
      range.owned = options.home->zeros(mine, kind.dtype);
    } else {
      const bool part_of_whole = keeps_whole() && range.owned_dtype == range.gather_dtype;
      const at::Tensor made = at::zeros({part_of_whole ? mine * group.size() : mine},
                                        at::TensorOptions(kind.dtype).device(options.device->where()));
      range.owned = part_of_whole ? made.narrow(0, mine * group.rank(), mine) : made;
      if (part_of_whole) range.whole = made;
    }
    if (kind.storage == Storage::trainable) {
      made_for.emplace(MemoryKind::gradients);
      // On the device not touched: it goes back at once.
      const int64_t count = range.layout.per_rank();
      grad_ = options.home ? options.home->zeros(count, at::kFloat)
                           : at::empty({count}, at::TensorOptions(at::kFloat).device(options.device->where()));
      grad_filled_.assign(members.size(), 0);
      late_filled_.assign(members.size(), 0);
      grad_held_ = true;
    }
    attach(range);
    ranges_.push_back(std::move(range));
  }
  zero_grad();
}

void ShardUnit::attach(FlatRange& range) {
  // Pages of this allocation are never touched: the storage is emptied at once and keeps only its size.
  range.flat = at::empty({range.layout.total() * range.atom_elements},
                         at::TensorOptions(range.gather_dtype).device(options_.device->where()));
  for (size_t i = 0; i < range.layout.parameters().size(); ++i) {
    Parameter& parameter = *range.layout.parameters()[i];
    const int64_t atoms = ShardLayout::atoms(parameter);
    const at::Tensor part =
        range.flat.narrow(0, range.layout.begin(i) * range.atom_elements, atoms * range.atom_elements);
    if (range.storage == Storage::nf4) {
      parameter.value = part.view({atoms, range.atom_elements}).detach();
    } else {
      parameter.value = part.view(parameter.shape).detach().requires_grad_(range.storage == Storage::trainable);
    }
  }
  point(range, nullptr);
}

void ShardUnit::point(FlatRange& range, void* data) {
  // No deleter: the memory belongs to the pool or to `owned`.
  range.flat.storage().set_data_ptr_noswap(at::DataPtr(
      data, nullptr, [](void*) {}, options_.device->where()));
}

FlatRange* ShardUnit::trainable() {
  for (FlatRange& range : ranges_)
    if (range.storage == Storage::trainable) return &range;
  return nullptr;
}

// Pads between parameters are zeroed here: no gradient fills them.
void ShardUnit::hold_grad() {
  if (grad_held_) return;
  const MadeFor made_for(MemoryKind::gradients);
  c10::Storage storage = grad_.storage();
  storage.set_data_ptr_noswap(options_.home ? options_.home->allocate(storage.nbytes())
                                            : storage.allocator()->allocate(storage.nbytes()));
  grad_held_ = true;
  if (group_->size() > 1) return;  // filled as a whole
  const ShardLayout& layout = trainable()->layout;
  for (size_t i = 0; i < layout.parameters().size(); ++i) {
    const int64_t end = layout.begin(i) + layout.parameters()[i]->numel();
    const int64_t next = i + 1 < layout.parameters().size() ? layout.begin(i + 1) : grad_.numel();
    grad_.narrow(0, end, next - end).zero_();
  }
}

at::Tensor ShardUnit::grad() {
  if (!grad_.defined()) return grad_;
  FT_CHECK(lent_.empty(), name_ + ": a tied parameter's owner was not reached by the backward");
  FT_CHECK(!late_.defined(), name_ + ": its gradients are not reduced yet");
  hold_grad();
  const ShardLayout& layout = trainable()->layout;
  const bool none = std::find(grad_filled_.begin(), grad_filled_.end(), 1) == grad_filled_.end();
  if (none) grad_.zero_();
  for (size_t i = 0; i < grad_filled_.size(); ++i) {
    if (!none && !grad_filled_[i]) grad_.narrow(0, layout.begin(i), layout.parameters()[i]->numel()).zero_();
    grad_filled_[i] = 1;
  }
  return grad_;
}

void ShardUnit::zero_grad() {
  if (!grad_.defined()) return;
  std::fill(grad_filled_.begin(), grad_filled_.end(), 0);
  std::fill(late_filled_.begin(), late_filled_.end(), 0);
  late_.reset();
  lent_.clear();
  const bool keep = options_.home && options_.home->pins();  // locking pages anew costs as much as filling them
  if (keep || !grad_held_) return;
  grad_.storage().set_data_ptr_noswap(at::DataPtr(nullptr, grad_.device()));
  grad_held_ = false;
}

void ShardUnit::accumulate(size_t parameter, const at::Tensor& grad) {
  const MadeFor made_for(MemoryKind::gradients);
  const bool late = group_->size() > 1;
  const ShardLayout& layout = trainable()->layout;
  if (!late) hold_grad();
  if (late && !late_.defined())
    late_ = at::empty({layout.total()}, at::TensorOptions(at::kFloat).device(options_.device->where()));
  const at::Tensor into = (late ? late_ : grad_).narrow(0, layout.begin(parameter), grad.numel());
  OffloadHome* home = late ? nullptr : options_.home;
  char& filled = (late ? late_filled_ : grad_filled_)[parameter];
  filled ? add_to(into, grad, home) : set_to(into, grad, home);
  filled = 1;
}

void ShardUnit::lend_grad(const Parameter& parameter, const at::Tensor& grad) {
  const auto& own = trainable()->layout.parameters();
  const auto found = static_cast<size_t>(std::find(own.begin(), own.end(), &parameter) - own.begin());
  FT_CHECK(found < own.size(), name_ + ": lent the gradient of a parameter that is not its own");
  if (adds_locally()) return accumulate(found, grad);
  lent_.emplace_back(found, grad);
}

// Fills the own part of a gathered range.
void ShardUnit::fetch(const at::Tensor& into, const FlatRange& range) {
  options_.home ? options_.home->to_device(into, range.owned) : static_cast<void>(into.copy_(range.owned));
}

// Runs what a gather copies and sends on the queue of copies, behind all that stands in the compute queue now: the last
// use of a buffer that is taken again, and the update of what is copied.
template <class Action>
void ShardUnit::beside_compute(const Action& action) {
  ComputeDevice& device = *options_.device;
  const Mark now = device.mark();
  const auto queue = device.enter(ComputeDevice::Queue::copies);
  device.wait(now);
  action();
  fetched_ = device.mark();
}

void ShardUnit::await_gathers() {
  for (Pending& pending : gathers_) pending.wait();
  gathers_.clear();
  if (!fetched_) return;
  options_.device->wait(std::exchange(fetched_, nullptr));
  for (FlatRange& range : ranges_) range.kept = {};
}

void ShardUnit::start_gather() {
  if (users_ == 0 && before_gather_) std::exchange(before_gather_, nullptr)();
  if (users_++ > 0) return;
  const MadeFor made_for(MemoryKind::gathered);
  for (FlatRange& range : ranges_) {
    if (range.mapped) {
      gather_mapped(range);
    } else if (group_->size() == 1) {
      // Not from the pool, which would keep what a backward has done with from the gradients that come next.
      if (options_.home) {
        range.alone =
            at::empty(range.owned.sizes(), at::TensorOptions(range.gather_dtype).device(options_.device->where()));
        beside_compute([&] { fetch(range.alone, range); });
      } else {
        range.alone = range.owned.to(range.gather_dtype);
      }
      point(range, range.alone.data_ptr());
    } else if (options_.keep_whole) {
      gather_whole(range);
    } else if (range.kept) {
      gather_from_neighbours(range);
    } else {
      gather(range);
    }
  }
}

// A CPU computes on the file's pages; a GPU gets a copy of them, by which no rank waits for another.
void ShardUnit::gather_mapped(FlatRange& range) {
  if (range.map) range.map->read_ahead();
  if (options_.device->is_cpu() || (options_.imagined && !ImaginedMemory::gpu()))
    return point(range, range.owned.data_ptr());
  range.alone = at::empty(range.owned.sizes(), at::TensorOptions(range.gather_dtype).device(options_.device->where()));
  beside_compute([&] { range.alone.copy_(range.owned, /*non_blocking=*/true); });
  point(range, range.alone.data_ptr());
}

void ShardUnit::gather(FlatRange& range) {
  const int64_t elements = range.flat.numel(), mine = range.owned.numel();
  range.buffer = pool_->take(elements * static_cast<int64_t>(c10::elementSize(range.gather_dtype)));
  const at::Tensor whole = range.buffer.view(elements, range.gather_dtype);
  const at::Tensor own = whole.narrow(0, group_->rank() * mine, mine);
  point(range, range.buffer.data());
  beside_compute([&] {
    fetch(own, range);
    gathers_.push_back(group_->all_gather_into(whole, own));
  });
}

// Not from the pool: nothing else could use what is never given back.
void ShardUnit::gather_whole(FlatRange& range) {
  const MadeFor made_for(MemoryKind::whole);
  const int64_t mine = range.owned.numel();
  if (!range.whole.defined()) range.whole = at::empty({range.flat.numel()}, range.flat.options());
  point(range, range.whole.data_ptr());
  if (range.whole_is_new) return;
  const at::Tensor own = range.whole.narrow(0, group_->rank() * mine, mine);
  beside_compute([&] {
    if (own.const_data_ptr() != range.owned.const_data_ptr()) fetch(own, range);
    gathers_.push_back(group_->all_gather_into(range.whole, own));
  });
  range.whole_is_new = true;
}

void ShardUnit::gather_from_neighbours(FlatRange& range) {
  ProcessGroup& neighbours = *options_.neighbours;
  const int64_t elements = range.flat.numel(), part = elements / neighbours.size();
  range.buffer = pool_->take(elements * static_cast<int64_t>(c10::elementSize(range.gather_dtype)));
  const at::Tensor whole = range.buffer.view(elements, range.gather_dtype);
  const at::Tensor own = whole.narrow(0, neighbours.rank() * part, part);
  point(range, range.buffer.data());
  beside_compute([&] {
    own.copy_(range.kept.view(part, range.gather_dtype));
    gathers_.push_back(neighbours.all_gather_into(whole, own));
  });
  if (!fetched_) range.kept = {};  // else still being read
}

void ShardUnit::finish_gather(double& waited) {
  FT_CHECK(users_ > 0, name_ + ": finish_gather without start_gather");
  const Stopwatch watch(waited);
  await_gathers();
  for (FlatRange& range : ranges_)
    if (range.map) range.map->check();
}

void ShardUnit::release() {
  FT_CHECK(users_ > 0, name_ + ": released more often than gathered");
  if (--users_ > 0) return;
  await_gathers();  // a prefetch that nobody used: its buffer must not be reused yet
  for (FlatRange& range : ranges_) {
    point(range, nullptr);
    range.buffer = {};
    range.kept = {};
    range.alone.reset();
  }
}

void ShardUnit::release_to_neighbours() {
  if (users_ > 1 || !options_.neighbours || group_->size() == 1 || options_.keep_whole) return release();
  double waited = 0;
  finish_gather(waited);  // a prefetch that nobody used
  const MadeFor made_for(MemoryKind::gathered);
  std::vector<BufferPool::Buffer> parts;
  for (FlatRange& range : ranges_) {
    if (range.mapped) {
      parts.emplace_back();  // is kept by nobody
      continue;
    }
    const int64_t part = range.flat.numel() / options_.neighbours->size();
    const at::Tensor whole = range.buffer.view(range.flat.numel(), range.gather_dtype);
    parts.push_back(pool_->take(part * static_cast<int64_t>(c10::elementSize(range.gather_dtype))));
    parts.back().view(part, range.gather_dtype).copy_(whole.narrow(0, options_.neighbours->rank() * part, part));
  }
  release();
  for (size_t i = 0; i < ranges_.size(); ++i) ranges_[i].kept = std::move(parts[i]);
}

void ShardUnit::masters_changed() {
  if (FlatRange* range = trainable()) range->whole_is_new = false;
}

void ShardUnit::start_reduce(const std::vector<at::Tensor>& grads) {
  FlatRange* range = trainable();
  FT_CHECK(range && !reduction_, name_ + ": reduce without a trainable range, or one on its way");
  const auto& parameters = range->layout.parameters();
  FT_CHECK(grads.size() == parameters.size(), name_ + ": a gradient for each trainable parameter");
  if (adds_locally()) {
    for (size_t i = 0; i < grads.size(); ++i)
      if (grads[i].defined()) accumulate(i, grads[i]);
    return;
  }
  const MadeFor made_for(MemoryKind::buffers);
  reduce_whole_ = pool_->take(range->layout.total() * static_cast<int64_t>(sizeof(float)));
  reduce_own_ = pool_->take(range->layout.per_rank() * static_cast<int64_t>(sizeof(float)));
  const at::Tensor whole = reduce_whole_.view(range->layout.total(), at::kFloat);
  gather_grads(whole, grads);
  reduction_ = group_->reduce_scatter_sum(reduce_own_.view(range->layout.per_rank(), at::kFloat), whole);
}

void ShardUnit::gather_grads(const at::Tensor& whole, const std::vector<at::Tensor>& grads) {
  const ShardLayout& layout = trainable()->layout;
  int64_t filled = 0;
  const auto zero_until = [&](int64_t end) {
    if (end > filled) whole.narrow(0, filled, end - filled).zero_();
    filled = std::max(filled, end);
  };
  for (size_t i = 0; i < grads.size(); ++i) {
    const int64_t begin = layout.begin(i), count = layout.parameters()[i]->numel();
    const at::Tensor into = whole.narrow(0, begin, count);
    for (const auto& [parameter, grad] : lent_) {
      if (parameter != i) continue;
      zero_until(begin);
      filled > begin ? add_to(into, grad) : set_to(into, grad);
      filled = begin + count;
    }
    if (!grads[i].defined()) continue;
    zero_until(begin);
    filled > begin ? add_to(into, grads[i]) : set_to(into, grads[i]);
    filled = begin + count;
  }
  zero_until(layout.total());
  lent_.clear();
}

void ShardUnit::start_late_reduce() {
  FlatRange* range = trainable();
  if (!range || group_->size() == 1 || !options_.reduce_late) return;
  FT_CHECK(!reduction_, name_ + ": reduce with one on its way");
  const ShardLayout& layout = range->layout;
  const MadeFor made_for(MemoryKind::gradients);
  // On every rank, whether gradients came or not: the others wait for it.
  if (!late_.defined())
    late_ = at::empty({layout.total()}, at::TensorOptions(at::kFloat).device(options_.device->where()));
  int64_t filled = 0;
  for (size_t i = 0; i < late_filled_.size(); ++i) {
    if (!late_filled_[i]) continue;
    late_.narrow(0, filled, layout.begin(i) - filled).zero_();
    filled = layout.begin(i) + layout.parameters()[i]->numel();
  }
  late_.narrow(0, filled, layout.total() - filled).zero_();
  reduce_own_ = pool_->take(layout.per_rank() * static_cast<int64_t>(sizeof(float)));
  reduction_ = group_->reduce_scatter_sum(reduce_own_.view(layout.per_rank(), at::kFloat), late_);
}

void ShardUnit::finish_reduce(double& waited) {
  if (!reduction_) return;
  {
    const Stopwatch watch(waited);
    reduction_->wait();
  }
  reduction_.reset();
  const at::Tensor own = reduce_own_.view(grad_.numel(), at::kFloat);
  hold_grad();
  grad_filled_[0] ? add_to(grad_, own, options_.home) : set_to(grad_, own, options_.home);
  std::fill(grad_filled_.begin(), grad_filled_.end(), 1);
  std::fill(late_filled_.begin(), late_filled_.end(), 0);
  late_.reset();
  reduce_whole_ = {};
  reduce_own_ = {};
}

}  // namespace ft
