# LibTorch: where it is, and how it gets there. Sourced by tools/setup, tools/ftengine and tools/test.
# It is unpacked from the wheels of wheels.txt into $ft_cache/libtorch-VERSION, once for all checkouts. A wheel's files are
# unpacked aside and renamed into place, then a marker is written: a wheel without its marker counts as absent.

ft_libtorch_version=2.11.0
ft_cache=${FTENGINE_CACHE:-${HOME:?HOME is not set; set it, or FTENGINE_CACHE}/.cache/ftengine}
ft_wheel_home=$ft_cache/libtorch-$ft_libtorch_version

# given_libtorch: prints the LibTorch that the user points at, nothing where there is none.
given_libtorch() {
  local prefixes prefix place places=()
  [ -z "${FTENGINE_LIBTORCH:-}" ] || places+=("$FTENGINE_LIBTORCH")
  IFS=':;' read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for prefix in "${places[@]}" "${prefixes[@]}"; do
    for place in "$prefix" "$prefix/torch"; do
      if [ -f "$place/include/ATen/core/Tensor.h" ] && [ -f "$place/lib/libtorch_cpu.so" ]; then
        realpath "$place"
        return
      fi
    done
  done
  [ -z "${FTENGINE_LIBTORCH:-}" ] || fail "FTENGINE_LIBTORCH=$FTENGINE_LIBTORCH has no include/ATen and lib/libtorch_cpu.so" \
    "give the torch/ folder of a LibTorch $ft_libtorch_version, or unset FTENGINE_LIBTORCH to have it fetched"
}

# find_nvcc: prints the nvcc of a toolkit that the user has, nothing where there is none.
find_nvcc() {
  local place
  for place in "${CUDACXX:-}" "$(command -v nvcc || true)" "${CUDA_HOME:-}/bin/nvcc" /usr/local/cuda/bin/nvcc; do
    if [ -x "$place" ]; then
      echo "$place"
      return
    fi
  done
}

# usable_nvcc: true where that nvcc is of a CUDA that LibTorch's headers and libraries go with.
usable_nvcc() {
  local nvcc release
  nvcc=$(find_nvcc)
  [ -n "$nvcc" ] || return 1
  release=$("$nvcc" --version | sed -nE 's/.*release ([0-9]+).*/\1/p')
  [ "${release:-0}" -ge 13 ]
}

has_gpu() { [ -e /dev/nvidia0 ] || [ -e /dev/dxg ]; }

# wanted_parts: cpu always; link, the parts of LibTorch that the CUDA plugin is linked to, where there is an nvcc; gpu, what
# these load at run time, where there is a GPU, and nvcc where no toolkit brings it. $ft_cuda (auto, on, off) overrides.
wanted_parts() {
  local parts=cpu
  [ "$ft_cuda" = off ] || ! usable_nvcc || parts+=" link"
  if [ "$ft_cuda" = on ] || { [ "$ft_cuda" = auto ] && has_gpu; }; then
    usable_nvcc && parts+=" gpu" || parts+=" link gpu nvcc"
  fi
  echo "$parts"
}

# wheels_to_unpack PARTS: prints the lines of wheels.txt that are wanted and have no marker. torch has two halves.
wheels_to_unpack() {
  local part requirement size sha parts=" $* "
  while read -r part requirement size sha; do
    case $part in '' | '#'*) continue ;; esac
    [[ $parts == *" $part "* ]] || continue
    [ -f "$ft_wheel_home/.unpacked/$requirement" ] || {
      echo "$part $requirement $size $sha"
      continue
    }
    [[ $requirement == torch==* && $parts == *" link "* && ! -f "$ft_wheel_home/.unpacked/$requirement+cuda" ]] &&
      echo "link $requirement $size $sha"
  done <"$ft_root/tools/setup.d/wheels.txt"
  true
}

# download REQUIREMENT SIZE SHA FOLDER: one wheel, its hash checked by pip.
download() {
  local requirement=$1 size=$2 sha=$3 folder=$4 arguments
  mkdir -p "$folder/pip"
  echo "$requirement --hash=sha256:$sha" >"$folder/requirement.txt"
  arguments=(download --no-deps --require-hashes --only-binary=:all: --no-cache-dir --disable-pip-version-check
    --progress-bar off)
  # Libraries do not depend on the Python that their wheel is for: one wheel serves whatever Python runs pip.
  [[ $requirement == nvidia-* ]] || arguments+=(--python-version 3.11 --platform manylinux_2_28_x86_64)
  TMPDIR=$folder/pip python3 -m pip "${arguments[@]}" -d "$folder" -r "$folder/requirement.txt" >>"$ft_log" 2>&1 &
  follow "download $requirement" $! "$folder" "$size" && return
  { grep -iE 'error|hash|no matching|no module' "$ft_log" || true; } | tail -n 4 >&2
  local instead="or point FTENGINE_LIBTORCH at the torch/ folder of a LibTorch $ft_libtorch_version that you have"
  [[ $requirement != pyarrow==* ]] || instead="or point FTENGINE_ARROW_ROOT at an Arrow C++ $ft_arrow_version that you have"
  fail "$requirement could not be fetched; pip's output is in $ft_log" "try it by hand: python3 -m pip ${arguments[*]} \\" \
    "  -d . -r tools/setup.d/requirement.txt, with this line in that file: $requirement --hash=sha256:$sha" "$instead"
}

# unpack WHEEL REQUIREMENT FOLDER PARTS: what is needed of a wheel, to FOLDER.
unpack() {
  local wheel=$1 requirement=$2 folder=$3 parts=" $4 " total
  local patterns=('nvidia/*.so*')
  case $requirement in
    torch==*)
      patterns=('torch/include/*' torch/lib/libtorch_cpu.so torch/lib/libc10.so torch/lib/libgomp.so.1)
      [[ $parts != *" link "* ]] || patterns+=('torch/lib/libtorch_cuda*.so' torch/lib/libc10_cuda.so
        torch/lib/libtorch_nvshmem.so torch/lib/libcaffe2_nvrtc.so)
      ;;
    pyarrow==*) patterns=(pyarrow/libarrow.so.2600 pyarrow/libparquet.so.2600 'pyarrow/include/*') ;;
    nvidia-cuda-runtime* | nvidia-nvvm* | nvidia-cuda-nvcc* | nvidia-cuda-crt* | nvidia-cuda-cccl*) patterns=('nvidia/*') ;;
    *) [[ $parts != *" gpu "* ]] || patterns+=('nvidia/*/include/*') ;;
  esac
  total=$(unzip -l "$wheel" "${patterns[@]}" | tail -n 1 | awk '{print int($1 / 1000000) + 1}')
  unzip -q "$wheel" "${patterns[@]}" -d "$folder" >>"$ft_log" 2>&1 &
  follow "unpack $requirement" $! "$folder" "$total" ||
    fail "$requirement could not be unpacked; the output of unzip is in $ft_log" "is there room in $ft_cache?"
}

# move_tree FROM TO: renames FROM's entries into TO, going down only where TO has that folder already.
move_tree() {
  local entry target
  for entry in "$1"/*; do
    target=$2/${entry##*/}
    if [ -d "$target" ]; then move_tree "$entry" "$target"; else mv -T "$entry" "$target"; fi
  done
}

fetch_wheel() {
  local part=$1 requirement=$2 size=$3 sha=$4 parts=$5 folder
  folder=$(mktemp -d "$ft_cache/.unpack.XXXXXX")
  ft_scratch=$folder
  download "$requirement" "$size" "$sha" "$folder"
  mkdir "$folder/tree"
  unpack "$(echo "$folder"/*.whl)" "$requirement" "$folder/tree" "$parts"
  mkdir -p "$ft_wheel_home/.unpacked"
  move_tree "$folder/tree" "$ft_wheel_home"
  if [[ $requirement == torch==* && " $parts " == *" link "* ]]; then : >"$ft_wheel_home/.unpacked/$requirement+cuda"; fi
  : >"$ft_wheel_home/.unpacked/$requirement"
  rm -rf "$folder"
}

# install_libtorch: fetches what is wanted and absent, under a lock, since two checkouts may be set up at once.
install_libtorch() {
  local parts wheels free megabytes
  parts=$(wanted_parts)
  [ -n "$(wheels_to_unpack $parts)" ] || return 0
  mkdir -p "$ft_cache"
  exec 9>"$ft_cache/lock"
  flock -n 9 || {
    say "LibTorch: another set-up is at work on $ft_cache; waiting for it"
    flock 9
  }
  mapfile -t wheels < <(wheels_to_unpack $parts)
  if [ "${#wheels[@]}" -gt 0 ]; then
    megabytes=$(printf '%s\n' "${wheels[@]}" | awk '{sum += $3} END {print sum}')
    free=$(df -Pm "$ft_cache" | awk 'NR == 2 {print $4}')
    [ "$free" -gt $((megabytes * 3)) ] || fail "LibTorch needs about $((megabytes * 3)) MB in $ft_cache; there are $free MB" \
      "make room, or name another folder in FTENGINE_CACHE"
    say "LibTorch $ft_libtorch_version ($parts): ${#wheels[@]} files, $megabytes MB to download, to $ft_wheel_home"
    for wheel in "${wheels[@]}"; do fetch_wheel $wheel "$parts"; done
    # Linkers and nvcc look for these names, which wheels cannot hold.
    ln -sf libcudart.so.13 "$ft_wheel_home/nvidia/cu13/lib/libcudart.so"
    ln -sfn lib "$ft_wheel_home/nvidia/cu13/lib64"
  fi
  exec 9>&-
}
