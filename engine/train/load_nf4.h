#pragma once
/// Quantizes a unit's NF4 parameters on their way in, each rank the groups that it owns. Called by load_unit alone.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "engine/parallel/process_group.h"
#include "engine/parallel/shard_unit.h"
#include "engine/quant/nf4.h"

namespace ft {

class WeightSource;

/// Elements read at once: 1 Mi, 4 MB of staging and enough work for every core.
inline constexpr int64_t kLoadChunk = 64 * nf4::kGroup;

/// Codes are those of the whole tensor's blocks, whatever its layout. Its offset is the mean of all of its absmax, from
/// every group's sum in order. A slice of whole groups keeps their scales as they are; one that cuts groups keeps what
/// they decode to, for which the ranks tell each other their absmax: 1/16 of the tensor in fp32, while it is loaded.
/// What bitsandbytes has quantized already is not quantized again: its codes and scales are taken as they are.
/// Collective over `holders`, as load_unit says.   @throws Error(config) for such a weight that records cannot hold;
/// Error(format) on every rank where a tensor is not finite.
void load_nf4(FlatRange& range, const WeightSource& source, int rank, ProcessGroup& holders,
              const std::function<void(int64_t)>& progress);

/// Elements of a piece of group records, without the padding of the last one.
int64_t nf4_elements(const ShardPiece& piece);

/// Memory of the host to fill for `own`: its own where it has that, else new memory, to be copied.
at::Tensor host_memory_for(const at::Tensor& own, int64_t count);

}  // namespace ft
