#!/bin/bash
# Goal: samples.awk accepts a run in which every sample was consumed once a step, and no other.
# Method: a small run of three incarnations is written down, then spoilt in one way at a time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# Steps 1 and 2 by one rank, 3 lost half-way; 2 (lost) and 3 again by two ranks; 4 by three. Batch
# 3, sample = position + 100.
write() {
	rm -f "$work"/*.log
	printf '%s\n' '1 0 3 100 101 102' '2 3 3 103 104 105' >"$work/1-0.log"
	printf '%s\n' '2 3 2 103 104' '3 6 2 106 107' >"$work/2-0.log"
	printf '%s\n' '2 5 1 105' '3 8 1 108' >"$work/2-1.log"
	for rank in 0 1 2; do
		echo "4 $((9 + rank)) 1 $((109 + rank))" >"$work/3-$rank.log"
	done
}
audit() { awk -v batch=3 -v steps=4 -f "$here/samples.awk" "$work"/*.log; }
verdict() { # what wanted-text status
	local output status=0
	output=$(audit) || status=$?
	if [ $status = "$3" ] && grep -qF -- "$2" <<<"$output"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf 'FAILED: %s: status %d\n%s\n' "$1" "$status" "$output"
	fi
}

write
verdict "a good run" "4 steps of 3 samples over 3 incarnations: 0 errors" 0
write && rm "$work/3-1.log"
verdict "a rank's samples are missing" "step 4, incarnation 3: position 10 consumed 0 times" 1
write && echo '4 9 1 109' >>"$work/3-1.log"
verdict "a sample is consumed twice" "step 4, incarnation 3: position 9 consumed 2 times" 1
write && rm "$work"/3-*.log
verdict "a step never ran" "step 4 was never run" 1
write && echo '4 10 1 999' >"$work/3-1.log"
verdict "another sample stands at a position in a rerun" "0 errors" 0
echo '4 10 1 110' >"$work/2-0.log.keep" && mv "$work/2-0.log.keep" "$work/2-2.log"
verdict "two incarnations disagree about a position" "position 10 held sample" 1
write && echo '5 12 3 112 113 114' >>"$work/3-0.log"
verdict "a step beyond the end" "step 5 is outside 1..4" 1
write && echo '4 10 2 110' >"$work/3-1.log"
verdict "a torn line" "2 samples announced, 1 listed" 1
write && printf '%s\n' '4 12 1 112' >"$work/3-2.log"
verdict "a position of another step" "position 11 consumed 0 times" 1
write && echo '3 6 1 106' >"$work/3-3.log"
verdict "a later incarnation ran a step in part" \
	"step 3, incarnation 3: position 7 consumed 0 times" 1
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
