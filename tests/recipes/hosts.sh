#!/bin/bash
# Several hosts on one machine: network namespaces, each joined by a cable (veth) to a switch (a bridge), all inside a
# namespace of their own, so that nothing is left of them. Needs no root where users may make namespaces.
#   hosts.sh N FOLDER LINE    runs a line of shell on each host, with HOST from 0, at 10.77.0.(HOST + 1); what host I
#                             says is in FOLDER/host-I.out and .err, its exit code and end (seconds) in .code and .end
# A file FOLDER/pull-I pulls host I's cable, FOLDER/plug-I plugs it in again; pulled-I holds when.
# Leaves with 77 where the namespaces cannot be made, and says why.
set -u
if [ "${1:-}" != inside ]; then
  # With a process namespace: its end is the end of all that was started in it.
  unshare --user --map-root-user --net --pid --fork --kill-child --mount-proc true || exit 77
  exec unshare --user --map-root-user --net --pid --fork --kill-child --mount-proc "$0" inside "$@"
fi
hosts=$2 folder=$3 line=$4
now() { date +%s.%N; }
ip link set lo up && ip link add switch type bridge && ip link set switch up || exit 77
for ((i = 0; i < hosts; i++)); do
  unshare --net sleep 600 &
  pid[i]=$!
  while [ "$(readlink "/proc/${pid[i]}/ns/net")" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
  ip link add "cable$i" type veth peer name eth0 netns "${pid[i]}" && ip link set "cable$i" master switch up || exit 77
  nsenter -t "${pid[i]}" -n sh -c "ip link set lo up && ip addr add 10.77.0.$((i + 1))/24 dev eth0 && ip link set eth0 up" ||
    exit 77
done
for ((i = 0; i < hosts; i++)); do
  (
    HOST=$i nsenter -t "${pid[i]}" -n sh -c "$line" >"$folder/host-$i.out" 2>"$folder/host-$i.err"
    echo $? >"$folder/host-$i.code"
    now >"$folder/host-$i.end"
  ) &
  running[i]=$!
done
(
  while sleep 0.1; do
    for ((i = 0; i < hosts; i++)); do
      [ -e "$folder/pull-$i" ] && rm "$folder/pull-$i" && ip link set "cable$i" down && now >"$folder/pulled-$i"
      [ -e "$folder/plug-$i" ] && rm "$folder/plug-$i" && ip link set "cable$i" up
    done
  done
) &
wait "${running[@]}"
