#pragma once
/// A batch's arrays as the tensors and the context that the schedule takes.

#include <ATen/core/Tensor.h>

#include "engine/data/batch.h"
#include "engine/layers/module.h"

namespace ft {

/// Rows of a batch are padded to a multiple of this.
inline constexpr int64_t kLengthMultiple = 64;

struct MicroBatch {
  at::Tensor tokens;  ///< [B, T] int64
  Context context;    ///< positions, documents, targets and rows filled in; the rest is the caller's
};

/// This rank's part of a batch of whole rows: the batch itself, but under context parallelism (split_batch).
Batch own_part(Batch whole, const ContextAxis& axis, int64_t pad_id);

/// @param axis the ranks that hold the rest of the rows, where the batch is a part of them (split_batch).
/// @param device where the tensors are to lie; a GPU may still be fetching them
MicroBatch micro_batch(const Batch& batch, const ContextAxis& axis = {}, at::Device device = at::kCPU);

}  // namespace ft
