#!/bin/bash
# Goal: manifests/samples/chat.yaml keeps its word: a published chat model learns from conversations on two ranks, and answers
# that it has not seen become likelier than they were. Method: `llmjob run` with the real SmolLM2 and dialogues made of
# WordNet's glosses, with fewer steps and fewer of them held out; the loss is of what the assistant says alone, so the
# baseline is the model's own loss before the first step. The same job again reads no text: it finds the tokens.
. "$(dirname "$0")/lib.sh"
alone
data=$work/data tokens=$work/data/ckpt/dictionary/tokens
steps=3

prepare() {
	mkdir -p "$data/models"
	own_programs
	tests/e2e/dialogues "$data/dialogues" 1000 8
	tests/e2e/material "$data" dialogues
	sed -E "s/^( *steps:).*/\1 $steps/" manifests/samples/chat.yaml >"$work/job.yaml"
}
run() { TMPDIR=$work timeout 600 "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$data" --plain >"$out" 2>&1; }
losses() { grep -oE 'validation loss [0-9.]+' "$out" | awk '{print $3}'; }

prepare
check "it completes" run
first=$(losses | head -n 1) last=$(losses | tail -n 1)
echo "loss of answers not learnt from: $first before, $last after $steps steps"
check "both were told" [ -n "$first" ]
check "unseen answers are likelier by a tenth of a nat" jq -en "$last < $first - 0.1"
check "every conversation of every step was learnt once" \
	awk -v batch=8 -v steps=$steps -f tests/e2e/samples.awk "$data"/ckpt/dictionary/samples/*.log
check "the output is a model" test -s "$data/out/dictionary/model.safetensors"
check "with its chat template" grep -qF 'im_start' "$data/out/dictionary/tokenizer_config.json" "$data/out/dictionary/chat_template.jinja"
check "two files were tokenised" equal "$(find "$tokens" -name '*.tokens' | wc -l)" 2
before=$(stat -c '%i %n' "$tokens"/*)
check "the same job again is done at once" run
check "and found the tokens" equal "$(stat -c '%i %n' "$tokens"/*)" "$before"
finish
