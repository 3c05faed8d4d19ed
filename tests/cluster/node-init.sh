#!/bin/sh
# PID 1 of a node, first half: gives the node its own /var/lib, /var/log and /run, lets the
# containers' mounts propagate inside it, tells `node` that it is there, and becomes the reaper.
# Ending it ends the node.
set -e
dir=$1 name=$2
hostname "$name"
mount --bind "$dir/lib" /var/lib
mount --bind "$dir/log" /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mount --make-rshared /
mkdir -p /run/netns /run/lock
ip link set lo up
: >"$dir/started"
exec "$3"
