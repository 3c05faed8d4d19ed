#!/bin/bash
# Goal: manifests/samples/masked-lm.yaml keeps its word: a published BERT goes on with its pre-training, and the
# folder it leaves is one that tells hidden tokens. Method: `llmjob run` with the real MiniLM on the beginning of the King James
# text, a few short steps. Its loss on what is held out is compared with that of before.
. "$(dirname "$0")/lib.sh"
alone
data=$work/data logs=$work/data/ckpt/mlm-kjv/samples
steps=8

prepare() {
	mkdir -p "$data"
	own_programs
	tests/e2e/material "$data" masked
	head -c 100000 "$data/kjv.txt" >"$work/part.txt"
	mv "$work/part.txt" "$data/kjv.txt"
	sed -E "s/^( *)epochs:.*/\1steps: $steps/; s/^( *learningRate:).*/\1 0.001/; s/^( *warmupSteps:).*/\1 2/
		s/^( *replicas:).*/\1 1/; s/^( *batchSequences:).*/\1 8/; s/^( *sequenceLength:).*/\1 32/" manifests/samples/masked-lm.yaml >"$work/job.yaml"
}

prepare
status=0
TMPDIR=$work timeout 600 "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$data" --plain >"$out" 2>&1 || status=$?
check "it completes" equal $status 0
check "every sequence of every step was learnt once" \
	awk -v batch=8 -v steps=$steps -f tests/e2e/samples.awk "$logs"/*.log
losses=$(sed -n 's/.*validation loss //p' "$out")
before=$(head -n 1 <<<"$losses") after=$(tail -n 1 <<<"$losses")
echo "loss of hidden tokens before: $before, after $steps steps: $after; of guessing among 30522: 10.33"
check "it has learnt" jq -en "$after < 0.75 * $before"
check "the output is a BERT that tells masked tokens" jq -e '.architectures == ["BertForMaskedLM"]' "$data/out/mlm-kjv/config.json"
check "and its tokenizer" test -s "$data/out/mlm-kjv/tokenizer.json"
check "TensorBoard has the perplexity" grep -qa 'perplexity/validation' "$(find "$data/tensorboard/mlm-kjv" -name 'events.*' | head -n 1)"
finish
