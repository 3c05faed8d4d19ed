#!/bin/bash
# Goal: a demo that is interrupted leaves nothing: no process, no temporary file, no cluster; and what
# was compiled is not compiled again. Method: the demo is run with a mark in its environment, and a
# cache and a folder for temporary files of its own: SIGINT to its process group while packages are
# compiled beside the build, SIGTERM to it alone while a model is trained, SIGHUP in the boot of the
# cluster where its programs are in the cache. The mark is then sought in every process.
set -euo pipefail
cd "$(dirname "$0")/../.."
O=${O:-build}
[ "$(id -u)" = 0 ] || { echo "SKIP: without root nothing is compiled"; exit 77; }
! tests/cluster/alive || { echo "SKIP: a cluster is up"; exit 77; }
root=$(mktemp -d) mark=LLMJOB_INTERRUPTED=$$ passed=0 failed=0 demo=''
models=${LLMJOB_CACHE:-$HOME/.cache/llmjob}/models

marked() { { grep -lzsxF "$mark" /proc/[0-9]*/environ || true; } | cut -d/ -f3; }
none_marked() {
	local pids
	pids=$(marked)
	[ -z "$pids" ] || { ps -o pid,ppid,args -p ${pids//$'\n'/,}; return 1; }
}
trap 'kill -9 $(marked) 2>/dev/null || true; rm -rf "$root"' EXIT
trap 'exit 130' INT TERM HUP

await() { # seconds command...
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do [ $SECONDS -lt $deadline ] && sleep 1 || return 1; done
}
check() { # what command...
	local what=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
		echo "ok: $what"
	else
		failed=$((failed + 1))
		echo "FAILED: $what: $*"
		tail -n 20 "$root/said"
	fi
}
start() { # cache: $demo leads a process group of its own
	mkdir -p "$root/tmp"
	set -m
	env "$mark" TMPDIR="$root/tmp" LLMJOB_CACHE="$1" O="$O" tests/e2e/demo.sh >"$root/said" 2>&1 &
	demo=$!
	set +m
}
said() { grep -q "$1" "$root/said"; }
runs() { [ -n "$(find /proc -maxdepth 2 -name comm -exec grep -lx "$1" {} + 2>/dev/null | cut -d/ -f3 |
	grep -Fx "$(marked)")" ]; } # a marked process of that name
ends() { # status: the demo did, and left nothing
	local status=0
	await 60 none_demo || return 1
	wait $demo || status=$?
	check "it ends with $1" [ $status = "$1" ]
	check "no process is left" none_marked
	check "no file is left" [ -z "$(ls -A "$root/tmp")" ]
	check "no cluster is left" [ ! -e "/sys/fs/cgroup/llmjob-cluster" ]
}
none_demo() { ! kill -0 $demo 2>/dev/null; }
packages() { sort -u "$root"/cache/cluster-*/work/packages 2>/dev/null | wc -l || true; }

echo "-- SIGINT while packages are compiled"
mkdir -p "$root/cache"
[ ! -e "$models" ] || ln -s "$models" "$root/cache/models"
start "$root/cache"
check "a package is compiled" await 600 runs compile
kill -INT -- -$demo
ends 130
before=$(packages)
check "what was compiled is kept" [ "$before" -gt 0 ]

echo "-- SIGTERM while a model is trained"
start "$root/cache"
check "ranks run" await 600 runs llmjob-rank
kill -TERM $demo
ends 130
check "the compiler went on from there" [ "$(packages)" -ge "$before" ]

if [ -z "$(tests/cluster/binaries --progress)" ]; then
	echo "-- SIGHUP in the boot of a cluster"
	start "${LLMJOB_CACHE:-$HOME/.cache/llmjob}"
	check "the boot begins" await 600 said "a Kubernetes of three nodes"
	sleep 2
	kill -HUP -- -$demo
	ends 130
else
	echo "SKIP: the cluster's programs are not in the cache: its boot is not interrupted"
fi
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
