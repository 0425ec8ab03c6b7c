#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "engine/error/error.h"
#include "engine/parallel/c10d_backend.h"
#include "engine/parallel/cuda_plugin.h"

namespace ft {

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const BackendPlace& place) {
  std::string reason;
  void* plugin = open_cuda_plugin(reason);
  const auto factory = plugin ? reinterpret_cast<NcclFactory>(cuda_plugin_symbol(plugin, kNcclFactorySymbol)) : nullptr;
  if (!factory)
    throw Error(ErrorKind::config, "the CUDA plugin, which ranks on GPUs talk through, cannot be used: " +
                                       (plugin ? std::string("it has no NCCL") : reason))
        .help("build with FTENGINE_CUDA=ON, or name the plugin in FTENGINE_CUDA_PLUGIN");
  c10::intrusive_ptr<c10d::Backend> backend;
  factory(store, place, backend);
  return backend;
}

}  // namespace ft
