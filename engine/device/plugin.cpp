#include "engine/device/plugin.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

namespace ft {
namespace {

namespace fs = std::filesystem;

// The file that the variable names, or "".
std::string named_file(const PluginName& name) {
  const char* named = std::getenv(name.variable.c_str());
  return named ? named : "";
}

// The files to try, as far as they are there.
std::vector<std::string> plugin_files(const PluginName& name) {
  std::error_code ignored;
  const fs::path binary = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  std::vector<fs::path> places{binary / name.library, binary.parent_path() / "lib" / "ftengine" / name.library};
  if (const std::string named = named_file(name); !named.empty()) places = {named};
  std::vector<std::string> files;
  for (const fs::path& place : places)
    if (fs::exists(place, ignored)) files.push_back(place.string());
  return files;
}

}  // namespace

PluginName::PluginName(const std::string& name) : library("libftengine_" + name + ".so"), variable(name) {
  std::transform(variable.begin(), variable.end(), variable.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  variable = "FTENGINE_" + variable + "_PLUGIN";
}

bool plugin_exists(const PluginName& name) { return !plugin_files(name).empty(); }

void* open_plugin(const PluginName& name, int flags, std::string& reason) {
  std::vector<std::string> candidates = plugin_files(name);
  // One that is there but does not open says why; the loader's path would only say that it has none.
  if (const std::string named = named_file(name); candidates.empty())
    candidates.push_back(named.empty() ? name.library : named);
  for (const std::string& candidate : candidates) {
    if (void* handle = dlopen(candidate.c_str(), flags)) return handle;
    reason = dlerror();
  }
  return nullptr;
}

void* plugin_symbol(void* plugin, const char* symbol) { return dlsym(plugin, symbol); }

}  // namespace ft
