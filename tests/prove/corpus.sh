#!/bin/bash
# corpus.sh [MEGABYTES [LIMIT_MB]]: a corpus of 1 GB trains in a pod of 1.5 GiB.
#
# Goal: memory does not grow with the corpus, however long it is. Method: SmolLM2 fine-tuned by `llmjob run` on the King James
# text, again and again with a number before each verse, in a memory cgroup with that limit, page cache included, in which
# agent and rank run; then the same job again, which must not read the text. Needs root and a cgroup that can be made.
. "$(dirname "$0")/../e2e/lib.sh"
. "$(dirname "$0")/group.sh"
megabytes=${1:-1000} limit=${2:-1536}
work=$(mktemp -d -p "${LLMJOB_PROVE_FOLDER:-/var/tmp}")
data=$work/data out=$work/out
clean_up() {
	remove_group
	rm -rf "$work"
}
trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
explain() { tail -n 30 "$out" "$work"/llmjob-*/agent-*.log 2>/dev/null; }

write_text() {
	awk -v bytes=$((megabytes * 1000000)) '
		{ verse[n++] = $0 }
		END { for (i = 0; size < bytes; i++) { line = i " " verse[i % n]; size += length(line) + 1; print line } }' "$data/kjv.txt" >"$data/text.txt"
}
run() { in_group env TMPDIR="$work" "$O/llmjob" run "$work/job.yaml" --storage "data=$data" --plain >"$out" 2>&1; }

make_group "$limit" || skip "no memory cgroup can be made here"
O=$(realpath "$O")
tests/e2e/material "$data"
write_text
sed -E 's/^( *steps:).*/\1 3/; s/^( *replicas:).*/\1 1/; s|kjv.txt$|text.txt|; s/^( *everySteps:).*/\1 0/' manifests/samples/finetune.yaml >"$work/job.yaml"
begun=$SECONDS
check "it completes" run
echo "$(stat -c %s "$data/text.txt") bytes of text, $((SECONDS - begun)) s, peak of the group $(group_peak) MiB of $limit"
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
