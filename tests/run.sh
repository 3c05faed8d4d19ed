#!/bin/bash
# run.sh: runs test programs, prints a line for each, adds up what they report, and shows the log of one that failed.
#
#   tests/run.sh [-g group] [-j jobs] [-t seconds] [-r results] [-v] program... [-- program...]
#   tests/run.sh -b results              begins a results file, and its time
#   tests/run.sh -s results [minutes]    the slowest programs in it, what failed, the time since (of so many), the total
#
# A program's exit status is its verdict: 0 passed, 77 skipped, anything else failed. What it counts: Check's lines
# ("Checks: N, Failures: N, Errors: N"), or its own "N passed, N failed, N skipped", else the program itself is one
# test. Each line "SKIP: reason" is one skip, and shown; so is "NOTE: text", what one should know of a program that
# passed. With -r a line for each program is appended to the file, "group program passed failed skipped seconds cpu",
# the last the CPU seconds of it and of all that it waited for, and no total is printed. The last line is the total; the status is non-zero when something failed or nothing ran.
# Programs behind -- wait more than they compute: as many jobs again run them beside the others.
set -u
export LC_ALL=C.UTF-8 # EPOCHREALTIME has a point

group=tests jobs=1 limit=${TEST_SECONDS:-300} results= verbose= only=

total() { # results
	awk 'NF == 7 { p += $3; f += $4; s += $5 }
	     END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit !(f == 0 && p + s > 0) }' "$1"
}

slowest() { # results
	echo "the slowest programs, and their CPU seconds:"
	awk 'NF == 7 { printf "%7.1f s %7.1f  %s %s\n", $6, $7, $1, $2 }' "$1" | sort -rn | head -n 10
	awk 'NF == 7 { sum[$1] += $7 } END { for (g in sum) printf "%7.1f  all of %s\n", sum[g], g }' "$1" | sort -rn
}

failures() { # of one program: name, log; the lines that say what failed, or the last one
	{ grep -E '^FAILED: |^FAIL: |:[FE]:|: error: |^==[0-9]+==ERROR' "$2" || tail -n 1 "$2"; } |
		head -n 20 | cut -c 1-300 | sed "s|^|$1: |"
}

took() { # results minutes
	awk -v now="$EPOCHSECONDS" -v limit="${2:+ of $2}" '
		$1 == "began" { printf "%d min %d s%s\n", int((now - $2) / 60), (now - $2) % 60, limit }' "$1"
}

show() { # of one program: verdict, name, counts, seconds
	printf '%-5s %-40s %4d passed %3d failed %3d skipped  %s s\n' "$@"
}

# Counts from a log as "passed failed skipped"; the status decides where the log is silent or lies.
count() { # log status
	awk -v status="$2" '
		/Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/ {
			match($0, /Checks: .*/); split(substr($0, RSTART), n, /[^0-9]+/)
			p += n[2] - n[3] - n[4]; f += n[3] + n[4]; counted = 1
		}
		/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5; counted = 1 }
		/^SKIP: / { s++ }
		END {
			if (!counted && status == 0 && !s) p = 1
			if (status == 77 && !s) s = 1
			if (status != 0 && status != 77 && !f) f = 1
			if (status == 0 && p + f + s == 0) f = 1 # it ran nothing
			print p + 0, f + 0, s + 0
		}' "$1"
}

run_one() { # program
	local name=${1#*tests/} start=$EPOCHREALTIME log status passed failed skipped
	log=$RUN_TMP/of.$(tr / . <<<"$name")
	if [ -n "$RUN_VERBOSE" ]; then
		timeout -k 10 "$RUN_LIMIT" "$1" 2>&1 </dev/null | tee "$log"
		status=${PIPESTATUS[0]}
	else
		timeout -k 10 "$RUN_LIMIT" "$1" >"$log" 2>&1 </dev/null
		status=$?
	fi
	read -r passed failed skipped < <(count "$log" "$status")
	local seconds cpu verdict=ok
	seconds=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
	times >"$log.times" # not in a subshell, which has waited for nothing
	cpu=$(awk 'NR == 2 { split($1, u, "[ms]"); split($2, k, "[ms]"); printf "%.1f", u[1] * 60 + u[2] + k[1] * 60 + k[2] }' "$log.times")
	[ "$passed" -eq 0 ] && verdict=skip
	[ "$failed" -gt 0 ] && verdict=FAIL
	{
		show "$verdict" "$name" "$passed" "$failed" "$skipped" "$seconds"
		grep -E '^(SKIP|NOTE): ' "$log" | sed 's/^/      /'
		if [ "$verdict" = FAIL ]; then
			failures "$RUN_GROUP $name" "$log" >"$log.failed"
			[ "$status" -ge 124 ] && [ "$status" -le 137 ] && [ "$status" -ne 134 ] &&
				echo "      ended with status $status (limit $RUN_LIMIT s)"
			[ -n "$RUN_VERBOSE" ] || tail -n 200 "$log" | sed 's/^/      | /'
		fi
	} >"$log.show"
	cat "$log.show"
	echo "$RUN_GROUP $name $passed $failed $skipped $seconds $cpu" >"$log.count"
}

while getopts 'g:j:t:r:vb:s:o:' option; do
	case $option in
	g) group=$OPTARG ;;
	j) jobs=$OPTARG ;;
	t) limit=$OPTARG ;;
	r) results=$OPTARG ;;
	v) verbose=1 ;;
	b) rm -f "$OPTARG.failed"
	   echo "began $EPOCHSECONDS" >"$OPTARG"; exit ;;
	s) [ -e "$OPTARG" ] || { echo "0 passed, 0 failed, 0 skipped"; exit 1; }
	   slowest "$OPTARG"
	   [ ! -s "$OPTARG.failed" ] || { echo "what failed:" && sed 's/^/  /' "$OPTARG.failed"; }
	   took "$OPTARG" "${!OPTIND:-}"
	   total "$OPTARG"; exit ;;
	o) only=$OPTARG ;; # one program, in the environment that the outer run.sh made
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
if [ -n "$only" ]; then
	run_one "$only"
	exit
fi

RUN_TMP=$(mktemp -d)
trap 'rm -rf "$RUN_TMP"' EXIT
export RUN_TMP RUN_GROUP=$group RUN_LIMIT=$limit RUN_VERBOSE=$verbose
# The limits in Check's suites are for an idle machine of today; this one may be slow or busy.
export CK_TIMEOUT_MULTIPLIER=${CK_TIMEOUT_MULTIPLIER:-4}
echo "== $group"
lane=first count=0
touch "$RUN_TMP/first" "$RUN_TMP/beside"
for program; do
	[ "$program" != -- ] || { lane=beside && continue; }
	printf '%s\0' "$program" >>"$RUN_TMP/$lane"
	count=$((count + 1))
done
xargs -r0 -n 1 -P "$jobs" -a "$RUN_TMP/beside" "$0" -o &
trap 'kill %1 2>/dev/null; rm -rf "$RUN_TMP"' EXIT
xargs -r0 -n 1 -P "$jobs" -a "$RUN_TMP/first" "$0" -o
wait
cat "$RUN_TMP"/*.count >"$RUN_TMP/all" 2>/dev/null
# A program without counts never came to its end.
ran=$(wc -l <"$RUN_TMP/all")
[ "$ran" -eq $count ] || echo "$group lost 0 $((count - ran)) 0 0 0" >>"$RUN_TMP/all"
[ $count -gt 0 ] || echo "$group nothing 0 1 0 0 0" >>"$RUN_TMP/all"
if [ -n "$results" ]; then
	cat "$RUN_TMP/all" >>"$results" # one write: groups may run side by side
	cat "$RUN_TMP"/*.failed >>"$results.failed" 2>/dev/null
	total "$RUN_TMP/all" >/dev/null
else
	total "$RUN_TMP/all"
fi
