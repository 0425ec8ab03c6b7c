// libFuzzer's entry: runs the target that FTENGINE_FUZZ names.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tools/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ft::fuzz::Target* const chosen = [] {
    const char* name = std::getenv("FTENGINE_FUZZ");
    for (const ft::fuzz::Target& target : ft::fuzz::targets())
      if (name && std::string_view(name) == target.name) return &target;
    std::fprintf(stderr, "FTENGINE_FUZZ names no target\n");
    std::exit(2);
  }();
  chosen->run({data, size});
  return 0;
}
