#!/bin/bash
# support.sh [STEPS]: manifests/samples/support.yaml keeps its word on Debian's policy: both rankings together find at least as often
# as either alone; what is asked of another matter is said not to be in the documents; each quote of an answer is in its chunk. SmolLM2
# then learns from question and answer pairs of half the questions (LoRA, so many steps of four), and in answers to the others cites a
# right section more often than untuned; for that only sections that a question is of, in small chunks, so that prompts are short. A
# quarter of an hour on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
steps=${1:-30}
. "$(dirname "$0")/lib.sh"

asks() { "$python" -I "$top/tests/prove/support.py" "$@"; }
proves() { if asks "$@" | tee -a "$work/figures"; then pass; else explain "$1"; fail; fi; }
serve() { # all: the sample as it is; few [adapters]: in small chunks
    local change="s|/data/policy|/data/few|; s|^( *)contextLength:.*|\1contextLength: 2048|
        s|^( *)results:.*|\1results: 2\n\1chunkTokens: 64\n\1overlapTokens: 16|
        ${2:+s~^( *)retrieval:~\1adapters: $2\n&~}"
    [ "$1" = few ] || change=""
    sed -E "$change" "$top/manifests/samples/support.yaml" >"$work/job.yaml"
    start "$A" "data=$work/data" --port 0
    until url=$(serving); do
        kill -0 "$running" 2>/dev/null || { explain "the server"; fail; exit 1; }
    done
}
stop() {
    kill "$running"
    ended || true
}
train() {
    cat >"$work/job.yaml" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: support}
	spec:
	  storage: [{name: data, claimName: data, mountPath: /data}]
	  model: {source: /data/models/SmolLM2-135M-Instruct.Q4_1.gguf}
	  precision: FP32
	  checkpoint: {path: /data/ckpt/support}
	  train:
	    method: LoRA
	    lora: {rank: 8, alpha: 16, targets: [all-linear]}
	    data: {train: /data/pairs.jsonl}
	    sequenceLength: 512
	    batchSequences: 4
	    steps: $steps
	    optimizer: {learningRate: 0.001, schedule: Linear, warmupSteps: 3}
	    output: /data/out/support
	E
    start "$A" "data=$work/data"
    ended || { explain "the training"; fail; exit 1; }
}
figure() { jq -rs "map(select($1))[0].$2 // 0" "$work/figures"; }
holds() { # what figure relation figure
    if jq -en "$2 $3 $4" >/dev/null; then pass; else echo "FAILED   $1: not $2 $3 $4"; fail; fi
}

begin
"$top/tests/e2e/material" "$work/all" support
mkdir -p "$work/data/few"
mv "$work/all/models" "$work/all/policy" "$work/data/"
questions=$work/all/policy.jsonl
for name in $(jq -r '.sections[]' "$questions" | sort -u); do cp "$work/data/policy/$name.txt" "$work/data/few/"; done

serve all
proves recall "$url" "$questions"
holds "recall@5 of both and of words" "$(figure '.by == "both"' '"recall@5"')" ">=" "$(figure '.by == "words"' '"recall@5"')"
holds "recall@5 of both and of vectors" "$(figure '.by == "both"' '"recall@5"')" ">=" "$(figure '.by == "vectors"' '"recall@5"')"
proves others "$url" "$top/tests/e2e/questions.jsonl"
holds "other matters are not found" "$(figure .other_questions not_found)" ">=" 0.9
stop
serve few
asks pairs "$url" "$questions" 2 "$work/data/pairs.jsonl"
proves ask "$url" support "$questions"
stop
train
serve few "[{name: tuned, path: /data/out/support/adapter}]"
proves ask "$url" tuned "$questions"
stop
holds "a right section is cited more often" "$(figure '.model == "tuned"' right)" ">" "$(figure '.model == "support"' right)"
finished=1
