#!/bin/bash
# axes.sh [-r ROUNDS] [-s STEPS] [-l LENGTH] [-b BATCH] [AXIS...]: tokens a second of SmolLM2 trained in FP32 by two ranks of a thread each that share
# the batch (data, in one pod; pods, in two, over TCP on loopback, with gradients crossing beside backward), the layers' matrices (tensor) or the
# layers (pipeline; interleaved: in three runs each, virtualStages), beside two processes of torch's DistributedDataParallel over Gloo
# (ddp): BATCH (4) sequences of LENGTH (512) a step, STEPS (8) of them a turn; all take turns, ROUNDS (2) of them. A table of medians. By data
# at least 1.5 times as fast as torch, by tensor and interleaved stages at least 0.85 of data. Half an hour on two cores that do nothing
# else, and 9 GiB.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/../prove/lib.sh"
rounds=2 steps=8 length=512 batch=4
while getopts r:s:l:b: option; do
    case $option in
    r) rounds=$OPTARG ;;
    s) steps=$OPTARG ;;
    l) length=$OPTARG ;;
    b) batch=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- data pods tensor pipeline interleaved ddp

median() { sort -n "$work/$1.$2" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
ours() { # axis: as ddp.py prints it
    local ranks=2 replicas=1 parallelism=""
    case $1 in
    pods) ranks=1 replicas=2 ;;
    tensor | pipeline) parallelism="$1: 2" ;;
    interleaved) parallelism="pipeline: 2, virtualStages: 3" ;;
    esac
    write_training "$work/job.yaml" model=smollm2.gguf data=kjv.txt length="$length" batch=$batch steps=$((steps + 2)) save=0 evaluate=0 \
        rate=0.0001 recompute=None ranks=$ranks replicas=$replicas
    printf '    exportedBy: nobody\n  parallelism: {%s}\n' "$parallelism" >>"$work/job.yaml"
    rm -rf "$work/run"
    mkdir "$work/run"
    OMP_NUM_THREADS=1 start "$A" "data=$work/data,run=$work/run" --rank-program "$work/rank"
    ended || { explain "$1" >&2; return 1; }
    echo "$(facts rates "$work/run/board" 3) tokens/s $(($(sort -n "$work/peaks" | tail -n 1) / 1024)) MiB"
}
turn() { # axis
    local rate memory line
    if [ "$1" = ddp ]; then
        line=$("$("$top/tests/golden/python")" "$top/tests/bench/ddp.py" "$steps" $batch "$length")
    else
        line=$(ours "$1")
    fi || { fail; return 0; }
    read -r rate _ memory _ <<<"$line"
    echo "$rate" >>"$work/$1.rate"
    echo "$memory" >>"$work/$1.memory"
    echo "  $1: $line" >&2
}
reaches() { # axis share other
    [ -e "$work/$1.rate" ] && [ -e "$work/$3.rate" ] || return 0
    awk -v a="$(median "$1" rate)" -v b="$(median "$3" rate)" -v at="$2" -v what="$1 over $3" \
        'BEGIN { printf "%s: %.2f (at least %s)\n", what, a / b, at; exit !(a >= at * b) }' && pass || fail
}

begin
add_smollm2
"$top/tests/e2e/kjv" "$work/data/kjv.txt"
for ((i = 0; i < rounds; i++)); do
    for axis in "$@"; do turn "$axis"; done
done
printf '| axis | tokens/s | MiB a rank |\n|---|---|---|\n'
for axis in "$@"; do
    [ ! -e "$work/$axis.rate" ] || printf '| %s | %.1f | %.0f |\n' "$axis" "$(median "$axis" rate)" "$(median "$axis" memory)"
done
reaches data 1.5 ddp
reaches pods 1.5 ddp
reaches tensor 0.85 data
reaches interleaved 0.85 data
finished=1
