#!/bin/bash
# entities.sh [-q | -m] BUILD: does our training of a classifier of words learn as much as transformers'? The published MiniLM on
# the silver corpus (tests/e2e/entities), the sample's settings, three seeds each; dev F1 of each epoch and test F1 of both,
# and their means, of which ours may be 0.02 less. It takes an hour and more on two cores; -q: one seed, two epochs of 160
# verses at fifty times the rate, which proves that both run and little more; -m: three seeds, three epochs of 480 verses at
# the rate of the end-to-end test. A python with torch and seqeval comes from tests/golden/requirements.txt, once a machine, or is
# PYTHON.
size=
case ${1-} in -q | -m) size=$1 && shift ;; esac
A=$(realpath "$1") B=$A
. "$(dirname "$0")/lib.sh"
theirs=$("$top/tests/golden/python")
seeds="1 2 3" epochs=5 verses="3000 600 600" rate=0.00002 tolerance=0.02
case $size in
-q) seeds=1 epochs=2 verses="160 40 40" rate=0.001 tolerance=0.2 ;;
-m) epochs=3 verses="480 120 120" rate=0.0005 ;;
esac

write_job() { # seed
    cat >"$work/job.yaml" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: prove}
	spec:
	  replicas: 2
	  storage:
	  - {name: data, claimName: data, mountPath: /data, readOnly: true}
	  - {name: run, claimName: run, mountPath: /run-data}
	  model: {source: /data/minilm}
	  precision: FP32
	  checkpoint: {path: /run-data/ckpt}
	  train:
	    objective: TokenClassification
	    data: {train: /data/train.conll, validation: /data/dev.conll, test: /data/test.conll}
	    sequenceLength: 128
	    batchSequences: 16
	    epochs: $epochs
	    seed: $1
	    optimizer: {learningRate: $rate, schedule: Linear}
	    tensorboard: /run-data/board
	    output: /run-data/out
	E
}

entities() { "$theirs" "$top/tests/prove/entities.py" "$@"; }
figures() { entities "$@" | tee -a "$work/figures"; }

begin
: >"$work/figures"
cp -r "$("$top/tests/golden/fetch.sh" minilm)" "$work/data/minilm"
# shellcheck disable=SC2086 # three numbers
"$top/tests/e2e/entities/corpus" "$work/data" $verses
for seed in $seeds; do
    write_job "$seed"
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run"
    ended || { explain "our training with seed $seed"; fail; continue; }
    figures ours "$work/run/out" "$work/run/board"
    figures theirs "$work/data/minilm" "$work/data" "$seed" --epochs $epochs --rate $rate
done
if entities compare "$work/figures" $tolerance; then pass; else fail; fi
finished=1
