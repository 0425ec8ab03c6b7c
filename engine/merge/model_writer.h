#pragma once
/// The files of a merged model: tensors dealt to shards, the index, config.json, companions. Used by merge alone.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/merge/merge.h"
#include "engine/merge/merge_input.h"

namespace ft {

/// One file of the result and the tensors in it, in the order of their bytes.
struct MergeShard {
  std::string file;
  std::vector<const MergeTensor*> tensors;
};

/// Deals tensors to files of at most `shard_size` bytes, in their order; names them as Hugging Face does:
/// model.safetensors when one is enough, else model-00001-of-00002.safetensors.
std::vector<MergeShard> deal_shards(const std::vector<MergeTensor>& tensors, uint64_t shard_size);

/// model.safetensors.index.json of tensors' names -> files.
std::string index_text(const std::map<std::string, std::string>& files, int64_t parameters, int64_t bytes);
/// The same of shards.
std::string index_text(const std::vector<MergeShard>& shards);

/// config.json of the merged model: plain architecture names, the dtype that was written, all else in the spelling it
/// has.
Value merged_config(const Value& config, const std::vector<MergeTensor>& tensors);

/// Writes one shard.   @param wrote is told the bytes of each block and the tensor's name, on the caller's thread.
void write_shard(const MergeInput& source, const MergeShard& shard, const std::filesystem::path& directory, int threads,
                 const std::function<void(uint64_t, const std::string&)>& wrote);

/// Folder of the DCP export: what accelerate calls the first model of a checkpoint.
inline constexpr const char* kDcpFolder = "pytorch_model_fsdp_0";

/// Writes a torch.distributed.checkpoint into `directory`, which is made; a file for each shard.   @return its files.
std::vector<std::string> write_dcp(const MergeInput& source, const std::vector<MergeShard>& shards,
                                   const std::filesystem::path& directory, int threads,
                                   const std::function<void(uint64_t, const std::string&)>& wrote);

}  // namespace ft
