#!/bin/bash
# kv_cache.sh [-n WINDOWS] [TYPE ...]: what a type of the cache of keys and values costs a served model in words, and what it takes.
#
# SmolLM2-135M in Q8_0 with precision FP32, so that nothing else is rounded, is asked for the logprobs of a text's tokens (windows of the
# King James text, as completions that echo their prompts), by a server with each TYPE of spec.serve.kvCache (FP32 BF16 FP16 Q8_0). Prints
# of each perplexity, the mean difference of a token's logprob from FP32's, how many of the likeliest tokens are others, and the bytes
# of the cache. BF16, FP16 and Q8_0 must stay within 0.5 % of FP32's perplexity; half a minute a type.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"

windows=8 words=420
while getopts n: flag; do
    case $flag in n) windows=$OPTARG ;; *) sed -n '2s/^# //p' "$0"; exit 2 ;; esac
done
shift $((OPTIND - 1))
types=("$@")
[ $# -gt 0 ] || types=(FP32 BF16 FP16 Q8_0)

serve() { # type
    write_serving "$work/job.yaml" q8_0/model.gguf FP32
    sed -i "s/serve: {/&kvCache: $1, contextLength: 1024, maxSequences: 4, /" "$work/job.yaml"
    start "$A" "data=$work/data" --keep --port 0
    url=$(serving)
}
score() { # a line a token: its logprob, and the likeliest one
    local i
    for ((i = 0; i < windows; i++)); do
        sed -n "$((i * 37 * words + 1)),$((i * 37 * words + words))p" "$work/words" | tr '\n' ' ' |
            jq -Rs '{model: "m", echo: true, max_tokens: 0, logprobs: 1, prompt: .}' |
            curl -sS --fail-with-body --max-time 600 "$url/completions" -H 'content-type: application/json' -d @- |
            jq -r '.choices[0].logprobs | [.token_logprobs[1:], .top_logprobs[1:]] | transpose[] | "\(.[0]) \(.[1] | to_entries | max_by(.value) | .key | @base64)"'
    done
}
measure() { # type
    serve "$1" && score >"$work/scores.$1" && [ -s "$work/scores.$1" ] || { explain "$1"; return 1; }
    kill "$running"
    ended || true
    bytes=$(sed -n 's/.*cache of keys and values .*bytes=\([0-9]*\).*/\1/p' "$work"/tmp/llmjob-*/agent-*.log | head -n 1)
    paste -d ' ' "$work/scores.FP32" "$work/scores.$1" | awk -v type="$1" -v bytes="$bytes" '
        { sum -= $3; off += $1 > $3 ? $1 - $3 : $3 - $1; other += $2 != $4 }
        END { printf "%-5s perplexity %.4f, logprobs off by %.5f, %.2f %% of %d likeliest tokens others, cache of %.1f MiB\n",
            type, exp(sum / NR), off / NR, 100 * other / NR, NR, bytes / 1048576 }'
    paste -d ' ' "$work/scores.FP32" "$work/scores.$1" | awk '{ a -= $1; b -= $3 } END { r = exp((b - a) / NR); exit !(r > 0.995 && r < 1.005) }'
}

begin
"$top/tests/e2e/kjv" "$work/kjv"
tr -s '[:space:]' '\n' <"$work/kjv" >"$work/words"
add_smollm2
convert_model smollm2.gguf q8_0 'quantize: Q8_0'
[ "${types[0]}" = FP32 ] || types=(FP32 "${types[@]}")
for type in "${types[@]}"; do
    if measure "$type"; then pass; else echo "FAILED: $type" && fail; fi
done
finished=1
