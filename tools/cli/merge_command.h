#pragma once
/// `ftengine merge`: flags to MergeOptions, a progress bar, the closing lines. Needs no Lua and no LibTorch at run
/// time.

#include <string>
#include <vector>

namespace ft {

/// @return the exit code: 0, or 2 for flags that do not exist.   @throws as merge().
int merge_command(const std::vector<std::string>& arguments);

}  // namespace ft
