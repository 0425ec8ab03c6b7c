# Arrow, which reads Parquet and Arrow files: an optional component. Sourced by tools/setup, tools/ftengine and tools/test,
# after libtorch.sh. Its two libraries and its headers are unpacked from the wheel of pyarrow into
# $ft_cache/arrow-VERSION, which appears whole, once for all checkouts. Without it the rest is built as ever.

ft_arrow_version=26.0.1
ft_arrow_home=$ft_cache/arrow-$ft_arrow_version
ft_arrow=${FTENGINE_ARROW:-auto} # off: neither fetched nor built

wants_arrow() { [ "${ft_arrow,,}" != off ]; }

# given_arrow: prints the Arrow that the user points at, nothing where there is none.
given_arrow() {
  local prefixes prefix
  [ -z "${FTENGINE_ARROW_ROOT:-}" ] || {
    echo "$FTENGINE_ARROW_ROOT"
    return
  }
  IFS=':;' read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]}"; do
    for place in "$prefix" "$prefix/pyarrow"; do
      if [ -f "$place/include/parquet/arrow/reader.h" ]; then
        echo "$place"
        return
      fi
    done
  done
}

# arrow_to_build: prints the Arrow that the plugin is built with, nothing where it is not built.
arrow_to_build() {
  local given
  wants_arrow || return 0
  given=$(given_arrow)
  [ -n "$given" ] && echo "$given" || { [ ! -d "$ft_arrow_home" ] || echo "$ft_arrow_home"; }
}

# arrow_to_fetch: true where Arrow is wanted, and there is none.
arrow_to_fetch() { wants_arrow && [ -z "$(given_arrow)" ] && [ ! -d "$ft_arrow_home" ]; }

# fetch_arrow FOLDER: fails where it cannot be fetched or unpacked, having said why.
fetch_arrow() {
  local part requirement size sha folder=$1
  read -r part requirement size sha < <(grep '^arrow ' "$ft_root/tools/setup.d/wheels.txt")
  download "$requirement" "$size" "$sha" "$folder"
  mkdir "$folder/tree"
  unpack "$(echo "$folder"/*.whl)" "$requirement" "$folder/tree" "$part"
}

# install_arrow: fetches it. What fails is said, and the set-up goes on.
install_arrow() {
  local folder
  arrow_to_fetch || return 0
  mkdir -p "$ft_cache"
  exec 9>"$ft_cache/lock"
  flock 9
  if arrow_to_fetch; then
    say "Arrow $ft_arrow_version, to read Parquet and Arrow files (--no-arrow goes without): 55 MB to download, to $ft_arrow_home"
    folder=$(mktemp -d "$ft_cache/.unpack.XXXXXX")
    ft_scratch=$folder
    if (fetch_arrow "$folder"); then
      chmod 755 "$folder/tree/pyarrow"
      mv -T "$folder/tree/pyarrow" "$ft_arrow_home"
    else
      say "  without Arrow: all but Parquet and Arrow files can be read; tools/setup tries it again"
    fi
    rm -rf "$folder"
  fi
  exec 9>&-
}
