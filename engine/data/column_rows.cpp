#include "engine/data/column_rows.h"

#include <dlfcn.h>

#include "engine/device/plugin.h"
#include "engine/error/error.h"

namespace ft {
namespace {

struct Plugin {
  OpenColumnRows* open = nullptr;
  std::string reason;  ///< why there is none

  Plugin() {
    const PluginName name("arrow");
    void* const handle = open_plugin(name, RTLD_NOW | RTLD_LOCAL, reason);
    if (!plugin_exists(name)) reason = "this ftengine was built without Arrow";
    if (!handle) return;
    open = reinterpret_cast<OpenColumnRows*>(plugin_symbol(handle, kOpenColumnRows));
    if (!open) reason = name.library + " is of another version of ftengine";
  }
};

}  // namespace

std::unique_ptr<RowFormat> open_column_rows(const std::filesystem::path& path, const UsesColumn& uses) {
  static const Plugin plugin;
  if (!plugin.open)
    throw Error(ErrorKind::config, "cannot be read: " + plugin.reason)
        .at(path.string())
        .help(
            "Parquet and Arrow files are read by Apache Arrow: run tools/setup, which fetches it (55 MB), and build "
            "again; or have the data as JSONL");
  return std::unique_ptr<RowFormat>(plugin.open(path, uses));
}

}  // namespace ft
