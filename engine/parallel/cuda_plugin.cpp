#include "engine/parallel/cuda_plugin.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlugin = "libftengine_cuda.so";

// The files to try, as far as they are there.
std::vector<std::string> plugin_files() {
  std::error_code ignored;
  const fs::path binary = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  std::vector<fs::path> places{binary / kPlugin, binary.parent_path() / "lib" / "ftengine" / kPlugin};
  if (const char* named = std::getenv("FTENGINE_CUDA_PLUGIN"); named && *named) places = {named};
  std::vector<std::string> files;
  for (const fs::path& place : places)
    if (fs::exists(place, ignored)) files.push_back(place.string());
  return files;
}

}  // namespace

bool cuda_plugin_exists() { return !plugin_files().empty(); }

void* open_cuda_plugin(std::string& reason) {
  std::vector<std::string> candidates = plugin_files();
  // One that is there but does not open says why; the loader's path would only say that it has none.
  const char* named = std::getenv("FTENGINE_CUDA_PLUGIN");
  if (candidates.empty()) candidates.emplace_back(named && *named ? named : kPlugin);
  for (const std::string& candidate : candidates) {
    if (void* handle = dlopen(candidate.c_str(), RTLD_NOW | RTLD_GLOBAL)) return handle;
    reason = dlerror();
  }
  return nullptr;
}

void* cuda_plugin_symbol(void* plugin, const char* name) { return dlsym(plugin, name); }

}  // namespace ft
