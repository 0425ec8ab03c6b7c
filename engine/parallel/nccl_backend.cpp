#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "engine/error/error.h"
#include "engine/parallel/c10d_backend.h"

namespace ft {
namespace {

constexpr const char* kPlugin = "libftengine_cuda.so";

// FTENGINE_CUDA_PLUGIN, else beside the binary, else in the lib folder of the same installation, else the loader's
// path.
void* open_plugin(std::string& reason) {
  std::vector<std::string> candidates;
  if (const char* named = std::getenv("FTENGINE_CUDA_PLUGIN")) {
    candidates.push_back(named);
  } else {
    std::error_code ignored;
    const auto binary = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
    for (const auto& path : {binary / kPlugin, binary.parent_path() / "lib" / "ftengine" / kPlugin})
      if (std::filesystem::exists(path, ignored)) candidates.push_back(path);
    candidates.push_back(kPlugin);
  }
  for (const std::string& candidate : candidates) {
    // An already open library gives the same handle, with its operators registered once.
    if (void* handle = dlopen(candidate.c_str(), RTLD_NOW | RTLD_GLOBAL)) return handle;
    reason = dlerror();
  }
  return nullptr;
}

}  // namespace

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const BackendPlace& place) {
  std::string reason;
  void* plugin = open_plugin(reason);
  const auto factory = plugin ? reinterpret_cast<NcclFactory>(dlsym(plugin, kNcclFactorySymbol)) : nullptr;
  if (!factory)
    throw Error(ErrorKind::config, "the CUDA plugin, which ranks on GPUs talk through, cannot be used: " +
                                       (plugin ? std::string("it has no NCCL") : reason))
        .help("build with FTENGINE_CUDA=ON, or name the plugin in FTENGINE_CUDA_PLUGIN");
  c10::intrusive_ptr<c10d::Backend> backend;
  factory(store, place, backend);
  return backend;
}

}  // namespace ft
