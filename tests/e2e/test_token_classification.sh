#!/bin/bash
# Goal: manifests/samples/token-classification.yaml keeps its word: a published BERT learns names from CoNLL files on two
# ranks, is scaled to three while it trains, says after each epoch how well it does, and leaves a report, TensorBoard's
# points and a folder that names its labels. Method: `llmjob run` with the real MiniLM, of which a
# sample has three of six layers, and the silver corpus (tests/e2e/entities), fewer and shorter sentences and fewer epochs at a higher rate. What the report is compared with needs no model:
# words that carried a name in training, looked up. classify.yaml then serves what was learnt, which tells names in running text.
. "$(dirname "$0")/lib.sh"
alone
data=$work/data logs=$work/data/ckpt/ner/samples
sentences=160 epochs=3

prepare() {
	mkdir -p "$data/models"
	own_programs
	tests/e2e/entities/corpus "$data/ner" $sentences 32 64 >/dev/null
	tests/e2e/material "$data" names
	fewer_layers "$data/models/all-MiniLM-L6-v2"
	sed -E "s/^( *epochs:).*/\1 $epochs/; s/^( *learningRate:).*/\1 0.0005/; s/^( *sequenceLength:).*/\1 96/" \
		manifests/samples/token-classification.yaml >"$work/job.yaml"
}
world() { find "$logs" -name '*.log' -printf '%f\n' 2>/dev/null | sort -n | tail -n 1 | cut -d- -f1; }
past() { [ "$(tail -qn 1 "$logs/$(world)"-0.log 2>/dev/null | awk '{n = $1} END {print n + 0}')" -ge "$1" ]; }
three_step() { [ "$(find "$logs" -name "$(world)-*.log" -size +0 | wc -l)" = 3 ]; }
# F1 of the test's names when a word is what it most often was in training.
looked_up() {
	awk '
		FILENAME != last { file++; last = FILENAME }
		NF != 2 || $1 == "-DOCSTART-" { next }
		file == 1 { if (++n[$1, $2] > most[$1]) { most[$1] = n[$1, $2]; label[$1] = $2 } next }
		{ guess = ($1 in label) ? label[$1] : "O"; named += $2 ~ /^B-/; found += guess ~ /^B-/; right += $2 ~ /^B-/ && guess == $2 }
		END { printf "%.4f\n", 2 * right / (named + found) }' "$data/ner/train.conll" "$data/ner/test.conll"
}

# Sentences of the test as running text, and what the server finds in them: each entity with the text that stands where it says.
named() {
	awk 'NF == 2 && $1 != "-DOCSTART-" {line = line " " $1; next} line != "" {print substr(line, 2); line = ""}' "$data/ner/test.conll" |
		sed -n 1,40p | jq -Rcs 'split("\n") | map(select(. != "")) | {model: "names", truncate_prompt_tokens: -1, input: .}' >"$work/asked"
	curl -sS --fail-with-body --max-time 300 "$1/v1/classify" -H 'content-type: application/json' -d @"$work/asked" |
		jq -c --slurpfile asked "$work/asked" '[.data[] | $asked[0].input[.index] as $text | .entities[] | . + {there: $text[.start:.end]}]'
}

prepare
TMPDIR=$work "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$data" --plain >"$out" 2>&1 &
run=$!
check "two ranks train" poll 90 "step 3" past 3
sed -E 's/^( *replicas:).*/\1 3/' "$work/job.yaml" >"$work/job.new"
mv "$work/job.new" "$work/job.yaml"
check "replicas 2 -> 3 in the file: three ranks train" poll 90 "a world of three" three_step
status=0
timeout 600 tail --pid=$run -f /dev/null || kill -9 $run
wait $run || status=$?
check "it completes" equal $status 0
check "every sentence of every step was learnt once" \
	awk -v batch=16 -v steps=$((sentences * epochs / 16)) -f tests/e2e/samples.awk "$logs"/*.log
reports=$(grep -cE 'validation loss [0-9.]+  f1 [0-9.]+$' "$out" || true)
echo "$(grep 'validation loss' "$out" || true)"
check "each epoch and the start have a report" [ "$reports" -ge $((epochs + 1)) ]

report=$data/out/ner/report.json
score() { jq "$1" "$report"; }
f1=$(score '.test.entities.lenient["micro avg"]."f1-score"') baseline=$(looked_up)
echo "test f1 $f1; words looked up in the training file: $baseline"
check "the test has a report by type" jq -e '.test.entities.lenient | has("PER") and has("LOC") and has("GRP")' "$report"
check "its support is what the file holds" equal "$(score '.test.entities.lenient["micro avg"].support')" \
	"$(grep -c ' B-' "$data/ner/test.conll")"
check "more than by looking words up" jq -en "$f1 > $baseline"
check "the run ends with the figure" grep -qF "test: f1 $(printf %.4f "$f1")" "$out"
check "the output is a BERT that classifies tokens" jq -e '.architectures == ["BertForTokenClassification"]' "$data/out/ner/config.json"
check "with the labels of the files" equal "$(jq -r '.id2label | to_entries | sort_by(.key | tonumber) | .[].value' "$data/out/ner/config.json")" \
	"$(cat "$data"/ner/*.conll | awk 'NF == 2 && $1 != "-DOCSTART-" {print $2}' | LC_ALL=C sort -u)"
check "and its tokenizer" test -s "$data/out/ner/tokenizer.json"
sed -E "s|^( *source:).*|\1 /data/out/ner|; s/^( *modelName:).*/\1 names/; s/^( *maxQueue:).*/\1 2/" manifests/samples/classify.yaml >"$work/serve.yaml"
begin "$work/served" env TMPDIR="$work" "$work/bin/llmjob" run "$work/serve.yaml" --storage "data=$data" --plain --port 0
check "it is served as it is" poll 60 "an address" serving "$work/served"
names=$(named "$(serving "$work/served")")
echo "names in 40 sentences: $(jq -r 'map(.word) | unique | .[:8] | join(", ")' <<<"$names"), ..."
check "and finds names where they stand" jq -e 'length > 10 and all(.word == .there and (.entity_group | IN("PER", "LOC", "GRP")))' <<<"$names"
kill -TERM $run
wait $run || true
check "TensorBoard has F1" grep -qa 'f1/validation' "$(find "$data/tensorboard/ner" -name 'events.*' | head -n 1)"
finish
