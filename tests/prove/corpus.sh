#!/bin/bash
# corpus.sh [MEGABYTES [LIMIT_MB]]: a corpus of 1 GB trains in a pod of 1.5 GiB.
#
# Goal: memory does not grow with the corpus, however long it is. Method: SmolLM2 fine-tuned by `llmjob run` on the King James
# text, again and again with a number before each verse, in a memory cgroup with that limit, page cache included, in which
# agent and rank run; then the same job again, which must not read the text. Needs root and a cgroup that can be made.
. "$(dirname "$0")/../e2e/lib.sh"
megabytes=${1:-1000} limit=${2:-1536}
work=$(mktemp -d -p "${LLMJOB_PROVE_FOLDER:-/var/tmp}")
data=$work/data out=$work/out
clean_up() {
	[ -z "${group:-}" ] || rmdir "$group" 2>/dev/null || { sleep 1; rmdir "$group" 2>/dev/null; } || true
	rm -rf "$work"
}
trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
explain() { tail -n 30 "$out" "$work"/llmjob-*/agent-*.log 2>/dev/null; }

make_group() { # of version 2 or 1
	local top=/sys/fs/cgroup
	if [ -e $top/cgroup.controllers ]; then
		group=$top/llmjob-prove.$$ most=memory.max peak=memory.peak
		grep -qw memory $top/cgroup.subtree_control || return 1
	else
		group=$top/memory/llmjob-prove.$$ most=memory.limit_in_bytes peak=memory.max_usage_in_bytes
	fi
	mkdir "$group" 2>/dev/null && echo $((limit << 20)) >"$group/$most"
}
write_text() {
	awk -v bytes=$((megabytes * 1000000)) '
		{ verse[n++] = $0 }
		END { for (i = 0; size < bytes; i++) { line = i " " verse[i % n]; size += length(line) + 1; print line } }' "$data/kjv.txt" >"$data/text.txt"
}
run() { (echo "$BASHPID" >"$group/cgroup.procs" && TMPDIR=$work exec "$O/llmjob" run "$work/job.yaml" --storage "data=$data" --plain) >"$out" 2>&1; }
killed() { # version 2 or 1; kernels before 4.13 do not count
	cat "$group"/memory.{events,oom_control} 2>/dev/null | awk '$1 == "oom_kill" { n += $2 } END { print n + 0 }'
}

make_group || { group=""; skip "no memory cgroup can be made here"; }
O=$(realpath "$O")
tests/e2e/material "$data"
write_text
sed -E 's/^( *steps:).*/\1 3/; s/^( *replicas:).*/\1 1/; s|kjv.txt$|text.txt|; s/^( *everySteps:).*/\1 0/' manifests/samples/finetune.yaml >"$work/job.yaml"
begun=$SECONDS
check "it completes" run
echo "$(stat -c %s "$data/text.txt") bytes of text, $((SECONDS - begun)) s, peak of the group $(($(cat "$group/$peak") >> 20)) MiB of $limit"
check "nothing was killed for memory" equal "$(killed)" 0
tokens=$(echo "$data"/ckpt/kjv/tokens/*.tokens)
echo "$(stat -c %s "$tokens") bytes of tokens"
check "the tokens alone are more than the limit leaves" [ "$(stat -c %s "$tokens")" -gt $((megabytes * 800000)) ]
inode=$(stat -c %i "$tokens")
sed -i -E 's/^( *steps:).*/\1 3/; s/schedule: Cosine/schedule: Constant/' "$work/job.yaml"
rm -rf "$data/ckpt/kjv"/step-* "$data/ckpt/kjv/incarnation" "$data/out"
begun=$SECONDS
check "it goes on from the tokens" run
echo "the second start with all its steps: $((SECONDS - begun)) s"
check "which are the same" equal "$(stat -c %i "$tokens")" "$inode"
finish
