# group.sh: a memory cgroup of version 2 or 1, with a limit in MiB, page cache included. Sourced by proofs behind ../e2e/lib.sh.
# Needs root.
group=""
make_group() { # limit
	local root=/sys/fs/cgroup
	if [ -e $root/cgroup.controllers ]; then
		group=$root/llmjob-prove.$$ most=memory.max peak=memory.peak
		grep -qw memory $root/cgroup.subtree_control || return 1
	else
		group=$root/memory/llmjob-prove.$$ most=memory.limit_in_bytes peak=memory.max_usage_in_bytes
	fi
	mkdir "$group" 2>/dev/null && echo $(($1 << 20)) >"$group/$most" || { group=""; return 1; }
}
in_group() { (echo "$BASHPID" >"$group/cgroup.procs" && exec "$@"); }
group_peak() { echo $(($(cat "$group/$peak") >> 20)); } # MiB
killed() { # version 2 or 1; kernels before 4.13 do not count
	cat "$group"/memory.{events,oom_control} 2>/dev/null | awk '$1 == "oom_kill" { n += $2 } END { print n + 0 }'
}
remove_group() { [ -z "$group" ] || rmdir "$group" 2>/dev/null || { sleep 1; rmdir "$group" 2>/dev/null; } || true; }
