#!/bin/bash
# kill_matrix.sh [POINT...]: a training of 20 steps by two or three replicas whose ranks end by SIGKILL at labelled points (base/point.h,
# in programs that are built for it): in each phase of a step, each kind of collective, each part of a save, and while the next world
# forms; each point in each rank that has it. `llmjob run` must bring each to its end: from the step behind the last commit, each sample
# of each step once, with the losses, the last checkpoint and the output of ranks that nobody killed, to the bit. With copies in memory (the
# layouts kept-*) it goes on at most one step before what was told last, also when a pod of three ends with its memory. With LLMJOB_SAMPLE=n one
# in n is tried, by LLMJOB_SEED. Fifteen minutes on two cores.
cd "$(dirname "$0")/../.."
O=${O:-build}
env -u MAKEFLAGS -u MAKELEVEL make -s -j"$(nproc)" FAULT=1 O="$O-fault" KERNELS="$(realpath "$O")/libkernels.a" \
    "$O-fault"/llmjob{,-agent,-rank} || exit 1
A=$(realpath "$O-fault") B=$A
. tests/prove/lib.sh
steps=20 every=4 batch=6
one_in=${LLMJOB_SAMPLE:-1} seed=${LLMJOB_SEED:-1} number=0
echo "LLMJOB_SAMPLE=$one_in LLMJOB_SEED=$seed"
wanted=" $* "

# Layout, replicas, and what the job has beside.
layouts='slices 3 zeroStage: 1
whole 2 zeroStage: 0
stages 2 pipeline: 2
sequences 2 context: 2
experts 2 expert: 2
kept-whole 2 zeroStage: 0
kept-slices 2 zeroStage: 1
kept-tensor 2 tensor: 2
kept-stages 2 pipeline: 2
kept-pods 3 zeroStage: 1'
# Layout, the ranks that have the point, steps done, the step that is next after it (or another: the leader commits while others wait at the
# barrier), deaths of later worlds, point. Where copies are kept in
# memory the next may be the one before: a rank may end before it has made its own.
deaths='slices 012 10 9 - forward
slices 012 10 9 - backward
slices 012 10 9 - collective
slices 012 10 9 - reduce-scatter
slices 012 10 9 - allgather
slices 012 10 9 - optimizer
slices 012 10 9 - allreduce
slices 012 12 9 - checkpoint
slices 012 12 9 - shard
slices 012 12 9 - fsync
slices 012 12 9 - rename
slices 0 12 9 - manifest
slices 0 12 13 - prune
slices 0 12 13 - barrier
slices 12 12 9|13 - barrier
slices 012 20 17 - shard
slices 012 0 9 forward:10:1:1 connect
slices 0 0 9 manifest:12:0:1 claim
slices 012 0 9 shard:12:2:1 broadcast
slices 012 0 9 forward:10:0:1 load
whole 01 11 9 - allreduce
whole 01 3 1 - optimizer
stages 01 10 9 - exchange
stages 01 12 9 - fsync
sequences 01 10 9 - allgather
experts 01 10 9 - all-to-all
experts 01 12 9 - rename
kept-slices 01 10 11 - forward
kept-slices 01 10 11 - backward
kept-slices 01 10 11 - collective
kept-slices 01 10 11 - reduce-scatter
kept-slices 01 10 11 - allgather
kept-slices 01 10 11 - optimizer
kept-slices 01 10 11 - allreduce
kept-slices 01 10 10 - copy
kept-slices 01 10 10 - seal
kept-slices 01 10 11 - cross
kept-slices 01 12 12 - shard
kept-slices 01 12 12 - fsync
kept-slices 01 12 12 - rename
kept-slices 0 12 12 - manifest
kept-slices 0 12 13 - prune
kept-slices 01 12 13 - barrier
kept-slices 01 0 11 forward:10:1:1 recall
kept-slices 01 0 11 forward:10:0:1 load
kept-whole 01 10 11 - optimizer
kept-whole 01 10 10 - seal
kept-whole 01 10 11 - cross
kept-tensor 01 10 11 - forward
kept-tensor 01 10 11 - allreduce
kept-tensor 01 10 10 - seal
kept-stages 01 10 11 - exchange
kept-stages 01 10 10 - copy
kept-stages 01 10 11 - cross'

write_job() { # layout
    local name replicas more
    read -r name replicas more <<<"$(grep "^$1 " <<<"$layouts")"
    local with=(model=llama)
    [ "$name" != experts ] || with+=(init="Random, config: /data/mixture.json")
    write_training "$work/job.yaml" replicas="$replicas" steps=$steps save=$every evaluate=0 batch=$batch "${with[@]}"
    echo "  parallelism: {$more}" >>"$work/job.yaml"
    # What a death costs is told to the step: not how far a thread had come.
    sed -i 's/everySeconds: 0}/everySeconds: 0, asynchronous: false}/' "$work/job.yaml"
    [[ $name != kept-* ]] || sed -i 's/everySeconds: 0,/everySeconds: 0, inMemoryEverySteps: 1,/' "$work/job.yaml"
    rm -rf "$work/run"
    mkdir "$work/run"
}
losses() { jq -c 'select(.loss and .learningRate) | [.step, .loss, .gradientNorm]' "$work/run/ckpt/metrics.jsonl" | tac | awk -F, '!seen[$1]++' | tac; }
# What is learnt, to the bit: the files of the last checkpoint have their hashes for names.
learnt() {
    (cd "$work/run/ckpt/step-000000$steps" && ls rank-*)
    sha256sum <"$work/run/out/model.safetensors"
}
first_step() { # of the newest world
    local logs=$work/run/ckpt/samples
    awk '{ print $1; exit }' "$logs/$(find "$logs" -name '*-0.log' -size +0 -printf '%f\n' | sort -n | tail -n 1)"
}
run_job() { # layout deaths
    write_job "$1"
    LLMJOB_DIE_AT=$2 start "$A" "data=$work/data,run=$work/run"
    ended
}
undisturbed() { # layout
    [ ! -e "$work/want.$1" ] || return 0
    run_job "$1" "" && losses >"$work/losses.$1" && learnt >"$work/want.$1" && [ "$(wc -l <"$work/losses.$1")" = $steps ]
}
ends_well() { # layout deaths first
    run_job "$1" "$2" || return 1
    local died
    died=$(tr ',' '\n' <<<"$2" | wc -l)
    [ "$(grep -c ' ended .*: RankFailed of rank' "$work/log")" = "$died" ] || { echo "not $died deaths"; return 1; }
    local first
    first=$(first_step)
    [[ "|$3|" == *"|$first|"* ]] || { [[ $1 == kept-* ]] && [ "$first" = $(($3 - 1)) ]; } ||
        { echo "went on from step $first, not $3"; return 1; }
    awk -v batch=$batch -v steps=$steps -f "$top/tests/e2e/samples.awk" "$work"/run/ckpt/samples/*.log || return 1
    losses | diff "$work/losses.$1" - || { echo "other losses"; return 1; }
    learnt | diff "$work/want.$1" - || { echo "other bits"; return 1; }
}

begin
add_texts
add_tiny
jq -n '{model_type: "qwen3_moe", vocab_size: 256, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1,
    head_dim: 16, intermediate_size: 64, moe_intermediate_size: 32, num_experts: 6, num_experts_per_tok: 2, norm_topk_prob: true}' \
    >"$work/data/mixture.json"
while read -r layout ranks round first before point; do
    [ "$wanted" = "  " ] || [[ $wanted == *" $point "* ]] || continue
    for ((i = 0; i < ${#ranks}; i++)); do
        rank=${ranks:i:1} number=$((number + 1))
        [ $(((number + seed) % one_in)) = 0 ] || continue
        undisturbed "$layout" || { explain "$layout, undisturbed"; fail; break 2; }
        [ "$before" = - ] && at=$point:$round:$rank:1 || at=$before,$point:$round:$rank:2
        if said=$(ends_well "$layout" "$at" "$first"); then
            pass
            echo "ok: $layout $at"
        else
            echo "$said"
            explain "$layout $at"
            fail
        fi
    done
done <<<"$deaths"

# One of three pods ends, its agent and so its rank, and all that was in its memory: each in turn, once step 10 is told.
told() { # the greatest step
    local n
    n=$(jq -s 'map(.step // 0) | max // 0' "$work/run/ckpt/metrics.jsonl" 2>/dev/null) || n=0
    echo "${n:-0}"
}
agent_of() { # pod: its process
    local pid
    for pid in $(pgrep -P "$(pgrep -P "$running")"); do
        [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") != *" --replica $1 "* ]] || echo "$pid"
    done
}
lose_pod() { # pod
    write_job kept-pods
    local last="" first
    LLMJOB_DIE_AT="" start "$A" "data=$work/data,run=$work/run"
    for ((n = 0; n < 3000; n++)); do
        [ "$(told)" -lt 10 ] || break
        sleep 0.02
    done
    kill -KILL "$(agent_of "$1")" || { echo "no agent of pod $1"; return 1; }
    ended || return 1
    last=$(jq -s '[.[] | select(.loss and .learningRate) | .step] | [range(1; length) as $i | select(.[$i] <= .[$i - 1]) | .[$i - 1]] | first' \
        "$work/run/ckpt/metrics.jsonl")
    first=$(first_step)
    [ "$first" -gt 10 ] && { [ "$last" = null ] || [ "$first" -ge "$last" ]; } || { echo "step $last was told, and it went on from $first"; return 1; }
    losses | diff "$work/losses.kept-pods" - || { echo "other losses"; return 1; }
    learnt | diff "$work/want.kept-pods" - || { echo "other bits"; return 1; }
    echo "ok: pod $1 ended behind step ${last/null/$((first - 1))}, it went on from $first"
}
if [ "$wanted" = "  " ] || [[ $wanted == *" pod "* ]]; then
    undisturbed kept-pods || { explain "kept-pods, undisturbed"; fail; }
    for pod in 0 1 2; do
        if lose_pod $pod; then pass; else explain "pod $pod"; fail; fi
    done
fi

# A flipped bit in the newest checkpoint of a training that was over: told, set aside, and the steps since the one before done again.
damage() {
    local file
    run_job whole "" || return 1
    file=$(find "$work/run/ckpt/step-000000$steps" -name 'rank-00001-*')
    printf '\377' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 3)) conv=notrunc status=none
    start "$A" "data=$work/data,run=$work/run"
    ended || return 1
    grep -F "step-000000$steps.damaged" "$work/log" || { echo "nothing is said"; return 1; }
    [ "$(first_step)" = 17 ] || { echo "went on from step $(first_step)"; return 1; }
    learnt | diff "$work/want.whole" - || { echo "other bits"; return 1; }
}
if [ "$wanted" = "  " ] || [[ $wanted == *" damage "* ]]; then
    undisturbed whole && said=$(damage) && pass || { echo "$said"; explain damage; fail; }
fi
finished=1
