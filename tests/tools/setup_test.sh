#!/usr/bin/env bash
# tools/setup without packages and without a network: what it takes, what it refuses, and that nothing is half there.
set -euo pipefail
setup=$1/tools/setup
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export FTENGINE_CACHE=$place/cache TMPDIR=$place
unset FTENGINE_LIBTORCH CMAKE_PREFIX_PATH FTENGINE_ARROW_ROOT
export FTENGINE_ARROW=off
failed=0

# expect STATUS TEXT COMMAND...: the command's exit status, and a text in what it says.
expect() {
  local status=0 said wanted=$1 text=$2
  shift 2
  said=$("$@" 2>&1) || status=$?
  if [ "$status" != "$wanted" ] || [[ $said != *"$text"* ]]; then
    echo "$*: exit $status, want $wanted with '$text'; it said:"
    echo "$said"
    failed=1
  fi
}
expect 2 "unknown option --nothing" "$setup" --nothing
expect 0 "tools/setup [--lint]" "$setup" --help
expect 1 "FTENGINE_LIBTORCH=$place/none has no include/ATen" env FTENGINE_LIBTORCH="$place/none" "$setup" --no-packages

# A LibTorch that the user points at is taken, in either form, and nothing is fetched.
mkdir -p "$place/mine/torch/include/ATen/core" "$place/mine/torch/lib"
touch "$place/mine/torch/include/ATen/core/Tensor.h" "$place/mine/torch/lib/libtorch_cpu.so"
expect 0 "taking the one in $place/mine/torch" env FTENGINE_LIBTORCH="$place/mine/torch" "$setup" --no-packages
expect 0 "taking the one in $place/mine/torch" env CMAKE_PREFIX_PATH="/none:$place/mine" "$setup" --no-packages

# Where pip fetches nothing, the message names the command and the way around, and no marker is left.
expect 1 "or point FTENGINE_LIBTORCH at" env PIP_NO_INDEX=1 PIP_FIND_LINKS= "$setup" --no-packages --no-cuda
[ -z "$(find "$place/cache" -name 'torch*' -o -name '.unpack.*' 2>/dev/null)" ] || {
  echo "a set-up that failed left files behind:"
  find "$place/cache"
  failed=1
}

# Arrow: left out where that is asked for, taken where the user has it, gone without where it cannot be fetched.
export FTENGINE_LIBTORCH=$place/mine/torch PIP_NO_INDEX=1 PIP_FIND_LINKS=
without="without Arrow: all but Parquet and Arrow files can be read"
expect 0 "$without" env -u FTENGINE_ARROW "$setup" --no-packages
mkdir -p "$place/arrow/include/parquet/arrow"
touch "$place/arrow/include/parquet/arrow/reader.h"
for arguments in "FTENGINE_ARROW=off $setup" "FTENGINE_ARROW=auto $setup --no-arrow" \
  "FTENGINE_ARROW=auto FTENGINE_ARROW_ROOT=$place/arrow $setup" "FTENGINE_ARROW=auto CMAKE_PREFIX_PATH=$place/arrow $setup"; do
  said=$(env $arguments --no-packages 2>&1) || failed=1
  [[ $said != *Arrow* ]] || {
    echo "$arguments fetches Arrow: $said"
    failed=1
  }
done
[ -z "$(find "$place/cache" -name 'arrow*' -o -name '.unpack.*')" ] || {
  echo "Arrow is half there:"
  find "$place/cache"
  failed=1
}
exit "$failed"
