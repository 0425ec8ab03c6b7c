#pragma once
/// Which rank owns which part of every parameter, for the optimizers that look at whole matrices. Made once, with the
/// optimizer; afterwards plain numbers, the same on every rank.

#include <cstdint>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/parallel/process_group.h"

namespace ft {

class PieceMap {
 public:
  struct Part {
    int rank = 0;
    int64_t begin = 0, count = 0;
  };

  /// Collective.   @param group null: one rank alone.
  PieceMap(const std::vector<OptimizerPiece>& pieces, ProcessGroup* group);

  /// The parts of a parameter that are not empty, in rank order.   @param index among the pieces
  const std::vector<Part>& parts(size_t index) const { return parts_[index]; }
  bool cut(size_t index) const { return parts_[index].size() > 1; }  ///< several ranks own parts of it

 private:
  std::vector<std::vector<Part>> parts_;
};

}  // namespace ft
