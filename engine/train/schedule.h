#pragma once
/// The schedule: one loop over a model's units, forward and then backward, that says for each one when it is gathered,
/// run, released and reduced. Every unit keeps an autograd graph of its own, from its input and parameters to its
/// output, so activation checkpointing is "run it again before the backward". Rank rule: train and forward are
/// collective. Thread rule: one thread.

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "engine/layers/model.h"
#include "engine/parallel/shard_unit.h"

namespace ft {

struct ScheduleOptions {
  int64_t checkpoint_every = 0;  ///< activation checkpointing of every n-th unit that it applies to; 0: of none
  /// Where inputs of checkpointed units lie until their backward; null: where they compute. Outlives the schedule.
  OffloadHome* activation_home = nullptr;
  /// true: parameters are gathered again for the backward (ZeRO-3); false: kept from the forward on.
  bool reshard_after_forward = true;
  bool prefetch = true;  ///< gather the next unit while this one runs
  /// Units that the head borrows stay gathered until its backward: on one rank, where nothing but a cast would be
  /// saved.
  bool keep_lent = false;
  /// By unit: the shard that its parameters lie in. Units of one shard follow each other, and are gathered, released
  /// and reduced together. Empty: each unit has its own.
  std::vector<size_t> shard_of{};
  /// The ranks whose tokens the auxiliary loss of experts is made over; null: this one alone.
  ProcessGroup* token_holders = nullptr;
};

/// Seconds that the schedule stood waiting, since the last reset.
struct Waits {
  double gather = 0, reduce = 0;
};

class Schedule {
 public:
  /// @param shards in the order of the units whose parameters they hold; model and shards outlive the schedule.
  Schedule(Model& model, std::vector<std::unique_ptr<ShardUnit>>& shards, const ScheduleOptions& options);

  using OutputGrad = std::function<at::Tensor(const at::Tensor& output)>;
  /// Forward and backward of one micro batch: adds Σ over ranks of the gradients of this loss to the owners' ranges.
  /// @param tokens [B, T] int64.   @return the head's loss on this rank (context.loss_scale · Σ nll), with the
  /// auxiliary loss of experts; 0 with grad_of.
  /// @param grad_of makes the gradient of the head's output from it, where that is no loss (context.log_probs).
  double train(const at::Tensor& tokens, const Context& context, const OutputGrad& grad_of = {});
  /// Is shown a unit's output as soon as it is there.
  using Observer = std::function<void(size_t unit, const at::Tensor& output)>;
  /// Forward alone, without a graph. @return the head's loss, or logits when the context has no targets.
  at::Tensor forward(const at::Tensor& tokens, const Context& context, const Observer& observe = {});
  /// The unit that was gathered last: where an exception comes from.
  size_t unit_at_work() const { return unit_at_work_; }

  Waits waits;
  /// Is told, in a backward, of each shard whose gradients have been reduced: nothing of this backward reads its
  /// parameters any more. Empty: nobody is.
  std::function<void(size_t shard)> reduced;

 private:
  struct Ran {
    at::Tensor input, output;
    std::vector<int64_t> shape{};  // of an input that lies away; else empty
  };
  bool has_graph(size_t unit) const;
  void keep_input(size_t unit, const at::Tensor& input, Ran& ran);
  at::Tensor kept_input(size_t unit, const Ran& ran);
  bool gathers_again(size_t unit) const;  ///< for its backward
  ShardUnit& shard(size_t unit) const { return *(*shards_)[options_.shard_of[unit]]; }
  bool gathers_early(size_t unit, size_t neighbour) const;  ///< while its neighbour runs
  bool reduces(size_t unit) const;                          ///< as the last of its shard that the backward comes to
  void hand_over(size_t unit, const std::vector<Parameter*>& own, const std::vector<at::Tensor>& grads);
  void finish_reduce(size_t unit);
  void start_gather(size_t unit);
  void finish_gather(size_t unit);
  void release(size_t unit, bool until_backward = false);
  at::Tensor auxiliary_loss(const Context& context) const;
  void walk_forward(const at::Tensor& tokens, const Context& context, std::vector<Ran>& ran);
  Ran run_with_graph(size_t unit, const at::Tensor& input, const Context& context);
  at::Tensor backward_unit(size_t unit, const Ran& ran, const at::Tensor& grad_output);

  Model* model_;
  std::vector<std::unique_ptr<ShardUnit>>* shards_;
  ScheduleOptions options_;
  std::vector<char> checkpointed_;  // by unit
  std::vector<at::Tensor> away_;    // by unit: its input, where activations are offloaded
  size_t unit_at_work_ = 0;
  size_t first_trained_ = 0;  // the units before it are a frozen prefix: no graph, no backward
};

}  // namespace ft
