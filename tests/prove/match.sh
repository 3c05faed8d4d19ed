#!/bin/bash
# match.sh: is an output of PairMatching what sentence-transformers takes it for? MiniLM learns from a few pairs of MovieLens, with
# every weight, with adapters, and from labels; sentence-transformers then loads each output, embeds the texts of the test and
# finds what our report says; transformers, and peft with the adapter, give the same hidden states. A python with torch,
# transformers and peft comes from tests/golden/requirements.txt, with sentence-transformers beside it from match.txt, once a
# machine; or PYTHON has them. Minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
prove() { # name files' kind, lines of the job's train
    local model=$work/data/models/all-MiniLM-L6-v2
    cat >"$work/job.yaml" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: prove}
	spec:
	  replicas: 2
	  storage: [{name: data, claimName: data, mountPath: $work/data}]
	  model: {source: $model}
	  precision: FP32
	  checkpoint: {path: $work/data/ckpt-$1}
	  train:
	    objective: PairMatching
	    data: {train: $work/data/$2/train.jsonl, validation: $work/data/$2/dev.jsonl, test: $work/data/$2/test.jsonl}
	    sequenceLength: 32
	    batchSequences: 8
	    epochs: 1
	    output: $work/data/out-$1
	    $3
	E
    start "$A" "data=$work/data"
    ended || { explain "$1"; fail; return 0; }
    if "$theirs" "$top/tests/prove/match.py" "$work/data/out-$1" "$work/data/$2/test.jsonl" >"$work/said" 2>&1; then
        grep -E 'here|away|tokens' "$work/said" | sed "s/^/$1: /"
        pass
    else
        tail -n 20 "$work/said" | sed "s/^/$1: /"
        fail
    fi
}

begin
need_beside match
mkdir -p "$work/data/models" "$work/data/labelled"
"$top/tests/e2e/movies" "$("$top/tests/golden/fetch.sh" movies)" "$work/data/movies" 64 10 60 1
"$top/tests/e2e/material" "$work/data" movies
for name in train dev test; do
    jq -c '. + {label: ((input_line_number % 3) / 2)}' "$work/data/movies/$name.jsonl" >"$work/data/labelled/$name.jsonl"
done
prove full movies 'method: Full'
prove lora movies $'method: LoRA\n    lora: {rank: 4, targets: [all-linear]}\n    optimizer: {learningRate: 0.001}'
prove labels labelled 'pair: {loss: Cosine}'
finished=1
