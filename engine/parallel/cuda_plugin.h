#pragma once
/// The CUDA plugin, libftengine_cuda.so: kernels behind the engine's ops, the devices of compute_device.h, NCCL. The
/// core links nothing of CUDA; it opens the plugin where GPUs are wanted, and asks it for functions by name. Open it
/// before anything else asks LibTorch about CUDA, and before the first backward: LibTorch remembers what it has found.
/// Any thread.

#include <string>

namespace ft {

/// Opens the plugin: FTENGINE_CUDA_PLUGIN, else beside the binary, else in the lib folder of the same installation,
/// else on the loader's path. Opened again, it is the same, with its ops registered once.
/// @return its handle; null with the reason where it cannot be opened
void* open_cuda_plugin(std::string& reason);

/// True where the plugin's file is found, but on the loader's path; whether it opens is another matter.
bool cuda_plugin_exists();

/// A function that the plugin exports, or null where it was built without.
void* cuda_plugin_symbol(void* plugin, const char* name);

}  // namespace ft
