#!/bin/bash
# checkpoints.sh BUILD: what checkpoints cost a training. A Llama of 21 M parameters from random weights, FP32, AdamW, so 237 MiB a
# checkpoint; ROUNDS (2) times STEPS (16) steps of 2,048 tokens without a save, with one each EVERY (5) steps that is written behind it, and
# with one that it waits for, and with a copy in memory behind each step in place of saves, in turns. A step is what it took and what it stood still for a save. The first two of a run and the
# last save, which is waited for, do not count. FOLDER (in build/): where checkpoints go. REPLICAS (1): with more, ZeRO stage 1 divides the state,
# and copies cross. RUNS (none behind waits kept): which of them. Four minutes on two cores that do nothing else.
. "$(dirname "$0")/../prove/lib.sh"

[ $# -eq 1 ] || { sed -n '2s/^# //p' "$0"; exit 2; }
A=$(realpath "$1") B=$A
rounds=${ROUNDS:-2} steps=${STEPS:-16} every=${EVERY:-5} runs=${RUNS:-none behind waits kept}

make_model() {
    cp -r "$top/tests/golden/tiny-llama" "$work/data/llama"
    facts tokenizer "$work/data/text.txt" 256 "$work/data/llama/tokenizer.json"
    jq -n '{architectures: ["LlamaForCausalLM"], model_type: "llama", vocab_size: 256, hidden_size: 512, intermediate_size: 1536,
        num_hidden_layers: 6, num_attention_heads: 8, num_key_value_heads: 8, max_position_embeddings: 512, rms_norm_eps: 1e-5,
        rope_theta: 10000, tie_word_embeddings: true}' >"$work/data/config.json"
}
write_job() { # everySteps asynchronous inMemoryEverySteps
    write_training "$work/job.yaml" model=llama init=Random replicas="${REPLICAS:-1}" length=128 batch=16 steps="$steps" save="$1" evaluate=0
    sed -i "s|init: Random|init: Random, config: /data/config.json|; s|everySeconds: 0|everySeconds: 0, asynchronous: $2, inMemoryEverySteps: $3|" "$work/job.yaml"
    [ "${REPLICAS:-1}" = 1 ] || echo "  parallelism: {zeroStage: 1}" >>"$work/job.yaml"
}
# Appends "seconds of steps, seconds stood still, of the steps beside a writing, of the others, counts" of a run to $work/NAME.
run() { # name everySteps asynchronous inMemoryEverySteps
    local folder=${FOLDER:-$work}/run
    rm -rf "$folder" "$work/tmp" && mkdir -p "$folder" "$work/tmp"
    write_job "$2" "$3" "$4"
    TMPDIR=$work/tmp "$A/llmjob" run "$work/job.yaml" --storage "data=$work/data,run=$folder" --plain --keep >"$work/log" 2>&1 ||
        { cat "$work/log"; return 1; }
    grep -rhE 'checkpoint saved|"checkpoint saved"' "$work/tmp" >"$work/told"
    sed -nE 's/.*checkpoint saved"?[ ,].*step"?[=:]([0-9]+)[ ,]"?ms"?[=:]([0-9]+).*/\1 \2/p' "$work/told" >"$work/saves"
    grep -rhoE 'copies were kept in memory.*' "$work/tmp" >>"$work/copies" || true
    jq -r 'select(.learningRate) | "\(.step) \(.seconds)"' "$folder/ckpt/metrics.jsonl" |
        awk -v last="$steps" -v every="$2" '
            NR == FNR { ms[$1] = $2; next }
            $1 <= 2 { next }
            { n++; s += $2 }
            $1 < last && $1 in ms { still += ms[$1] / 1000 }
            every && $1 > every && $1 % every == 1 { beside += $2; m++; next }
            { others += $2 }
            END { print s + 0, still + 0, beside + 0, others + 0, n + 0, m + 0 }' "$work/saves" - >>"$work/$1"
    rm -rf "$folder"
}
table() {
    local name files=()
    for name in $runs; do files+=("$work/$name"); done
    awk '
        { i = FILENAME; sub(/.*\//, "", i)
          s[i] += $1; still[i] += $2; beside[i] += $3; others[i] += $4; n[i] += $5; m[i] += $6 }
        function step(i) { return (s[i] + still[i]) / n[i] }
        END {
            printf "%-34s %9s %12s %9s\n", "a step, seconds", "all", "stood still", "over"
            count = split(runs, names, " ")
            for (k = 1; k <= count; k++) {
                i = names[k]
                printf "%-34s %9.4f %12.4f %8.2f%%\n", i, step(i), still[i] / n[i], 100 * (step(i) / step("none") - 1)
            }
            if (!m["behind"])
                exit
            b = beside["behind"] / m["behind"]
            o = others["behind"] / (n["behind"] - m["behind"])
            stands = still["behind"] / m["behind"]
            printf "behind: steps beside a writing %.4f, others %.4f; ", b, o
            printf "a save stops the training for %.4f, %.2f%% of the time between two, and with what steps lose %.2f%%\n",
                stands, 100 * stands / (every * o), 100 * (stands + b - o) / (every * o)
        }' every="$every" runs="$runs" "${files[@]}"
    [ ! -s "$work/copies" ] || cat "$work/copies"
}

begin
add_texts
make_model
for ((round = 0; round < rounds; round++)); do
    for name in $runs; do
        case $name in
        none) run none 0 true 0 ;;
        behind) run behind "$every" true 0 ;;
        waits) run waits "$every" false 0 ;;
        kept) run kept 0 true 1 ;;
        esac || { fail; break 2; }
    done
done
[ $failed -gt 0 ] || { table && pass; }
finished=1
