#pragma once
/// Context parallelism: the ranks of a context group read the same rows, and each holds a part of every row's tokens.
/// Under causal attention a token looks back, so late tokens cost more than early ones: a row is cut into twice as many
/// chunks as there are ranks, and a rank holds one from its head and the one as far from its tail (Dubey et al., "The
/// Llama 3 Herd of Models", 2024, section 3.3.2). Made once a micro batch, on the CPU; read by the layers. No LibTorch
/// types.

#include <cstdint>

namespace ft {

struct Batch;

/// Which tokens of every row a rank holds: chunk `index` and, behind it, chunk 2 · size − 1 − index.
struct SequenceSplit {
  int64_t index = 0, size = 1;  ///< place on the context axis, and ranks along it; size 1: rows are whole
  int64_t length = 0;           ///< tokens of a whole row, a multiple of 2 · size where it is split

  bool split() const { return size > 1; }
  int64_t chunk() const { return length / (2 * size); }
  int64_t head() const { return index * chunk(); }                   ///< where the first chunk stands in the row
  int64_t tail() const { return (2 * size - 1 - index) * chunk(); }  ///< where the second one does
  /// Where this rank's token `t` stands in its row.
  int64_t place(int64_t t) const {
    if (!split()) return t;
    return t < chunk() ? head() + t : tail() + t - chunk();
  }
  /// The split as rank `other` of the group has it.
  SequenceSplit of(int64_t other) const { return {other, size, length}; }
};

/// This rank's part of a batch of whole rows: tokens, positions and targets of its chunks, and the count of its own
/// targets, so that sums over all ranks count each token once. Targets were shifted in the whole row, so a chunk's last
/// token has the one that another rank's first token is. Rows are padded to a multiple of 2 · size by one more document
/// of no weight; documents stay those of whole rows, wherever the cuts fall.
/// @param size ranks of the context group; 1 returns the batch as it is
Batch split_batch(Batch whole, int64_t index, int64_t size, int64_t pad_id);

}  // namespace ft
