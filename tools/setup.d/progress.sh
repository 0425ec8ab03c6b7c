# What the set-up shows: a line a step, and how far the step is. Sourced by tools/setup, tools/ftengine and tools/test.
# On a terminal the line is drawn again in place; elsewhere a line is written at every tenth of the way.

ft_terminal=0
[ -t 2 ] && [ "${TERM:-dumb}" != dumb ] && ft_terminal=1
ft_shown=-1 # the last tenth written where there is no terminal

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "ftengine: $1"
  shift
  for line in "$@"; do say "  $line"; done
  exit 1
}

# progress LABEL PERCENT DETAIL: PERCENT is an integer; 100 ends the line.
progress() {
  local label=$1 percent=$2 detail=${3:-}
  [ "$percent" -gt 100 ] && percent=100
  if [ "$ft_terminal" = 1 ]; then
    local filled=$((percent / 5)) bar
    bar=$(printf '%*s' "$filled" '' | tr ' ' '#')
    printf '\r\033[K  %s [%-20s] %3d%%  %s' "$label" "$bar" "$percent" "$detail" >&2
    [ "$percent" -lt 100 ] || printf '\n' >&2
  elif [ $((percent / 10)) -ne "$ft_shown" ]; then
    ft_shown=$((percent / 10))
    printf '  %s %d%%  %s\n' "$label" "$percent" "$detail" >&2
  fi
  [ "$percent" -lt 100 ] || ft_shown=-1
}

# follow LABEL PID FOLDER TOTAL_MB: shows the growth of FOLDER until PID ends; returns PID's exit status.
follow() {
  local label=$1 pid=$2 folder=$3 total=$4 size status=0
  while kill -0 "$pid" 2>/dev/null; do
    size=$(du -sm "$folder" 2>/dev/null | cut -f1)
    size=${size:-0}
    [ "$size" -lt "$total" ] || size=$((total - 1))
    progress "$label" $((size * 100 / total)) "$size of $total MB"
    sleep 0.5
  done
  wait "$pid" || status=$?
  if [ "$status" = 0 ]; then
    progress "$label" 100 "$total of $total MB"
  else
    ft_shown=-1
    [ "$ft_terminal" = 0 ] || printf '\n' >&2
  fi
  return "$status"
}
