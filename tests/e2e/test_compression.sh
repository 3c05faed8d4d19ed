#!/bin/bash
# Goal: manifests/samples/distill.yaml and prune.yaml keep their word: a small model learns from a large one, and then two of
# every four weights of its layers are zero, before the first step and after the last, and what is left learns. Method:
# `llmjob run` with SmolLM2-135M as the teacher of both and a part of the King James text, in few and short steps; what was
# exported is looked at by a conversion that finds nothing more to prune, whose report counts the zeros. SmolLM2 itself is
# pruned and retrained by tests/prove/sparse.sh.
. "$(dirname "$0")/lib.sh"
alone
data=$work/data

prepare() {
	mkdir -p "$data/models/tiny"
	own_programs
	tests/e2e/material "$data"
	head -c 60000 "$data/kjv.txt" >"$work/part" && mv "$work/part" "$data/kjv.txt"
	sed -nE 's/^# +//; /^\{"architectures"/,/\}$/p' manifests/samples/train-from-scratch.yaml >"$data/models/tiny/config.json"
	shorten distill 6 16 4
	shorten prune 4 16 4
	sed -i -E '/^    source:/s|/data/.*|/data/out/kjv-distilled|; s/^( *learningRate:).*/\1 0.003/' "$work/prune.yaml"
	cat >"$work/look.yaml" <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: look}
		spec:
		  storage: [{name: data, claimName: llmjob-data, mountPath: /data}]
		  model: {source: /data/out/kjv-sparse}
		  convert: {format: HuggingFace, prune: {pattern: "2:4"}, output: /data/out/look}
	E
}
shorten() { # sample steps length batch
	sed -E "s/^( *steps:).*/\1 $2/; s/^( *sequenceLength:).*/\1 $3/; s/^( *batchSequences:).*/\1 $4/; s/^( *everySteps:).*/\1 0/; s/^( *warmupSteps:).*/\1 1/" \
		"manifests/samples/$1.yaml" >"$work/$1.yaml"
}
run() { TMPDIR=$work timeout 600 "$work/bin/llmjob" run "$work/$1.yaml" --storage "data=$data" --plain >"$out" 2>&1; }
losses() { grep -oE 'validation loss [0-9.]+' "$out" | awk '{print $3}'; }
first() { losses | head -n 1; }
last() { losses | tail -n 1; }
told() { jq -nr "\"$1: perplexity \(($(first) | exp) * 100 | round / 100) before, \(($(last) | exp) * 100 | round / 100) after\""; }
learns() { jq -en "$(last) < $(first)"; }

prepare
check "a small model learns from a large one" run distill
told distilled
check "which lowers its loss of the text" learns
check "it is pruned and trained on" run prune
told "two of every four zero"
check "what is left learns" learns
check "the result is looked at" run look
check "half of it is zero, before and after a pruning that finds nothing to do" \
	jq -e '.source.sparsity == 0.5 and .output.sparsity == 0.5' "$data/out/look/report.json"
check "which changed nothing" cmp "$data/out/look/model.safetensors" "$data/out/kjv-sparse/model.safetensors"
finish
