#pragma once
/// A model whose linears are NF4 as bitsandbytes stores it, so that transformers loads it with bitsandbytes and trains
/// or answers on the weights that a run of ours with quantize = "nf4" saw. Used by merge alone, from one thread; starts
/// others while it runs.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/merge/merge_input.h"
#include "engine/merge/model_writer.h"

namespace ft {

/// Whether a tensor is a linear's weight that is quantized: a matrix of a layer.
bool is_nf4_weight(const MergeTensor& tensor);

/// Writes one shard.   @return the names of all tensors in it, as the index wants them.
/// @throws Error(config) for a weight with LoRA, which four bits would lose, or whose elements are no multiple of 512.
std::vector<std::string> write_nf4_shard(const MergeInput& source, const MergeShard& shard,
                                         const std::filesystem::path& directory, int threads,
                                         const std::function<void(uint64_t, const std::string&)>& wrote);

/// config.json with bitsandbytes' quantization_config.
Value nf4_config(const MergeInput& source);

}  // namespace ft
