#include "engine/parallel/cuda_plugin.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

namespace ft {

void* open_cuda_plugin(std::string& reason) {
  constexpr const char* kPlugin = "libftengine_cuda.so";
  std::vector<std::string> candidates;
  if (const char* named = std::getenv("FTENGINE_CUDA_PLUGIN"); named && *named) {
    candidates.emplace_back(named);
  } else {
    std::error_code ignored;
    const auto binary = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
    for (const auto& path : {binary / kPlugin, binary.parent_path() / "lib" / "ftengine" / kPlugin})
      if (std::filesystem::exists(path, ignored)) candidates.push_back(path);
    // One that is there but does not open says why; the loader's path would only say that it has none.
    if (candidates.empty()) candidates.emplace_back(kPlugin);
  }
  for (const std::string& candidate : candidates) {
    if (void* handle = dlopen(candidate.c_str(), RTLD_NOW | RTLD_GLOBAL)) return handle;
    reason = dlerror();
  }
  return nullptr;
}

void* cuda_plugin_symbol(void* plugin, const char* name) { return dlsym(plugin, name); }

}  // namespace ft
