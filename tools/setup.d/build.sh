# From a checkout to a built binary. Sourced by tools/ftengine and tools/test; sets ft_root.
# A call that finds everything in place runs no package manager, no CMake and no ninja: a stamp says that the set-up ran as
# its scripts are now, another that nothing is newer than the last build.
set -euo pipefail
ft_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ft_root/tools/setup.d/progress.sh"
. "$ft_root/tools/setup.d/libtorch.sh"
. "$ft_root/tools/setup.d/arrow.sh"
ft_cuda=auto

# ensure_setup: runs tools/setup unless its stamp holds, a hash of the scripts and of what they decide by.
ensure_setup() {
  local stamp=$ft_root/build/.setup given key facts
  given=$(given_libtorch)
  facts="$given|$ft_wheel_home|$(find_nvcc)|$(has_gpu && echo gpu || true)|$ft_arrow|$(given_arrow)|$ft_arrow_home"
  key=$({ echo "$facts" && cat "$ft_root"/tools/setup "$ft_root"/tools/setup.d/*; } | sha256sum)
  ft_libtorch=${given:-$ft_wheel_home/torch}
  [ -f "$stamp" ] && [ "$(<"$stamp")" = "$key" ] && [ -e "$ft_libtorch/lib/libtorch_cpu.so" ] && return
  "$ft_root/tools/setup"
  mkdir -p "$ft_root/build"
  rm -f "$ft_root"/build/*/.libtorch # what was found may have changed what can be built: configure again
  echo "$key" >"$stamp"
}

# build_jobs: the processors, or fewer where memory is short: a source that includes LibTorch takes up to 1.5 GB.
build_jobs() {
  awk -v processors="$(nproc)" '/^MemAvailable:/ {
    jobs = int($2 / 1500000); if (jobs > processors) jobs = processors; print (jobs < 1 ? 1 : jobs) }' /proc/meminfo
}

# up_to_date STAMP TARGET: true when no source is newer than the last build. A folder counts too: its time changes when a
# file in it appears or goes.
up_to_date() {
  [ -f "$1" ] || return 1
  local places=(CMakeLists.txt CMakePresets.json engine lua stdlib configs tools/cli tools/cmake)
  [ "$2" != all ] || places+=(tests)
  [[ $2 != bench_* ]] || places+=(tools/bench)
  [ -z "$(cd "$ft_root" && find "${places[@]}" -newer "$1" -print -quit)" ]
}

# ensure_built PRESET TARGET: configures and builds what is out of date; one caller at a time, the others wait.
ensure_built() {
  local preset=$1 target=$2 folder=$ft_root/build/$1 found
  local stamp=$folder/.built-$target configured=$folder/.libtorch
  found="$ft_libtorch ${ft_arrow^^} $(arrow_to_build)"
  up_to_date "$stamp" "$target" && [ -f "$configured" ] && [ "$(<"$configured")" = "$found" ] && return
  mkdir -p "$folder"
  exec 8>"$folder/.lock"
  flock -n 8 || {
    say "build/$preset: another call is building; waiting for it"
    flock 8
  }
  if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$configured" 2>/dev/null)" != "$found" ]; then
    say "configuring build/$preset"
    (cd "$ft_root" && cmake --preset "$preset" -DFTENGINE_LIBTORCH="$ft_libtorch" -DFTENGINE_ARROW="${ft_arrow^^}") \
      >"$folder/configure.log" 2>&1 || {
      cat "$folder/configure.log" >&2
      fail "CMake could not configure build/$preset" "by hand: cmake --preset $preset"
    }
    echo "$found" >"$configured"
  fi
  say "building build/$preset ($target)"
  touch "$stamp.begun" # what is saved while the build runs is newer than this, and is built by the next call
  NINJA_STATUS='[%f/%t %es] ' cmake --build "$folder" --target "$target" -j "$(build_jobs)" >&2 8>&- ||
    fail "the build failed; the first error above says where" "by hand: cmake --build build/$preset --target $target"
  mv "$stamp.begun" "$stamp"
  exec 8>&-
}
