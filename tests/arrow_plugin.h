#pragma once
/// The Arrow plugin of this build, for tests: whether there is one. It lies beside the program, a folder above tests.

#include <cstdlib>
#include <filesystem>

namespace ft::test {

/// Names the plugin to the reader of data files.   @return false where it was not built
inline bool have_arrow_plugin() {
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const auto plugin = here.parent_path() / "libftengine_arrow.so";
  if (std::filesystem::exists(plugin)) setenv("FTENGINE_ARROW_PLUGIN", plugin.c_str(), 0);
  return std::getenv("FTENGINE_ARROW_PLUGIN") != nullptr;
}

}  // namespace ft::test
