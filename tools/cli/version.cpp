#include "tools/cli/version.h"

#include <torch/csrc/api/include/torch/version.h>

#include <lua.hpp>

namespace ft {

std::string version_text() {
  return std::string("ftengine ") + FTENGINE_VERSION + " (" + LUAJIT_VERSION + ", LibTorch " + TORCH_VERSION + ", " +
         __VERSION__ + ")\n";
}

}  // namespace ft
