#pragma once
/// How many GPUs the driver shows on this machine. Read from the file system alone: nothing of CUDA is loaded, so that
/// a machine without a GPU loses no time, and a process that has only counted may still fork. Any thread.

#include <filesystem>

namespace ft {

/// GPUs with a node in /dev that CUDA_VISIBLE_DEVICES leaves; whether CUDA can use them is for CUDA to say.
int visible_gpus();

/// The same of another folder and value.
/// @param dev holds nvidia0, nvidia1, …; or dxg, Windows' node, which stands for one GPU
/// @param cuda_visible_devices null where it is not set; as in CUDA, nothing counts from the first index on that no GPU
/// has
int visible_gpus(const std::filesystem::path& dev, const char* cuda_visible_devices);

}  // namespace ft
