#pragma once
/// One micro batch of one rank, as plain arrays: what the model's forward and the loss read. Made by the run from a
/// split's rows, its packing and the sampler's row ids. CPU only, no LibTorch types.

#include <cstdint>
#include <span>
#include <vector>

#include "engine/data/sequence_split.h"

namespace ft {

struct Packing;
class TokenRows;

struct Batch {
  int64_t rows = 0, length = 0;
  std::vector<int64_t> tokens;     ///< [rows, length] ids; pad_id behind the last document
  std::vector<int64_t> targets;    ///< [rows, length] label of token t + 1 in the same document, else -100
  std::vector<int64_t> positions;  ///< [rows, length] from 0 in each document; padding counts as one more document
  /// Lengths of each row's documents in order; each row's sum is `length`, or that of whole rows where they are split.
  std::vector<std::vector<int64_t>> documents;
  SequenceSplit split;           ///< which of each row's tokens these are; all, but under context parallelism
  std::vector<int64_t> row_ids;  ///< packed row numbers over the whole split; -1 for a row of no weight
  int64_t num_targets = 0;       ///< targets other than -100
};

/// Builds a micro batch; its length is that of its longest row, rounded up to `multiple`, so that steps repeat shapes:
/// kernels and allocators keep things by shape. Rows of no weight (id -1) hold padding alone; a micro batch of nothing
/// else has length 1.
Batch make_batch(const TokenRows& rows, const Packing& packing, std::span<const int64_t> row_ids, int64_t pad_id,
                 int64_t multiple = 1);

}  // namespace ft
