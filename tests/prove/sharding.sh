#!/bin/bash
# sharding.sh [STEPS [LAYOUT...]]: SmolLM2-135M on the King James text, FP32, by one rank and by several that share it: losses within
# 1e-5 of one rank's at every step (30), and the memory that each rank planned and took. A layout is words of data=N, tensor=N,
# pipeline=N, zero=N joined by commas. Then the memory of a GPT-2 of 124M parameters in BF16 with AdamW, on four ranks of a pod each:
# with zeroStage 3 a rank takes at most 40 % of what it takes without, and what was planned to 10 %, both beside what a process takes for
# next to no model; no model is written. Twenty minutes on two cores, and 12 GiB.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
steps=${1-30}
shift $(($# ? 1 : 0))
[ $# -gt 0 ] || set -- data=2 tensor=2 tensor=3 pipeline=2 data=2,zero=1 data=2,zero=2 data=2,zero=3 tensor=2,pipeline=2

train() { # layout: a line a step, "step loss", to $work/losses.layout
    local -A o=([data]=1 [tensor]=1 [pipeline]=1 [zero]=0)
    local word
    for word in ${1//,/ }; do o[${word%%=*}]=${word#*=}; done
    write_training "$work/job.yaml" model=smollm2.gguf data=kjv.txt length=128 batch=4 steps="$steps" save=0 evaluate=0 \
        rate=0.0001 ranks=$((o[data] * o[tensor] * o[pipeline]))
    cat >>"$work/job.yaml" <<-E
	  parallelism: {tensor: ${o[tensor]}, pipeline: ${o[pipeline]}, zeroStage: ${o[zero]}}
	E
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run" --rank-program "$work/rank"
    ended || { explain "$1"; fail; return 1; }
    jq -r 'select(.loss) | "\(.step) \(.loss)"' "$work/run/ckpt/metrics.jsonl" >"$work/losses.$1"
    [ "$(wc -l <"$work/losses.$1")" = "$steps" ] || { explain "$1: not $steps losses"; fail; return 1; }
    printf '%s: %s tokens/s, at most %d MiB a rank\n' "$1" "$(facts rates "$work/run/board" 3)" \
        $(($(sort -n "$work/peaks" | tail -n 1) / 1024))
}

planned() { # MiB, as rank 0 of what was started says: its log goes with the job
    local bytes
    while kill -0 "$running" 2>/dev/null; do
        bytes=$(sed -n 's/.* plan data=.* bytes=\([0-9]*\) .*/\1/p' "$work"/tmp/llmjob-*/agent-*.log 2>/dev/null | head -n 1) || true
        [ -z "$bytes" ] || { echo $((bytes >> 20)) && return; }
        sleep 0.1
    done
    echo 0
}
train_gpt2() { # shape stage: what a rank took at most and what was planned, MiB, to $work/took.shape.stage and planned.shape.stage
    write_training "$work/job.yaml" model=llama data=kjv.txt length=64 batch=4 steps=5 save=0 evaluate=0 \
        precision=BF16 init=Random replicas=4
    sed -i "s|init: Random|&, config: /data/$1.json|" "$work/job.yaml"
    sed -i "s|everySeconds: 0|&, asynchronous: false|" "$work/job.yaml" # its copy is in no figure here
    printf '    exportedBy: nobody\n  parallelism: {zeroStage: %d}\n' "$2" >>"$work/job.yaml"
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run" --rank-program "$work/rank"
    planned >"$work/planned.$1.$2"
    ended || { explain "$1, stage $2"; fail; return 1; }
    echo $(($(sort -n "$work/peaks" | tail -n 1) / 1024)) >"$work/took.$1.$2"
    printf '%s, zeroStage %d: at most %d MiB a rank, planned %d\n' "$1" "$2" "$(<"$work/took.$1.$2")" "$(<"$work/planned.$1.$2")"
}

begin
add_smollm2
"$top/tests/e2e/kjv" "$work/data/kjv.txt"
train one
for layout in "$@"; do
    train "$layout" || continue
    paste "$work/losses.one" "$work/losses.$layout" | awk -v name="$layout" '
        { off = $4 / $2 - 1; off = off < 0 ? -off : off; most = off > most ? off : most; last = off }
        END { printf "%s: at most %.1e from one rank, %.1e in the last step\n", name, most, last; exit most > 1e-5 }' && pass || fail
done

add_texts
add_tiny # for a small tokenizer
shape='{"model_type": "gpt2", "vocab_size": 50257, "n_embd": %d, "n_layer": %d, "n_head": 12, "n_positions": 1024, "layer_norm_epsilon": 1e-5}'
printf "$shape" 24 1 >"$work/data/nothing.json"
printf "$shape" 768 12 >"$work/data/gpt2.json"
if train_gpt2 nothing 0 && train_gpt2 gpt2 0 && train_gpt2 gpt2 3; then
    own=$(<"$work/took.nothing.0")
    [ $((($(<"$work/took.gpt2.3") - own) * 10)) -le $((($(<"$work/took.gpt2.0") - own) * 4)) ] && pass || fail
    planned=$(<"$work/planned.gpt2.3")
    off=$(($(<"$work/took.gpt2.3") - own - planned))
    [ $((${off#-} * 10)) -le $planned ] && pass || fail
fi
finished=1
