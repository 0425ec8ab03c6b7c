#pragma once
/// Plugins: libraries that a build may have or not (CUDA's, Arrow's), which the program itself is not linked to. Any
/// thread. A plugin that was opened stays open.

#include <string>

namespace ft {

/// The plugin "cuda" is libftengine_cuda.so.
struct PluginName {
  std::string library;   ///< libftengine_cuda.so
  std::string variable;  ///< FTENGINE_CUDA_PLUGIN: names the file to take
  explicit PluginName(const std::string& name);
};

/// True where the plugin's file is found, but on the loader's path; whether it opens is another matter.
bool plugin_exists(const PluginName& name);

/// Opens a plugin: the file that its variable names, else the one beside the binary, else in the lib folder of the same
/// installation, else on the loader's path.
/// @param flags of dlopen
/// @return its handle; null with the reason where it cannot be opened
void* open_plugin(const PluginName& name, int flags, std::string& reason);

/// What the plugin exports under a name, or null.
void* plugin_symbol(void* plugin, const char* symbol);

}  // namespace ft
