#pragma once
/// One flat range of a unit: what a rank owns of it, and the storage that its parameters view while it is gathered.
/// ShardUnit makes and gathers it; loading, optimizers and checkpoints read and write what is owned.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "engine/parallel/buffer_pool.h"
#include "engine/parallel/mapped_range.h"
#include "engine/parallel/parameter.h"
#include "engine/parallel/shard_layout.h"

namespace ft {

struct FlatRange {
  Storage storage = Storage::trainable;
  at::ScalarType owned_dtype = at::kFloat;  // trainable: fp32 masters; frozen: the file's; nf4: bytes
  at::ScalarType gather_dtype = at::kFloat;
  int64_t atom_elements = 1;  // nf4: bytes of a group record
  ShardLayout layout;
  at::Tensor owned{};  // [per_rank · atom_elements] in owned_dtype; at home where there is one
  at::Tensor flat{};   // [total · atom_elements] in gather_dtype; its storage is empty while released
  BufferPool::Buffer buffer{};
  at::Tensor alone{};         // one rank: `owned`, or what it becomes on the device in gather_dtype
  at::Tensor whole{};         // keep_whole on several ranks: what `flat` views, held from step to step
  bool whole_is_new = false;  // `whole` holds what the masters are now
  BufferPool::Buffer kept{};  // this rank's part of what its neighbours keep

  bool mapped = false;  // `owned` is the whole range, in `map` from map_from on
  std::shared_ptr<MappedRange> map{};

  at::Tensor piece(const ShardPiece& p) const;  ///< 1-D view of `owned`
  int64_t owned_bytes() const;                  ///< of `owned`, there or not
  void map_from(std::shared_ptr<MappedRange> place);
};

}  // namespace ft
