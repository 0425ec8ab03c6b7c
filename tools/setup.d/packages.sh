# Debian's packages. Sourced by tools/setup.

build_packages=(g++ cmake ninja-build mold ccache
  libluajit-5.1-dev libyaml-cpp-dev libspdlog-dev libfmt-dev libpcre2-dev libutf8proc-dev nlohmann-json3-dev libxxhash-dev
  zlib1g-dev libzstd-dev libgloo-dev libgtest-dev libgmock-dev)
lint_packages=(clang-format lua-check)
download_packages=(python3-pip unzip ca-certificates) # the clients that fetch and unpack LibTorch, when it must be fetched

# missing_packages NAME...: those that are not installed, one a line.
missing_packages() {
  local installed
  installed=$({ dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null || true; } | sed -n 's/^ii *//p')
  for package in "$@"; do
    grep -qxF "$package" <<<"$installed" || echo "$package"
  done
}

# as_root COMMAND...: as it is for root, by sudo for others.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# apt LABEL ARGUMENT...: apt-get with its own progress shown and its output in $ft_log. The status channel is opened inside
# the shell that sudo starts, since sudo closes what it inherits.
apt() {
  local label=$1
  shift
  as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C sh -c '
      log=$1; shift
      exec apt-get -q -y -o DPkg::Lock::Timeout=600 -o APT::Status-Fd=3 -o Dpkg::Use-Pty=0 "$@" 3>&1 >>"$log" 2>&1' \
    sh "$ft_log" "$@" </dev/null | {
    while IFS=: read -r kind item percent text; do
      percent=${percent%%.*}
      [ "${percent:-0}" -lt 100 ] || percent=99
      case $kind in
        dlstatus) progress "$label: download" "${percent:-0}" "$text" ;;
        pmstatus) progress "$label: install" "${percent:-0}" "${text%% (*}" ;;
      esac
    done
    [ "$ft_terminal" = 0 ] || printf '\r\033[K' >&2
  }
  return "${PIPESTATUS[0]}"
}

# install_packages NAME...: installs what is missing, or ends with the command that would.
install_packages() {
  local missing command
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  command="apt-get install -y --no-install-recommends ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    fail "these packages (Debian's names) are not installed: ${missing[*]}" \
      "this system has no apt-get; install them by its own means, then run: tools/setup --no-packages"
  fi
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "these packages are not installed: ${missing[*]}" \
      "there is no sudo here; as root run: $command"
    command="sudo $command"
  fi
  say "Debian packages: ${#missing[@]} to install (${missing[*]})"
  apt "package lists" update || apt_failed "$command"
  apt "packages" install --no-install-recommends "${missing[@]}" || apt_failed "$command"
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" = 0 ] || apt_failed "$command"
  say "  packages: done"
}

apt_failed() {
  tail -n 5 "$ft_log" >&2
  fail "apt-get did not install the packages; its output is in $ft_log" "try it by hand: $1"
}
