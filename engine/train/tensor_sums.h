#pragma once
/// What the ranks of a tensor group owe each other once a step: gradients of what several of them hold alike (norms,
/// the side of LoRA that is not cut, key-value heads that ranks share) are sums over those, since each has seen only
/// its tokens or heads. Owned by the sharded model. Rank rule: construction and add_up are collective over the group.

#include <map>
#include <memory>
#include <vector>

#include "engine/layers/model.h"
#include "engine/parallel/process_group.h"
#include "engine/parallel/shard_unit.h"

namespace ft {

class TensorSums {
 public:
  /// @param tensor the tensor group; outlives this.
  TensorSums(Model& model, ProcessGroup& tensor);

  /// Makes the gradients of parameters with copies the sums over these, the same bits on each.
  /// @param rank among those that units are split over
  void add_up(std::vector<std::unique_ptr<ShardUnit>>& shards, int rank);

 private:
  std::map<int64_t, std::shared_ptr<ProcessGroup>> groups_;  // by copies, those above 1: the ranks with this one's
};

/// Σ of squares of a unit's own gradients, what n tensor ranks hold alike counted as an n-th: summed over all ranks and
/// divided by the replicas it counts each element of the model once. Not collective.
double squares_of_gradients(ShardUnit& unit, int rank);

}  // namespace ft
