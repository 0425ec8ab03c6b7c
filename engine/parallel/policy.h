#pragma once
/// The one table of data-parallel layouts: what of a unit's state is split over the ranks, when its gradients are
/// reduced, and what is kept between forward and backward. Read from a plan by ShardedModel; ShardUnit and the schedule
/// follow its columns and know no layout by name. Pure values.
///
/// | zero_stage | parameters | gradients | masters, optimizer state | known as |
/// |---|---|---|---|---|
/// | 0 | whole | summed over all ranks at the end of the step | whole | DDP |
/// | 1 | whole | whole; reduced to their owners at the end of the step | split | ZeRO-1 |
/// | 2 | whole | split: reduced to their owners as each unit's backward ends | split | ZeRO-2 |
/// | 3 | split | split, as 2 | split | ZeRO-3, FSDP2; with mesh.replicate above 1 HSDP |
///
/// Whole parameters that have split masters are gathered anew after each update, in the parameter dtype. Along
/// mesh.replicate everything stands alike, and gradients are summed at the end of the step.

#include <string>
#include <vector>

#include "engine/parallel/mesh.h"
#include "engine/schema/value.h"

namespace ft {

struct Policy {
  bool split_state = true;       ///< masters and optimizer state, over shard × context; else whole on every rank
  bool split_gradients = true;   ///< reduced to their owners by unit, as the backward goes; else once a step
  bool split_parameters = true;  ///< released after use; else kept from step to step
  /// Split parameters between forward and backward: 1: kept whole; 0: released; else kept split over so many
  /// neighbours, and gathered again from those.
  int kept_over = 0;

  /// Reads zero_stage and reshard_after_forward (true, false, or a number of ranks, PyTorch's fully_shard) of a plan's
  /// `parallel` block.
  /// @throws Error(config) for a stage that there is not, or a number that does not divide shard × context.
  static Policy from_plan(const Value& parallel, const MeshShape& mesh);

  /// The axes over which state is split; it stands alike along the others of replicate, shard and context.
  std::vector<Axis> split_axes() const;
  std::vector<Axis> replica_axes() const;
  /// "parameters, gradients and optimizer state split over 4 ranks, resharded after forward".
  std::string text(const MeshShape& mesh) const;
};

}  // namespace ft
