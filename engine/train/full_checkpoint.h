#pragma once
/// FULL_STATE_DICT: whole tensors in one file, which rank 0 writes. They come to it one by one, in parts of a few MB,
/// so that no rank holds more than its own share and one tensor. Called by CheckpointSaver on every rank alike.

#include <filesystem>
#include <vector>

#include "engine/formats/checkpoint.h"
#include "engine/parallel/process_group.h"
#include "engine/train/save.h"

namespace ft {

/// Writes shard-00000-of-00001.safetensors from what all ranks own. Collective; training waits.
/// @return on rank 0 what was written, elsewhere an empty record.
/// @throws Error(io) on rank 0 when it cannot be written, after every tensor was sent: the other ranks notice nothing.
ShardRecord write_full_checkpoint(ProcessGroup& group, const std::filesystem::path& directory,
                                  const std::vector<SavedPiece>& mine);

}  // namespace ft
