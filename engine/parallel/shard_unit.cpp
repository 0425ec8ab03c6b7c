#include "engine/parallel/shard_unit.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>

#include "engine/error/error.h"
#include "engine/quant/nf4.h"

namespace ft {
namespace {

constexpr int64_t kTrainableAlignment = 256;  // a block of the 8-bit optimizer's state
constexpr int64_t kFrozenAlignment = 64;      // 128 bytes of bf16: whole cache lines on every rank

class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point start_;
};

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
    home ? home->add_at_home(into, flat) : static_cast<void>(into.add_(flat));
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

int64_t alignment(Storage storage) {
  return storage == Storage::trainable ? kTrainableAlignment : storage == Storage::frozen ? kFrozenAlignment : 1;
}

}  // namespace

at::Tensor FlatRange::piece(const ShardPiece& p) const {
  return owned.narrow(0, p.local_begin * atom_elements, p.count * atom_elements);
}

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
    FlatRange range{.storage = kind.storage,
                    .owned_dtype = kind.dtype,
                    .gather_dtype = kind.storage == Storage::trainable ? options.param_dtype : kind.dtype,
                    .atom_elements = kind.record,
                    .layout = ShardLayout(members, alignment(kind.storage), group.size())};
    const int64_t elements = range.layout.per_rank() * kind.record;
    range.owned = options.home ? options.home->zeros(elements, kind.dtype)
                               : at::zeros({elements}, at::TensorOptions(kind.dtype).device(options.device));
    if (kind.storage == Storage::trainable) {
      // On the device not touched: it goes back at once.
      const int64_t count = range.layout.per_rank();
      grad_ = options.home ? options.home->zeros(count, at::kFloat)
                           : at::empty({count}, at::TensorOptions(at::kFloat).device(options.device));
      grad_filled_.assign(members.size(), 0);
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
                         at::TensorOptions(range.gather_dtype).device(options_.device));
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
      data, nullptr, [](void*) {}, options_.device));
}

FlatRange* ShardUnit::trainable() {
  for (FlatRange& range : ranges_)
    if (range.storage == Storage::trainable) return &range;
  return nullptr;
}

// Pads between parameters are zeroed here: no gradient fills them.
void ShardUnit::hold_grad() {
  if (grad_held_) return;
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
  lent_.clear();
  const bool keep = options_.home && options_.home->pins();  // locking pages anew costs as much as filling them
  if (keep || !grad_held_) return;
  grad_.storage().set_data_ptr_noswap(at::DataPtr(nullptr, grad_.device()));
  grad_held_ = false;
}

void ShardUnit::accumulate(size_t parameter, const at::Tensor& grad) {
  hold_grad();
  const at::Tensor into = grad_.narrow(0, trainable()->layout.begin(parameter), grad.numel());
  grad_filled_[parameter] ? add_to(into, grad, options_.home) : set_to(into, grad, options_.home);
  grad_filled_[parameter] = 1;
}

void ShardUnit::lend_grad(const Parameter& parameter, const at::Tensor& grad) {
  const auto& own = trainable()->layout.parameters();
  const auto found = static_cast<size_t>(std::find(own.begin(), own.end(), &parameter) - own.begin());
  FT_CHECK(found < own.size(), name_ + ": lent the gradient of a parameter that is not its own");
  if (group_->size() == 1) return accumulate(found, grad);
  lent_.emplace_back(found, grad);
}

// Fills the own part of a gathered range.
void ShardUnit::fetch(const at::Tensor& into, const FlatRange& range) {
  options_.home ? options_.home->to_device(into, range.owned) : static_cast<void>(into.copy_(range.owned));
}

void ShardUnit::start_gather() {
  if (users_++ > 0) return;
  for (FlatRange& range : ranges_) {
    if (group_->size() == 1) {
      // Not from the pool, which would keep what a backward has done with from the gradients that come next.
      if (options_.home) {
        range.alone = at::empty(range.owned.sizes(), at::TensorOptions(range.gather_dtype).device(options_.device));
        fetch(range.alone, range);
      } else {
        range.alone = range.owned.to(range.gather_dtype);
      }
      point(range, range.alone.data_ptr());
      continue;
    }
    const int64_t elements = range.layout.total() * range.atom_elements;
    const int64_t mine = range.layout.per_rank() * range.atom_elements;
    range.buffer = pool_->take(elements * static_cast<int64_t>(c10::elementSize(range.gather_dtype)));
    const at::Tensor whole = range.buffer.view(elements, range.gather_dtype);
    const at::Tensor own = whole.narrow(0, group_->rank() * mine, mine);
    fetch(own, range);
    point(range, range.buffer.data());
    gathers_.push_back(group_->all_gather_into(whole, own));
  }
}

void ShardUnit::finish_gather(double& waited) {
  FT_CHECK(users_ > 0, name_ + ": finish_gather without start_gather");
  const Stopwatch watch(waited);
  for (Pending& pending : gathers_) pending.wait();
  gathers_.clear();
}

void ShardUnit::release() {
  FT_CHECK(users_ > 0, name_ + ": released more often than gathered");
  if (--users_ > 0) return;
  for (Pending& pending : gathers_) pending.wait();  // a prefetch that nobody used: its buffer must not be reused yet
  gathers_.clear();
  for (FlatRange& range : ranges_) {
    point(range, nullptr);
    range.buffer = {};
    range.alone.reset();
  }
}

void ShardUnit::start_reduce(const std::vector<at::Tensor>& grads) {
  FlatRange* range = trainable();
  FT_CHECK(range && !reduction_, name_ + ": reduce without a trainable range, or one on its way");
  const auto& parameters = range->layout.parameters();
  FT_CHECK(grads.size() == parameters.size(), name_ + ": a gradient for each trainable parameter");
  if (group_->size() == 1) {
    for (size_t i = 0; i < grads.size(); ++i)
      if (grads[i].defined()) accumulate(i, grads[i]);
    return;
  }
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
  reduce_whole_ = {};
  reduce_own_ = {};
}

}  // namespace ft
