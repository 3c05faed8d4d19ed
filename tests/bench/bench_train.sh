#!/bin/bash
# bench_train.sh BUILD [CASE...]: training of BUILD beside torch's on two threads: FP32 and BF16 of each case (gpt2, smollm2,
# smollm2-lora, bert). Ours, torch eager and torch compiled take turns, ROUNDS (2) of them, SECONDS_EACH (8) of steps a turn; the table
# has the medians, and ours over the faster mode of torch. A mode whose turn has not ended after LIMIT (150) seconds is "cut off" and
# has no further turns of this case; from the second on, turns are left out where the MINUTES (33) would not do. TYPES ("F32 BF16") and MODES ("eager compiled") say what there is of them, LAYERS (0: all) how many
# of a model's layers, to try it out. Half an hour on two cores that do nothing else. A python with torch comes from
# tests/golden/requirements.txt, once a machine, or is PYTHON.
set -euo pipefail
build=$1 && shift
here=$(dirname "$0")
python=$("$here/../golden/python")
seconds=${SECONDS_EACH:-8} limit=${LIMIT:-150} layers=${LAYERS:-0}
[ $# -gt 0 ] || set -- gpt2 smollm2 smollm2-lora bert
read -ra types <<<"${TYPES:-F32 BF16}"
share=$((${MINUTES:-33} * 60 / ($# * ${#types[@]}))) finished=0 # seconds for a case and type
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
begin=$SECONDS

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
turn() { # name command...: tokens per second and MiB to $work/name.rate and .memory
    local line rate memory status=0
    [ ! -e "$work/$1.out" ] || return 0
    line=$(timeout -k 5 "$limit" "${@:2}") || status=$?
    if [ $status = 124 ] || [ $status = 137 ]; then
        echo "cut off" >"$work/$1.out"
        line="cut off after $limit s"
    elif [ $status != 0 ]; then
        echo "failed" >"$work/$1.out"
        line="failed ($status)"
    else
        read -r rate _ memory _ <<<"$line"
        echo "$rate" >>"$work/$1.rate"
        echo "$memory" >>"$work/$1.memory"
    fi
    echo "  $1: $line" >&2
}
cell() { # name: what the table says of it
    if [ -e "$work/$1.out" ]; then
        cat "$work/$1.out"
    elif [ -e "$work/$1.rate" ]; then
        printf '%.1f, %.0f MiB' "$(median "$work/$1.rate")" "$(median "$work/$1.memory")"
    else
        echo "-"
    fi
}
faster() { # torch's faster mode that was not cut off
    local mode
    for mode in ${MODES:-eager compiled}; do
        [ -e "$work/$mode.out" ] || [ ! -e "$work/$mode.rate" ] || echo "$(median "$work/$mode.rate") $mode"
    done | sort -rn | awk 'NR == 1 { print $2 }'
}
over() { awk -v a="$(median "$work/llmjob.$2")" -v b="$(median "$work/$1.$2")" 'BEGIN { printf "%.2f", a / b }'; }
one() { # case type
    local i mode best ratios="- | -"
    rm -f "$work"/*
    echo "$1 $2" >&2
    for ((i = 0; i < ${ROUNDS:-2}; i++)); do
        [ $i = 0 ] || [ $((2 * (SECONDS - begin))) -lt $((share * (2 * finished + 1))) ] || break # half of what it may take has gone
        turn llmjob "$build/tests/bench/bench_train" "$1" "$2" "$seconds" 2 "$layers"
        for mode in ${MODES:-eager compiled}; do
            turn "$mode" "$python" "$here/bench_train.py" "$1" "$2" "$mode" "$seconds" 2 "$layers"
        done
    done
    best=$(faster)
    [ -e "$work/llmjob.out" ] || [ -z "$best" ] || ratios="$(over "$best" rate) | $(over "$best" memory)"
    echo "| $1 | $2 | $(cell llmjob) | $(cell eager) | $(cell compiled) | $ratios |"
}

echo "| case | type | llmjob: tokens/s, memory | torch eager | torch compiled | times as fast as torch's faster mode | of its memory |"
echo "|---|---|---|---|---|---|---|"
for case in "$@"; do
    for type in "${types[@]}"; do
        one "$case" "$type"
        finished=$((finished + 1))
    done
done
echo "  $((SECONDS - begin)) s, load $(cut -d ' ' -f 1 /proc/loadavg)" >&2
