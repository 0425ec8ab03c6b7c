#pragma once
/// The parts of a PEFT adapter directory: adapter_model.safetensors and adapter_config.json. Used by merge alone, from
/// one thread.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/merge/merge_source.h"

namespace ft {

/// The tensors of the adapter under PEFT's names ("base_model.model." before the module's path), in the order of their
/// bytes; fp32 where no dtype is asked for.   @throws Error(config) when the run trained no adapter.
std::vector<TensorEntry> adapter_tensors(const MergeSource& source, std::optional<DType> dtype);

/// The keys that every version of peft reads, from the run's adapter_config.json; older ones refuse keys they do not
/// know.
Value minimal_adapter_config(const Value& adapter, const std::string& base_model);

/// Writes adapter_model.safetensors.   @param entries adapter_tensors.   @param wrote as in write_shard.
void write_adapter(const MergeSource& source, const std::vector<TensorEntry>& entries,
                   const std::filesystem::path& directory,
                   const std::function<void(uint64_t, const std::string&)>& wrote);

}  // namespace ft
