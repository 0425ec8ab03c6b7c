#pragma once
/// One unit's parameters, sharded over the ranks of a process group: the rank's own ranges, the flat storage that
/// parameters are views of while the unit is gathered, and the gradients of the own range.
///
/// Gathering points the flat storage at a pool buffer and all-gathers straight into it; releasing takes the buffer
/// away. Autograd's saved tensors share the storage, so a graph made before a release works after the next gather
/// (StorageImpl::set_data_ptr_noswap; see also PyTorch's FSDP, which resizes storages for the same end).
///
/// What is kept between uses, and when gradients are reduced, are columns of a policy (policy.h): the options say them.
///
/// Rank rule: gather, reduce and their waits are collective and come in the same order on every rank.

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/parallel/buffer_pool.h"
#include "engine/parallel/compute_device.h"
#include "engine/parallel/flat_range.h"
#include "engine/parallel/offload_home.h"
#include "engine/parallel/process_group.h"
#include "engine/parallel/shard_layout.h"
#include "engine/tensor/dtype.h"

namespace ft {

class ImaginedMemory;

/// What the ranks of a unit share.
struct ShardUnitOptions {
  at::ScalarType param_dtype = at::kFloat;  ///< dtype in which trainable parameters are gathered and used
  std::shared_ptr<ComputeDevice> device = ComputeDevice::cpu();
  /// Where ranges and gradients live instead of on `device`; null: nowhere else. Outlives the unit. Gradients in
  /// page-locked memory keep it from step to step; else it is freed by zero_grad and taken again as gradients come,
  /// when activations have made room.
  OffloadHome* home = nullptr;
  /// Where the masters of what is trained live, whatever `home` says: with the optimizer's state in files. Null: as the
  /// rest. Outlives the unit.
  OffloadHome* pages = nullptr;
  /// Parameters stay whole on every rank once they are gathered; after masters_changed the trainable ones are gathered
  /// anew. What has the masters' dtype is held once, but where ranges live elsewhere: a rank owns a part of the whole.
  bool keep_whole = false;
  /// Gradients are kept whole, and reduced to their owners when start_late_reduce says so.
  bool reduce_late = false;
  /// Frozen ranges are not split: every rank sees them whole in a file map, which FlatRange::map_from brings.
  bool map_frozen = false;
  ImaginedMemory* imagined = nullptr;  ///< where maps are only counted; outlives the unit
  /// Over whom release_to_neighbours keeps parameters split: ranks of the group, of a number that divides it.
  ProcessGroup* neighbours = nullptr;
};

class ShardUnit {
 public:
  /// @param frozen_dtypes the stored dtype of each frozen parameter (parallel to `parameters`; others ignored).
  ShardUnit(std::string name, const std::vector<Parameter*>& parameters,
            const std::vector<at::ScalarType>& frozen_dtypes, ProcessGroup& group, BufferPool& pool,
            const ShardUnitOptions& options);
  ShardUnit(const ShardUnit&) = delete;

  const std::string& name() const { return name_; }
  std::vector<FlatRange>& ranges() { return ranges_; }
  /// The trainable range, or nullptr when everything in the unit is frozen.
  FlatRange* trainable();
  /// fp32 gradient of the own trainable range, [per_rank], beside it; zero after zero_grad. Undefined where nothing is
  /// trained.
  at::Tensor grad();
  /// The same tensor before its memory is there: to be viewed, not read. grad() brings the memory.
  at::Tensor grad_later() { return grad_; }
  void zero_grad();

  /// Starts to gather; returns at once. Counted: nested gathers of one unit share one collective.
  void start_gather();
  /// Makes the parameters' values valid. Seconds spent waiting are added to `waited`.
  void finish_gather(double& waited);
  /// Takes the buffers away when the last gather is released.
  void release();
  /// The same, and keeps a part, from which the next gather takes the parameters: every neighbour has one. A release
  /// drops it.
  void release_to_neighbours();
  /// Has the next gather call this first, once: what must be done before the parameters are read again. Empty: nothing.
  void before_gather(std::function<void()> first) { before_gather_ = std::move(first); }
  /// After an update: parameters that are kept whole are to be gathered anew.
  void masters_changed();
  bool gathered() const { return users_ > 0; }

  /// Starts to add the sum over ranks of full gradients to the owners' gradient ranges; returns at once.
  /// @param grads one a trainable parameter in layout order, [shape] in any float dtype; undefined counts as zero. Rows
  /// of a table may come sparse.
  void start_reduce(const std::vector<at::Tensor>& grads);
  /// A gradient of one of this unit's parameters that another unit's backward came to (tied weights), before
  /// start_reduce, which adds it.
  void lend_grad(const Parameter& parameter, const at::Tensor& grad);
  void finish_reduce(double& waited);
  bool reducing() const { return reduction_.has_value(); }  ///< from a start to its finish, on several ranks
  /// Starts to reduce gradients that are kept whole, after the last of a step; finish_reduce ends it. Nothing else
  /// does where they are not.
  void start_late_reduce();

 private:
  /// One rank, or gradients that are kept whole: they are added up where they come.
  bool adds_locally() const { return group_->size() == 1 || options_.reduce_late; }
  bool keeps_whole() const { return group_->size() > 1 && options_.keep_whole; }
  void attach(FlatRange& range);
  void gather(FlatRange& range);
  void gather_whole(FlatRange& range);
  void gather_from_neighbours(FlatRange& range);
  void gather_mapped(FlatRange& range);
  void point(FlatRange& range, void* data);
  void hold_grad();
  void fetch(const at::Tensor& into, const FlatRange& range);
  template <class Action>
  void beside_compute(const Action& action);
  void await_gathers();
  void accumulate(size_t parameter, const at::Tensor& grad);
  void gather_grads(const at::Tensor& whole, const std::vector<at::Tensor>& grads);

  std::string name_;
  ProcessGroup* group_;
  BufferPool* pool_;
  ShardUnitOptions options_;
  std::vector<FlatRange> ranges_;
  at::Tensor grad_;
  bool grad_held_ = false;         // grad_ has memory
  std::vector<char> grad_filled_;  // by trainable parameter: its part of grad_ holds a gradient, not yet nothing
  at::Tensor late_;                // gradients that are kept whole, [total] fp32, while there are any
  std::vector<char> late_filled_;
  std::vector<std::pair<size_t, at::Tensor>> lent_;
  int users_ = 0;
  std::function<void()> before_gather_;
  std::vector<Pending> gathers_;
  Mark fetched_;  // what a gather copies is there
  std::optional<Pending> reduction_;
  BufferPool::Buffer reduce_whole_, reduce_own_;
};

}  // namespace ft
