#!/bin/bash
# overlap.sh [-r RATE] [-s STEPS]: two pods train a small Llama, each with a processor and a network of its own: two network namespaces,
# joined by a link that is shaped to RATE (1gbit) both ways, which the script makes and removes. spec.train.trace says where the time of
# STEPS (8) steps goes. Of what the gradients take on that link at least 60 % is hidden behind backward: the rank waits for at most 40 %
# of it. Beside it the same steps over the same link unshaped, and what their losses are: the same. Needs root, ip and tc. A minute.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
rate=1gbit steps=8
while getopts r:s: o; do
    case $o in
    r) rate=$OPTARG ;;
    s) steps=$OPTARG ;;
    *) exit 2 ;;
    esac
done
if [ "$(id -u)" != 0 ] || ! command -v ip tc >/dev/null; then
    echo "SKIP: needs root, ip and tc"
    exit 77
fi
pods=("llmjob-$$-a" "llmjob-$$-b") hosts=(10.77.0.1 10.77.0.2) port=7100 agents=()

unplug() {
    local pod
    [ ${#agents[@]} -eq 0 ] || { kill "${agents[@]}" && wait "${agents[@]}"; } 2>/dev/null || true
    agents=()
    for pod in "${pods[@]}"; do ip netns delete "$pod" 2>/dev/null || true; done
}
leave() {
    local status=$?
    unplug
    (exit $status)
    end
}
plug() { # shape: each end sends at most so fast; "": as fast as it can
    local i
    for i in 0 1; do ip netns add "${pods[i]}"; done
    ip -n "${pods[0]}" link add pod type veth peer name pod netns "${pods[1]}"
    for i in 0 1; do
        ip -n "${pods[i]}" address add "${hosts[i]}/24" dev pod
        ip -n "${pods[i]}" link set lo up
        ip -n "${pods[i]}" link set pod up
        [ -z "$1" ] || tc -n "${pods[i]}" qdisc add dev pod root tbf rate "$1" burst 256kb latency 50ms
    done
}
ask() { # method path [body]
    ip netns exec "${pods[0]}" curl -sS -m 5 -X "$1" -H "Authorization: Bearer $pod_token" -H "Content-Type: application/json" \
        ${3:+-d "$3"} "http://${hosts[0]}:$port$2"
}
members() { # of both pods, as the controller would say it
    jq -nc --arg a "${hosts[0]}:$port" --arg b "${hosts[1]}:$port" '{generation: 1, term: 1, replicas: 2, suspend: false,
        members: [[0, $a], [1, $b]] | map({replica: .[0], pod: "p\(.[0])", uid: "u\(.[0])", node: "n\(.[0])", address: .[1]})}'
}
train() { # name shape: its traces to $work/name
    local i state=""
    rm -rf "$work/job" "$work/run"
    mkdir -p "$work/job" "$work/run" "$work/$1"
    jq . "$work/job.json" >"$work/job/job.json"
    printf %s "$token" >"$work/job/token"
    plug "$2"
    for i in 0 1; do
        ip netns exec "${pods[i]}" taskset -c "$i" "$A/llmjob-agent" --job-dir "$work/job" --run-dir "$work/run/$i" \
            --listen "${hosts[i]}:$port" --serve-listen "${hosts[i]}:$((port + 1))" --replica "$i" --pod "p$i" --pod-uid "u$i" \
            --node "n$i" --rank-program "$A/llmjob-rank" >"$work/$1/agent-$i.log" 2>&1 &
        agents+=($!)
    done
    for ((i = 0; i < ${TRIES:-1200} && ${#state} < 1; i++)); do
        ask PUT /v1/desired "$(members)" >"$work/$1/put.log" 2>&1 || true
        state=$(ask GET /v1/job 2>/dev/null | jq -r '.state | select(. == "Complete" or . == "Failed")' 2>/dev/null) || true
        [ -n "$state" ] || sleep 0.2 # as often as llmjob run looks
    done
    unplug
    mv "$work"/run-data/ckpt/trace-*.json "$work/run-data/ckpt/metrics.jsonl" "$work/$1/" 2>/dev/null || true
    rm -rf "$work/run-data/ckpt" "$work/run-data/out"
    [ "$state" = Complete ] && [ -s "$work/$1/trace-1.json" ] && return
    tail -n 30 "$work/$1"/*.log
    fail
    return 1
}
# Of each step that was traced, milliseconds: all, forward and head and backward, on the link, waited for it; bytes.
steps_of() { # trace...
    jq -r '[.traceEvents[] | select(.ph == "X")] as $all | [$all[] | select(.name == "step")] | sort_by(.ts)[] as $s
        | [$all[] | select(.ts >= $s.ts and .ts < $s.ts + $s.dur)] as $in
        | def took(f): [$in[] | select(f) | .dur] | add // 0 | . / 1000;
        [$s.dur / 1000, took(.name == "forward" or .name == "head" or .name == "backward"), took(.tid == 1), took(.name == "wait"),
         ([$in[] | select(.tid == 1) | .args.bytes] | add // 0)] | @tsv' "$@"
}
medians() { # of columns
    awk '{ for (i = 1; i <= NF; i++) x[i, NR] = $i } END { for (i = 1; i <= NF; i++) {
        for (a = 1; a <= NR; a++) for (b = a + 1; b <= NR; b++) if (x[i, b] < x[i, a]) { t = x[i, a]; x[i, a] = x[i, b]; x[i, b] = t }
        printf "%s ", x[i, int((NR + 1) / 2)] }; print "" }'
}

begin
trap leave EXIT
token=$(head -c 16 /dev/urandom | xxd -p)
pod_token=$("$python" -IS -c 'import hmac, struct, sys
parts = b"".join(struct.pack("<I", len(x)) + x for x in (b"llmjob pod", b"u0"))
print(hmac.new(sys.argv[1].encode(), parts, "sha256").hexdigest())' "$token") # base/secret.h
mkdir -p "$work/run-data"
"$top/tests/e2e/kjv" "$work/data/kjv.txt"
cp -r "$top/tests/golden/tiny-llama" "$work/data/small" # lends its tokenizer, which follows
jq -n '{architectures: ["LlamaForCausalLM"], model_type: "llama", vocab_size: 256, hidden_size: 256, intermediate_size: 768,
    num_hidden_layers: 16, num_attention_heads: 8, num_key_value_heads: 8, max_position_embeddings: 512, rms_norm_eps: 1e-5,
    rope_theta: 10000, hidden_act: "silu", tie_word_embeddings: true, bos_token_id: 0, eos_token_id: 0}' >"$work/data/config.json"
head -c 20000 "$work/data/kjv.txt" | iconv -c -t ASCII >"$work/learnt"
facts tokenizer "$work/learnt" 256 "$work/data/small/tokenizer.json"
jq -n --arg work "$work" --argjson steps "$steps" '{apiVersion: "llmjob.dev/v1alpha1", kind: "LLMJob", metadata: {name: "prove"}, spec: {
    replicas: 2, storage: [{name: "data", claimName: "data", mountPath: "\($work)/data", readOnly: true},
        {name: "run", claimName: "run", mountPath: "\($work)/run-data"}],
    model: {source: "\($work)/data/small", init: "Random", config: "\($work)/data/config.json"},
    checkpoint: {path: "\($work)/run-data/ckpt", everySeconds: 0},
    train: {data: {train: "\($work)/data/kjv.txt"}, sequenceLength: 256, batchSequences: 8, steps: ($steps + 2), seed: 7,
        optimizer: {learningRate: 0.001}, trace: {fromStep: 3, steps: $steps}, output: "\($work)/run-data/out"}}}' >"$work/job.json"
train shaped "$rate" || exit 1
train free "" || exit 1
read -r step compute link wait bytes <<<"$(steps_of "$work"/shaped/trace-*.json | medians)"
read -r free_step _ free_link free_wait _ <<<"$(steps_of "$work"/free/trace-*.json | medians)"
echo "a step over $rate: $step ms; forward, head and backward $compute ms, reductions $link ms of $bytes bytes, waited for $wait ms"
echo "over the same link unshaped: $free_step ms; reductions $free_link ms, waited for $free_wait ms"
awk -v wait="$wait" -v link="$link" -v bytes="$bytes" -v rate="$(numfmt --from=si "$(sed 's/gbit/G/; s/mbit/M/' <<<"$rate")")" \
    'BEGIN {
        least = bytes * 8000 / rate
        printf "the link alone takes at least %.1f ms for that: %.0f %% of it hidden; of what the reductions took, %.0f %%\n", least,
            100 * (1 - wait / least), 100 * (1 - wait / link)
        exit bytes == 0 || wait > 0.4 * least
    }' && pass || fail
cmp <(jq .loss "$work/shaped/metrics.jsonl") <(jq .loss "$work/free/metrics.jsonl") && pass || fail
finished=1
