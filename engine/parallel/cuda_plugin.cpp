#include "engine/parallel/cuda_plugin.h"

#include <dlfcn.h>

#include "engine/device/plugin.h"

namespace ft {
namespace {

const PluginName& cuda() {
  static const PluginName name("cuda");
  return name;
}

}  // namespace

bool cuda_plugin_exists() { return plugin_exists(cuda()); }

void* open_cuda_plugin(std::string& reason) { return open_plugin(cuda(), RTLD_NOW | RTLD_GLOBAL, reason); }

void* cuda_plugin_symbol(void* plugin, const char* name) { return plugin_symbol(plugin, name); }

}  // namespace ft
