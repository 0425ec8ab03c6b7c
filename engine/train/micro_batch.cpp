#include "engine/train/micro_batch.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "engine/parallel/process_group.h"

namespace ft {
namespace {

// For a GPU by way of page-locked memory: nobody waits for the copy.
at::Tensor matrix(const std::vector<int64_t>& values, int64_t rows, int64_t length, at::Device device) {
  at::Tensor tensor = at::empty({rows, length}, at::TensorOptions(at::kLong).pinned_memory(device.is_cuda()));
  std::copy(values.begin(), values.end(), tensor.data_ptr<int64_t>());
  return tensor.to(device, /*non_blocking=*/true);
}

}  // namespace

Batch own_part(Batch whole, const ContextAxis& axis, int64_t pad_id) {
  if (!axis.group) return whole;
  return split_batch(std::move(whole), axis.group->rank(), axis.group->size(), pad_id);
}

MicroBatch micro_batch(const Batch& batch, const ContextAxis& axis, at::Device device) {
  MicroBatch made;
  made.tokens = matrix(batch.tokens, batch.rows, batch.length, device);
  made.context.positions = matrix(batch.positions, batch.rows, batch.length, device);
  made.context.targets = matrix(batch.targets, batch.rows, batch.length, device);
  made.context.documents = batch.documents;
  made.context.rows = batch.row_ids;
  made.context.split = batch.split;
  made.context.axis = axis;
  return made;
}

}  // namespace ft
