#!/bin/bash
# bench_train.sh BUILD [CASE...]: training of BUILD beside torch's, one after the other on two threads: FP32 and BF16 of each case
# (gpt2, smollm2, smollm2-lora, bert), ROUNDS times (2); tokens per second and peak memory, medians, and ours over torch's faster mode.
# SECONDS_EACH (20) of steps are timed a run; TYPES ("F32 BF16") and MODES ("eager compiled") say what of them. A python with torch
# comes from tests/golden/requirements.txt, once a machine, or is PYTHON.
set -euo pipefail
build=$1 && shift
here=$(dirname "$0")
python=$("$here/../golden/python")
seconds=${SECONDS_EACH:-20}
[ $# -gt 0 ] || set -- gpt2 smollm2 smollm2-lora bert
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
run() { # name command...
    local line rate memory
    line=$("${@:2}")
    echo "  $1: $line" >&2
    read -r rate _ memory _ <<<"$line"
    echo "$rate" >>"$work/$1.rate"
    echo "$memory" >>"$work/$1.memory"
}
one() { # case type
    local mode ours theirs rate best=0 less
    rm -f "$work"/*
    for ((i = 0; i < ${ROUNDS:-2}; i++)); do
        run llmjob "$build/tests/bench/bench_train" "$1" "$2" "$seconds" 2
        for mode in ${MODES:-eager compiled}; do
            run "$mode" "$python" "$here/bench_train.py" "$1" "$2" "$mode" "$seconds" 2
        done
    done
    for mode in ${MODES:-eager compiled}; do
        rate=$(median "$work/$mode.rate")
        if awk "BEGIN { exit !($rate > $best) }"; then
            best=$rate theirs=$mode
        fi
    done
    ours=$(median "$work/llmjob.rate")
    less=$(median "$work/llmjob.memory")
    awk -v c="$1" -v t="$2" -v a="$ours" -v b="$best" -v m="$theirs" -v x="$less" -v y="$(median "$work/$theirs.memory")" \
        'BEGIN { printf "%-13s %-4s  llmjob %7.1f tokens/s %5d MiB   torch %-8s %7.1f tokens/s %5d MiB   %.2f times as fast, %.2f of the memory\n",
            c, t, a, x, m, b, y, a / b, x / y }'
}
for case in "$@"; do
    for type in ${TYPES:-F32 BF16}; do
        one "$case" "$type"
    done
done
