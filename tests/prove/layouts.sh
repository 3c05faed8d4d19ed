#!/bin/bash
# layouts.sh [STEPS [LAYOUT...]]: the time of a step as `llmjob plan` predicts it, beside what it takes, of a small Llama with random
# weights in ten layouts of two and four ranks on this machine: within 20 % each. How many operations a second the machine makes is taken
# from one rank, and shared by the others; links are as the command takes them to be. Each is run twice, in turns, 15 STEPS each time, of
# which the fastest counts: what disturbs only ever slows. A layout is written as in sharding.sh; STEPS are 5 at least. The machine should
# do nothing else. Four minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
steps=${1-15} rounds=2
shift $(($# ? 1 : 0))
[ $# -gt 0 ] || set -- data=2 data=2,zero=1 tensor=2 pipeline=2 data=4 data=4,zero=1 tensor=4 data=2,tensor=2 data=2,pipeline=2 tensor=2,pipeline=2
batch=16 length=64

write_job() { # layout; sets ranks
    local -A o=([data]=1 [tensor]=1 [pipeline]=1 [zero]=0)
    local word
    for word in ${1//,/ }; do o[${word%%=*}]=${word#*=}; done
    ranks=$((o[data] * o[tensor] * o[pipeline]))
    write_training "$work/job.yaml" model=llama init=Random data=text.txt length=$length batch=$batch steps="$steps" save=0 evaluate=0 ranks=$ranks
    sed -i 's|init: Random}|init: Random, config: /data/small.json}|' "$work/job.yaml"
    echo "  parallelism: {data: ${o[data]}, tensor: ${o[tensor]}, pipeline: ${o[pipeline]}, zeroStage: ${o[zero]}}" >>"$work/job.yaml"
}
predict() { # TFLOP/s of a rank: seconds
    "$A/llmjob" plan "$work/job.yaml" --storage "data=$work/data,run=$work/run" --memory 64Gi --tflops "$1" |
        awk '$1 == "*" { for (i = 2; i < NF; i++) if ($(i + 1) == "=") print $i; exit }'
}
measure() { # what: seconds
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run" --rank-program "$work/rank"
    ended || { explain "$1" >&2; return 1; }
    jq -s 'map(select(.seconds and .step > 3) | .seconds) | min' "$work/run/ckpt/metrics.jsonl"
}

begin
add_texts
add_tiny
jq '. + {hidden_size: 256, intermediate_size: 688, num_hidden_layers: 8, num_attention_heads: 8, num_key_value_heads: 4, head_dim: 32,
    max_position_embeddings: 128}' "$work/data/llama/config.json" >"$work/data/small.json"
mkdir "$work/run"
declare -A best
for ((round = 0; round < rounds; round++)); do
    for layout in data=1 "$@"; do
        write_job "$layout"
        seconds=$(measure "$layout") || { fail; break 2; }
        best[$layout]=$(jq -n "[$seconds, ${best[$layout]:-$seconds}] | min")
    done
done
write_job data=1
one=${best[data=1]}
# What one rank would take at 1 TFLOP/s is nearly all operations.
tflops=$(awk -v at="$(predict 0.001)" -v one="$one" 'BEGIN { print 0.001 * at / one }')
printf 'one rank: %.3f s a step, so %.4f TFLOP/s\n%-22s %10s %10s\n' "$one" "$tflops" layout measured predicted
for layout in "$@"; do
    write_job "$layout"
    predicted=$(predict "$(awk -v all="$tflops" -v n=$ranks 'BEGIN { print all / n }')")
    awk -v name="$layout" -v a="${best[$layout]}" -v b="$predicted" '
        BEGIN { printf "%-22s %10.3f %10.3f  %.2f\n", name, a, b, b / a; exit !(b > 0.8 * a && b < 1.2 * a) }' && pass || fail
done
finished=1
