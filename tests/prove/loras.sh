#!/bin/bash
# loras.sh [ADAPTERS [MEMORY]]: SmolLM2 with more adapters than memory.
#
# Goal: adapters of 20 MiB are loaded when a request names them, in MEMORY that holds three, and who asks for none waits no second for a
# token meanwhile; what the process takes does not grow with their number. Method: 12 copies of a random adapter of rank 16 of all matrices, each asked
# for while a stream runs (loras.py), two rounds; what the log says was loaded and made room; resident memory after each round.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
count=${1:-12} memory=${2:-64Mi}

verdict() { # what-failed command...
    if "${@:2}"; then pass; else explain "$1" && fail; fi
}
write_job() {
    local i list=""
    "$python" -IS "$top/tests/e2e/random_adapter.py" "$work/data/a1" 1 16 0.01 30 self_attn.q_proj:576:576 \
        self_attn.k_proj:192:576 self_attn.v_proj:192:576 self_attn.o_proj:576:576 mlp.gate_proj:1536:576 mlp.up_proj:1536:576 \
        mlp.down_proj:576:1536
    for ((i = 1; i <= count; i++)); do
        [ "$i" = 1 ] || cp -r "$work/data/a1" "$work/data/a$i"
        list+="{name: a$i, path: /data/a$i}, "
    done
    write_serving "$work/job.yaml" smollm2.gguf BF16
    sed -i "s|serve: {|&contextLength: 2048, adapterMemory: $memory, adapters: [${list%, }], |" "$work/job.yaml"
}
ask() {
    local i names=()
    for ((i = 1; i <= count; i++)); do names+=("a$i"); done
    "$python" -IS "$top/tests/prove/loras.py" "$url" "${names[@]}" | tee "$work/asked"
    return "${PIPESTATUS[0]}"
}
logged() { cat "$work"/tmp/llmjob-*/agent-*.log | grep -c "$1" || true; }
nobody_stalls() { awk -F'at most ' '/adapters are loaded:/ { exit !($2 + 0 < 1000) }' "$work/asked"; }
grown() { [ $((after - before)) -le 24 ]; }

begin
add_smollm2
write_job
start "$A" "data=$work/data" --keep --port 0
url=$(serving) || { explain "serving $count adapters" && fail && exit 1; }
verdict "a round of all adapters" ask
verdict "a stream of the model alone waits" nobody_stalls
before=$(resident "$running")
verdict "another round" ask
after=$(resident "$running")
loads=$(logged 'an adapter is loaded') drops=$(logged 'an adapter makes room')
echo "$loads loads, $drops drops, resident $before MiB after a round, $after after two"
verdict "memory grows" grown
verdict "all were loaded twice" [ "$loads" = $((2 * count)) ]
kill "$running" || true
ended || true
finished=1
