#pragma once
/// A model laid out over the ranks: the module tree, its shard units, the buffers they share and the schedule that
/// walks them. Training (run.h) and inference (the commands generate and eval) both stand on it.
///
/// The state of a unit is split over one group of ranks (split_group) and stands alike on several such groups
/// (replicas). Rank rule: construction, load and reduce_gradients are collective.

#include <functional>
#include <memory>
#include <vector>

#include "engine/layers/model.h"
#include "engine/parallel/compute_device.h"
#include "engine/parallel/mesh.h"
#include "engine/parallel/policy.h"
#include "engine/train/loftq.h"
#include "engine/train/schedule.h"
#include "engine/train/tensor_sums.h"
#include "engine/train/weight_cache.h"
#include "engine/train/weights.h"

namespace ft {

class ImaginedMemory;

/// Counts of parameters, over all ranks.
struct ParameterCounts {
  int64_t trainable = 0, all = 0;
};

/// Bytes a rank holds, by kind.
struct ShardBytes {
  int64_t master = 0, gradient = 0, frozen = 0, nf4 = 0, pool = 0;
  int64_t mapped = 0;  ///< of frozen weights in a file map: pages that all ranks of a machine share
  int64_t whole = 0;   ///< of parameters kept whole: what other ranks own, and copies in another dtype
};

class ShardedModel {
 public:
  /// Lays the plan's model out; allocates this rank's ranges and reads nothing.
  /// @param plan keys model, adapter, parallel, activation_checkpointing (docs/architecture.md, "The resolved plan").
  /// @throws Error(config) for a description, adapter or compute dtype that cannot be had.
  /// @param imagined for `ftengine plan`: nothing is allocated, only counted; outlives the model. Null in a run.
  ShardedModel(const Value& plan, const WeightSource& source, std::shared_ptr<ProcessGroup> world,
               ImaginedMemory* imagined = nullptr);
  ShardedModel(const ShardedModel&) = delete;

  /// Streams this rank's ranges in, and makes what begins as a function of them. @param progress is told the bytes
  /// read.
  /// @param begun as begin_by_loftq's, where LoRA begins so
  void load(const WeightSource& source, const std::function<void(int64_t)>& progress,
            const std::function<void(int64_t bytes, int64_t all)>& begun = {});
  int64_t bytes_to_read(const WeightSource& source);
  /// How load came to the file map of frozen weights; nothing without one.
  const std::optional<WeightCacheReport>& weight_cache() const { return weight_cache_; }

  /// What LoftQ has begun; of no linears without it, and where the run goes on from an adapter or a checkpoint.
  const LoftqReport& loftq() const { return loftq_; }

  Model& model() { return *model_; }
  Schedule& schedule() { return *schedule_; }
  std::vector<std::unique_ptr<ShardUnit>>& shards() { return shards_; }
  /// All ranks.
  ProcessGroup& group() { return mesh_.world(); }
  Mesh& mesh() { return mesh_; }
  const Policy& policy() const { return policy_; }
  /// The ranks over which masters and optimizer state are split.
  ProcessGroup& split_group() { return *split_; }
  /// The ranks that own the same part as this one. Rank 0 of them saves it.
  ProcessGroup& replicas() { return *replicas_; }
  /// All ranks that together hold each unit's whole tensors once: split_group, and the tensor groups of its ranks.
  ProcessGroup& holders() { return *holders_; }
  /// What forwards are told of the ranks that hold the other tokens of this rank's rows.
  const ContextAxis& context_axis() const { return context_axis_; }
  /// Makes the gradients those of all ranks, after the last micro batch of a step; done once, however often it is
  /// called before the next zero_gradients. Collective.
  void reduce_gradients();
  /// Whom to tell of each shard as its gradients become those of all ranks: in the step's last backward, which comes
  /// next, where no more is owed than what it reduces, else in reduce_gradients. Holds until the gradients are.
  void when_reduced(std::function<void(size_t shard)> tell);
  /// The step's gradients are used: the next reduce_gradients is another step's.
  void next_gradients();
  /// After an update: parameters that are kept whole are gathered anew at their next use.
  void masters_changed();
  /// Gradients begin anew: after an update, or a step that is skipped.
  void zero_gradients();
  DType compute() const { return compute_; }
  /// Where masters, gradients and frozen weights live while they are offloaded; null without parallel.offload_params.
  OffloadHome* home() { return home_.get(); }
  /// Where the optimizer's state is to be made: paged where the plan says so, else with the parameters (may be null).
  OffloadHome* state_home() { return pages_ ? pages_.get() : home_.get(); }
  /// Where inputs of checkpointed layers lie until their backward; null without activation_offload.
  OffloadHome* activation_home() { return activation_home_.get(); }
  bool pages_state() const { return pages_ != nullptr; }
  /// What this rank computes on.
  const std::shared_ptr<ComputeDevice>& device() const { return device_; }
  /// What each rank computes on, by rank: "cpu", "cuda:0 NVIDIA H200".
  const std::vector<std::string>& devices() const { return devices_; }
  ParameterCounts counts();
  ShardBytes bytes();
  /// Names of the parameters that are stored as NF4.
  std::vector<std::string> quantized();

 private:
  void add_up_replicas(const std::function<void(size_t)>& tell);

  std::vector<std::string> devices_;
  std::shared_ptr<ComputeDevice> device_;
  Mesh mesh_;
  Policy policy_;
  std::shared_ptr<ProcessGroup> split_, replicas_, neighbours_;
  ContextAxis context_axis_;
  bool reduced_ = false;  // gradients are those of all ranks
  std::function<void(size_t shard)> tell_;
  DType compute_ = DType::f32;
  LoraOptions lora_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<OffloadHome> home_;             // null: ranges live where they compute
  std::unique_ptr<OffloadHome> pages_;            // null: the optimizer's state lives with the parameters
  std::unique_ptr<OffloadHome> activation_home_;  // null: inputs of checkpointed layers stay where they compute
  BufferPool pool_;
  std::vector<std::unique_ptr<ShardUnit>> shards_;
  std::unique_ptr<Schedule> schedule_;
  std::shared_ptr<ProcessGroup> holders_;
  std::unique_ptr<TensorSums> tensor_sums_;
  std::optional<std::filesystem::path> cache_directory_;  // of frozen weights in a file map
  std::optional<WeightCacheReport> weight_cache_;
  LoftqReport loftq_;
};

/// Reads a plan's adapter table; nothing for full fine-tuning.
std::optional<LoraOptions> lora_options(const Value& plan);

/// A plan's patterns of parameters that full fine-tuning trains; empty: all.
std::vector<std::string> unfrozen_parameters(const Value& plan);

/// Of a plan's layers every n-th is run again in the backward: 0 none, 1 every one.
int64_t checkpoint_every(const Value& plan);

/// The compute dtype a plan asks for; "auto" takes the one that is fast on rank 0's processor, for every rank, and bf16
/// on GPUs. Collective.
DType compute_dtype(const Value& plan, ProcessGroup& group, const ComputeDevice& device);

}  // namespace ft
