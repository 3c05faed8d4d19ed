#!/bin/bash
# llama_server.sh [-r ROUNDS] [-c CLIENTS,...] [TYPE ...]: this build beside llama-server, in one run and in turns, on the same GGUF file.
#
# SmolLM2-135M in each TYPE (Q8_0 Q4_0), two threads, 16 sequences at once of 1,024 tokens. A turn starts a server, waits for a short
# prompt's first token, and asks: three answers of 128 tokens, three prompts of 512, clients that stream side by side (8, then 32); then
# it looks at the resident memory. Medians of ROUNDS (3) turns of each, which change places. llama-server is the program LLAMA_SERVER;
# else llama.cpp's own server out of llamacpp.txt's package, with a python in its memory. Prints a table; a request that fails fails it. The
# machine should do nothing else. Two minutes a round and type.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"

rounds=3 clients=8,32 threads=2 sequences=16 context=1024
while getopts r:c: flag; do
    case $flag in r) rounds=$OPTARG ;; c) clients=$OPTARG ;; *) sed -n '2s/^# //p' "$0"; exit 2 ;; esac
done
shift $((OPTIND - 1))
types=("$@")
[ $# -gt 0 ] || types=(Q8_0 Q4_0)

now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.3f\n", to - from }'; }
start_ours() { # type
    write_serving "$work/job.yaml" "$1/model.gguf" BF16
    sed -i "s/serve: {/&contextLength: $context, maxSequences: $sequences, /" "$work/job.yaml"
    start "$A" "data=$work/data" --port "$port"
}
start_theirs() { # type
    local model=$work/data/$1/model.gguf
    if [ -n "${LLAMA_SERVER-}" ]; then
        "$LLAMA_SERVER" -m "$model" --port "$port" -t $threads -np $sequences -c $((sequences * context)) --cache-ram 0 >"$work/log" 2>&1 &
    else
        "$theirs" "$top/tests/prove/llama_server.py" "$model" "$port" $threads $sequences $context >"$work/log" 2>&1 &
    fi
    running=$!
}
first_token() { # whether there is one yet
    curl -sf --max-time 60 -o "$work/answer" "$url/completions" -H 'content-type: application/json' \
        -d '{"model": "m", "prompt": "In the beginning", "max_tokens": 1, "temperature": 0}'
}
ask() { # clients requests tokens words: a line of clients.py
    "$python" -IS "$top/tests/prove/clients.py" "$url" m "$@" >"$work/asked" || { cat "$work/asked"; return 1; }
}
figure() { sed -n "s/.*$1 \([0-9.]*\).*/\1/p" "$work/asked"; } # behind a word of that line
note() { echo "$2" >>"$work/figures.$type.$side.$1"; } # figure value
turn() { # of $side with $type
    local port url begun count
    port=$(free_port) url=http://127.0.0.1:$port/v1
    begun=$(now)
    "start_$side" "$type"
    until first_token; do
        kill -0 "$running" 2>/dev/null || { explain "$side"; return 1; }
        sleep 0.005
    done
    note "start to first token, s" "$(since "$begun")"
    ask 1 3 128 8 || return 1
    note "decoding, tokens a second" "$(figure each)"
    ask 1 3 1 497 || return 1
    note "prompt of $(figure 'prompts of'), tokens a second" "$(awk -v n="$(figure 'prompts of')" -v s="$(figure p50)" 'BEGIN { printf "%.0f\n", n / s }')"
    for count in ${clients//,/ }; do
        ask "$count" $((count < 16 ? 2 : 1)) 64 60 || return 1
        note "$count clients, tokens a second" "$(figure clients:)"
        note "$count clients, first token p50, s" "$(figure p50)"
    done
    note "resident, MiB" "$(resident "$running")"
    kill "$running"
    ended || true
}
median() { sort -g "$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
table() { # type
    local file name ours
    printf '%-38s %10s %12s %8s\n' "$1" ours llama-server ratio
    for file in "$work/figures.$1.ours."*; do
        name=${file#"$work/figures.$1.ours."}
        ours=$(median "$file")
        [ ! -f "$work/figures.$1.theirs.$name" ] || awk -v name="$name" -v a="$ours" -v b="$(median "$work/figures.$1.theirs.$name")" \
            'BEGIN { printf "%-38s %10.3f %12.3f %8.2f\n", name, a, b, a / b }'
    done
}

begin
[ -n "${LLAMA_SERVER-}" ] || need_llamacpp
add_smollm2
for type in "${types[@]}"; do convert_model smollm2.gguf "$type" "quantize: $type"; done
for type in "${types[@]}"; do
    for ((round = 0; round < rounds; round++)); do
        sides=(ours theirs)
        [ $((round % 2)) = 0 ] || sides=(theirs ours)
        for side in "${sides[@]}"; do
            if turn; then pass; else fail; fi
        done
    done
    table "$type"
done
finished=1
