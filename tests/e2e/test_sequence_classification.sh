#!/bin/bash
# Goal: manifests/samples/sequence-classification.yaml keeps its word: a published BERT learns to tell unwanted mails from
# others on two ranks, says after each epoch how well it does, and leaves a report, TensorBoard's points and a folder that
# names its labels. Method: `llmjob run` with the real MiniLM and the SpamAssassin corpus (tests/e2e/mails), fewer and shorter
# texts at a higher rate. Then classify.yaml serves what was learnt, and says of the test's texts what the report says,
# and watches them, with a burst in their middle: the alert fires and resolves, and a webhook that fails twice hears of it. What the report is compared with needs no model: the most frequent label, and words counted.
. "$(dirname "$0")/lib.sh"
alone
data=$work/data logs=$work/data/ckpt/mails/samples
texts=192 epochs=2

prepare() {
	mkdir -p "$data/models"
	own_programs
	tests/e2e/mails "$(tests/golden/fetch.sh mails)" "$data/mails" $texts 64 128
	tests/e2e/material "$data" mails
	sed -E "s/^( *epochs:).*/\1 $epochs/; s/^( *learningRate:).*/\1 0.0005/; s/^( *sequenceLength:).*/\1 48/" \
		manifests/samples/sequence-classification.yaml >"$work/job.yaml"
}
clean_up() {
	local pids
	[ -z "${receiver:-}" ] || kill "$receiver" 2>/dev/null || true
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}

# The labels that the server gives the test's texts, as the training read them.
asked() {
	jq -cs '{model: "mails", truncate_prompt_tokens: 48, input: map(.text)}' "$data/mails/test.jsonl" |
		curl -sS --fail-with-body --max-time 300 "$1/v1/classify" -H 'content-type: application/json' -d @- | jq -c '[.data[].label]'
}
# The beginnings of thirty wanted mails, thirty others, and thirty more, ten seconds apart.
watched() {
	jq -cs 'group_by(.label) as [$ham, $spam] | $ham[:30] + $spam[:30] + $ham[30:60] | to_entries[] |
		{text: .value.text[:240], id: .key, time: (1030000000 + 10 * .key)}' "$data/mails/test.jsonl"
}
post() { watched | curl -sS --fail-with-body --max-time 300 "$1/v1/monitor" --data-binary @- | jq -cs '[length, (map(has("label")) | all), .[89].id]'; }
told() { [ "$(wc -l <"$work/told")" -ge 3 ]; } # the receiver's address first
within() { # status field from to: of the stream's seconds
	tail -n +2 "$work/told" | jq -es "[.[] | select(.status == \"$1\").alerts[0].$2 | fromdate - 1030000000] | length == 1 and .[0] >= $3 and .[0] <= $4"
}
right() { jq -cs --argjson said "$1" '[map(.label), $said] | transpose | map(.[0] == .[1]) | map(select(.)) | length / ($said | length)' "$data/mails/test.jsonl"; }

prepare
status=0
TMPDIR=$work timeout 600 "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$data" --plain >"$out" 2>&1 || status=$?
check "it completes" equal $status 0
check "every text of every step was learnt once" \
	awk -v batch=16 -v steps=$((texts * epochs / 16)) -f tests/e2e/samples.awk "$logs"/*.log
echo "$(grep -E 'validation loss|^epoch' "$out" || true)"
check "each epoch says its train loss and what it comes to" equal \
	"$(grep -cE '^epoch [0-9]+: train loss [0-9.]+  validation loss [0-9.]+  f1 [0-9.]+$' "$out")" $epochs

report=$data/out/mails/report.json
score() { jq "$1" "$report"; }
baseline=$(tests/e2e/mails baseline "$data/mails")
accuracy=$(score .test.classes.accuracy) f1=$(score '.test.classes["macro avg"]."f1-score"')
echo "test accuracy $accuracy, macro f1 $f1, roc auc $(score .test.classes.rocAuc); without a model: $baseline"
check "the test has a report by label" jq -e '.test.classes.labels | has("ham") and has("spam")' "$report"
check "its support is what the file holds" equal "$(score .test.classes.labels.spam.support)" \
	"$(grep -c '"label": "spam"' "$data/mails/test.jsonl")"
check "more than the most frequent label" jq -en "$accuracy > ($baseline).majority"
check "more than by counting words" jq -en "$accuracy > ($baseline).words"
check "the run ends with the figure" grep -qF "test: accuracy $(printf %.4f "$accuracy")" "$out"
check "the output is a BERT that classifies texts" jq -e '.architectures == ["BertForSequenceClassification"]' "$data/out/mails/config.json"
check "with the labels of the files" equal "$(jq -c .id2label "$data/out/mails/config.json")" '{"0":"ham","1":"spam"}'
check "and its tokenizer" test -s "$data/out/mails/tokenizer.json"
: >"$work/told"
tests/e2e/receiver "$work/told" 2 &
receiver=$!
poll 20 "a receiver" test -s "$work/told"
sed -E "s/^( *maxQueue:).*/\1 2/" manifests/samples/classify.yaml >"$work/serve.yaml"
cat >>"$work/serve.yaml" <<-E
	    classify:
	      alerts:
	      - {name: burst, label: spam, share: 0.5, clearShare: 0.25, webhook: "$(head -n 1 "$work/told")"}
E
begin "$work/served" env TMPDIR="$work" "$work/bin/llmjob" run "$work/serve.yaml" --storage "data=$data" --plain --port 0
check "it is served as it is" poll 60 "an address" serving "$work/served"
said=$(asked "$(serving "$work/served")")
check "with the accuracy of the report" jq -en "$(right "$said") - $accuracy | fabs < 1e-9"
check "a stream is answered line by line" equal "$(post "$(serving "$work/served")")" '[90,true,89]'
check "its webhook hears of a burst, at the third try" poll 60 "two bodies" told
check "which fired while it lasted" within firing startsAt 300 600
check "and resolved behind it" within resolved endsAt 600 900
check "the log tells of it, too" grep -q 'alert fires alert=burst' "$work"/llmjob-*/agent-0.log
kill -TERM $run
wait $run || true
check "TensorBoard has the curve's area" grep -qa 'roc_auc/test' "$(find "$data/tensorboard/mails" -name 'events.*' | head -n 1)"
finish
