#!/usr/bin/env bash
# tools/lint/includes on a small tree: silent where all is well, and a line for each planted fault.
set -euo pipefail
lint=$1/tools/lint/includes
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/engine/{low,high} "$tree"/lua/vm "$tree"/tools/cli
cat >"$tree/CMakeLists.txt" <<'LIST'
ft_folder(engine/low)
ft_folder(engine/high TORCH)
ft_folder(lua/vm)
ft_folder(tools/cli TORCH)
LIST
echo '#include "engine/low/low.h"' >"$tree/engine/low/low.cpp"
printf '#include <ATen/core/Tensor.h>\n#include "engine/low/low.h"\n' >"$tree/engine/high/high.cpp"
printf '#include <lua.hpp>\n#include "engine/high/high.h"\n' >"$tree/lua/vm/vm.cpp"
echo '#include <c10/cuda/CUDAStream.h>' >"$tree/engine/low/kernel.cu"
"$lint" "$tree" || {
  echo "a tree without a fault was refused"
  exit 1
}

failed=0
# refuses FILE LINE WANTED: the lint fails on LINE in FILE, and says WANTED.
refuses() {
  local said
  echo "$2" >"$tree/$1"
  if said=$("$lint" "$tree"); then
    echo "not refused in $1: $2"
    failed=1
  elif [[ $said != *"$3"* ]]; then
    echo "refused in $1, but not for '$3': $said"
    failed=1
  fi
  rm "$tree/$1"
}
refuses engine/low/up.h '#include "engine/high/high.h"' "engine/low/up.h:1: engine/low comes before engine/high"
refuses engine/low/up.h '  #  include "lua/vm/vm.h"' "engine/low comes before lua/vm"
refuses engine/low/torch.cpp '#include <ATen/ops/mm.h>' "engine/low is kept free of LibTorch"
refuses engine/high/all.cpp '#include <torch/torch.h>' "torch/torch.h costs"
refuses engine/high/lua.cpp '#include <lua.hpp>' "only lua/ includes lua.hpp"
refuses engine/high/gone.cpp '#include "engine/gone/gone.h"' "not in a folder that the order lists"
mkdir "$tree/engine/hidden"
refuses engine/hidden/hidden.cpp '' "engine/hidden: not listed in CMakeLists.txt"
exit "$failed"
