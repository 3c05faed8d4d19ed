#!/bin/bash
# Goal: taking the cluster down leaves nothing, from every state that a boot can be left in, and
# says nothing about it. Method: boots are killed after growing delays, then `down`; whatever of
# ours the machine still shows is a failure.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "the local cluster needs root"
down() { tests/cluster/down; }
# What runs one of the cluster's programs. Zombies have none: they are their parent's business.
running() {
	{ find /proc -maxdepth 2 -name exe -lname '*/cluster-*/bin/*' 2>/dev/null || true; } | sort
}

left() {
	find /sys/fs/cgroup -maxdepth 2 -name llmjob-cluster || true
	ip -brief link | grep llmjob || true
	ip route | grep -E '^10\.(200|201|96)\.' || true
	grep llmjob-cluster /proc/mounts || true
	[ ! -e "$state" ] || echo "$state"
	comm -13 <(echo "$elsewhere") <(running)
}
nothing_left() { [ -z "$(left)" ]; }
clean_after() { # command...: a client of the killed boot gives up its connection after 30 s
	"$@" && { poll 45 "the end of everything" nothing_left || equal "$(left)" ""; }
}
killed_boot() { # seconds: a boot that is killed after so long, then down
	local pid
	setsid tests/cluster/up >/dev/null 2>&1 &
	pid=$!
	timeout "$1" tail --pid=$pid -f /dev/null || true
	kill -9 $pid 2>/dev/null || true
	wait $pid 2>/dev/null || true
	clean_after down
}

down
elsewhere=$(running) # somebody else's use of the same binaries
check "down of whatever was there left nothing" equal "$(left)" ""
check "down without a cluster is quiet" equal "$(down 2>&1)" ""
for seconds in 0.1 0.5 1 2 3; do
	check "down after a boot killed at $seconds s leaves nothing" killed_boot $seconds
done
check "a control plane without nodes boots" tests/cluster/up 0
check "a second boot beside it is refused" refuses "a cluster is up" tests/cluster/up 0
rm -rf "$state"
check "down without the state folder leaves nothing" clean_after down
finish
