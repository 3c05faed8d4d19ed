#!/bin/bash
# Goal: tests/run.sh counts truly and never turns a failure into success.
# Method: tiny programs of every behaviour are run through it; its last line and status are compared.
set -u
cd "$(dirname "$0")/.." || exit 1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

program() { # name, body
	printf '#!/bin/sh\n%s\n' "$2" >"$tmp/$1"
	chmod +x "$tmp/$1"
}

expect() { # what, total line, status, programs...
	local what=$1 want=$2 status=$3 got
	shift 3
	got=$(tests/run.sh -t ${limit:-10} "${@/#/$tmp/}" 2>&1)
	local rc=$?
	if [ "$(tail -n 1 <<<"$got")" = "$want" ] && [ $rc -eq "$status" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf '%s: wanted "%s" and status %d, got status %d and\n%s\n' "$what" "$want" "$status" $rc "$got"
	fi
}

program good 'exit 0'
program bad 'exit 3'
program skip 'echo "SKIP: no cluster"; exit 77'
program skip77 'exit 77'
program check 'echo "100%: Checks: 5, Failures: 0, Errors: 0"'
program check2 'echo "50%: Checks: 4, Failures: 1, Errors: 1"; exit 1'
program liar 'echo "100%: Checks: 5, Failures: 0, Errors: 0"; exit 1'
program silent 'echo "50%: Checks: 2, Failures: 1, Errors: 0"; exit 0'
program empty 'echo "100%: Checks: 0, Failures: 0, Errors: 0"'
program noted 'echo "NOTE: on the host"; echo "SKIP: no model"; echo "note: NOTE: not this"'
program own 'echo "7 passed, 0 failed, 2 skipped"'
program slow 'sleep 20'
program late 'sleep 1'
program crash 'kill -SEGV $$'
expect "a plain program counts as one" "1 passed, 0 failed, 0 skipped" 0 good
expect "a failure fails" "1 passed, 1 failed, 0 skipped" 1 good bad
expect "a skip is counted once" "1 passed, 0 failed, 1 skipped" 0 good skip
expect "status 77 is a skip" "0 passed, 0 failed, 1 skipped" 0 skip77
expect "Check's counts add up" "7 passed, 2 failed, 0 skipped" 1 check check2
expect "status overrules counts" "5 passed, 1 failed, 0 skipped" 1 liar
expect "counts overrule status" "1 passed, 1 failed, 0 skipped" 1 silent
expect "a program that ran nothing fails" "0 passed, 1 failed, 0 skipped" 1 empty
expect "a program's own total is taken" "7 passed, 0 failed, 2 skipped" 0 own
limit=1 expect "a time-out fails" "0 passed, 1 failed, 0 skipped" 1 slow
expect "a crash fails" "0 passed, 1 failed, 0 skipped" 1 crash
expect "a missing program fails" "0 passed, 1 failed, 0 skipped" 1 absent
expect "nothing to run fails" "0 passed, 1 failed, 0 skipped" 1

# Each of these two ends when the other has begun.
mkfifo "$tmp/fifo"
program waits "cat $tmp/fifo"
program opens "echo >$tmp/fifo"
if [ "$(tests/run.sh -t 10 "$tmp/waits" "$tmp/good" -- "$tmp/opens" "$tmp/check" | tail -n 1)" = \
	"8 passed, 0 failed, 0 skipped" ]; then
	passed=$((passed + 1))
else
	failed=$((failed + 1))
	echo "what waits does not run beside the others"
fi

# Lines of a program that are shown under its own, in order.
if [ "$(tests/run.sh "$tmp/noted" "$tmp/skip" | grep '^      ')" = "      NOTE: on the host
      SKIP: no model
      SKIP: no cluster" ]; then
	passed=$((passed + 1))
else
	failed=$((failed + 1))
	echo "notes and skips are not shown:"
	tests/run.sh "$tmp/noted" "$tmp/skip"
fi

# Groups add up; the slowest program comes first, then the time, in the end the total.
tests/run.sh -b "$tmp/results"
sed -i "s/.*/began $((EPOCHSECONDS - 100))/" "$tmp/results"
tests/run.sh -g one -r "$tmp/results" "$tmp/check" >/dev/null
tests/run.sh -g two -j 2 -r "$tmp/results" "$tmp/bad" "$tmp/skip" "$tmp/late" >/dev/null
got=$(tests/run.sh -s "$tmp/results" 20)
if [ "$(tail -n 1 <<<"$got")" = "6 passed, 1 failed, 1 skipped" ] &&
	grep -qx '1 min 4[0-9] s of 20' <<<"$got" &&
	[[ $(sed -n 2p <<<"$got") =~ ^\ +1\.[0-9]\ s\ +0\.[0-9]\ \ two\ .*/late$ ]]; then
	passed=$((passed + 1))
else
	failed=$((failed + 1))
	echo "groups do not add up:"
	printf '%s\n' "$got"
	cat "$tmp/results"
fi
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
