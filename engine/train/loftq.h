#pragma once
/// LoRA's start by LoftQ (Li et al., 2023, with one iteration, as peft's replace_lora_weights_loftq): the base stays
/// the weights' NF4, and scale·B·A begins as the matrix of rank r that is nearest to what quantizing took away. PEFT
/// leaves the scale out of account; here B·A is divided by it, so that the start is the nearest for every alpha, and
/// PEFT's own where alpha = r. Called by ShardedModel::load after the ranges are filled.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/layers/model.h"
#include "engine/parallel/process_group.h"
#include "engine/parallel/shard_unit.h"
#include "engine/train/weights.h"

namespace ft {

/// What came of it, over all linears that were begun so.
struct LoftqReport {
  int64_t linears = 0;
  double before = 0, after = 0;  ///< ‖W − NF4(W)‖ and ‖W − NF4(W) − scale·B·A‖, both over ‖W‖
};

/// Factors of a matrix's nearest one of rank r.
struct LowRank {
  at::Tensor a, b;  ///< fp32 [r, in] and [out, r], of equal norms; zero rows and columns where the matrix has less rank
  double before = 0, after = 0;  ///< squared norm of the matrix, and of what the product leaves of it
};

/// From the eigenvectors of the smaller Gram matrix, all in fp64: a quantization error has singular values close
/// together, which squares in fp32 would mix. Each row's largest element is positive.
/// @param matrix fp32 [out, in]
LowRank nearest_low_rank(const at::Tensor& matrix, int64_t r);

/// Fills what neither a checkpoint nor an adapter holds of A and B. Each matrix is one rank's work, in turn; it reads
/// the whole weight from the source and tells the factors to all, so that ranks begin with the same bits on every
/// layout. Rows of A beyond a residual's rank stay as they are drawn, and those columns of B are zero.
/// Collective over `world`.   @param split_rank among those that units are split over
/// @param done is told how many bytes of the weights' files are done, and of how many
/// @throws Error(config) for a weight that the file holds quantized already: what it was is not known.
LoftqReport begin_by_loftq(const std::vector<std::unique_ptr<ShardUnit>>& units, std::span<const LowRankStart> starts,
                           const WeightSource& source, int split_rank, ProcessGroup& world,
                           const std::function<void(int64_t bytes, int64_t all)>& done);

/// Bytes of the host that one rank takes on the way, for the largest of these matrices.
int64_t loftq_bytes(std::span<const LowRankStart> starts, const WeightSource& source);

}  // namespace ft
