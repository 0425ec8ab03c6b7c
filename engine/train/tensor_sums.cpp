#include "engine/train/tensor_sums.h"

#include <ATen/ops/cat.h>

#include <numeric>

#include "engine/train/gradient_norm.h"

namespace ft {

TensorSums::TensorSums(Model& model, ProcessGroup& tensor) {
  if (tensor.size() == 1) return;
  for (const Parameter* p : model.parameters())
    if (p->storage == Storage::trainable && p->slice.copies > 1) groups_[p->slice.copies];
  for (auto& [copies, group] : groups_) {
    std::vector<int> ranks(static_cast<size_t>(copies));
    std::iota(ranks.begin(), ranks.end(), tensor.rank() / static_cast<int>(copies) * static_cast<int>(copies));
    group = copies == tensor.size() ? std::shared_ptr<ProcessGroup>(&tensor, [](ProcessGroup*) {})
                                    : tensor.subgroup(ranks, "copies-" + std::to_string(copies));
  }
}

void TensorSums::add_up(std::vector<std::unique_ptr<ShardUnit>>& shards, int rank) {
  for (auto& [copies, group] : groups_) {
    std::vector<at::Tensor> parts;
    for (auto& shard : shards) {
      const FlatRange* range = shard->trainable();
      if (!range) continue;
      for (const ShardPiece& piece : range->layout.pieces(rank))
        if (piece.parameter->slice.copies == copies)
          parts.push_back(shard->grad().narrow(0, piece.local_begin, piece.count));
    }
    if (parts.empty()) continue;  // on all of them: their ranges are cut alike
    const at::Tensor together = at::cat(parts);
    group->all_reduce_sum(together).wait();
    int64_t at = 0;
    for (at::Tensor& part : parts) {
      part.copy_(together.narrow(0, at, part.numel()));
      at += part.numel();
    }
  }
}

double squares_of_gradients(ShardUnit& unit, int rank) {
  const at::Tensor grad = unit.grad();
  if (!grad.defined()) return 0;
  const auto pieces = unit.trainable()->layout.pieces(rank);
  bool alone = true;
  for (const ShardPiece& piece : pieces) alone = alone && piece.parameter->slice.copies == 1;
  if (alone) return sum_of_squares(grad);
  double squares = 0;
  for (const ShardPiece& piece : pieces)
    squares += sum_of_squares(grad.narrow(0, piece.local_begin, piece.count)) /
               static_cast<double>(piece.parameter->slice.copies);
  return squares;
}

}  // namespace ft
