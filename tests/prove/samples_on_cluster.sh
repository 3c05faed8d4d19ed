#!/bin/bash
# samples_on_cluster.sh [SAMPLE...]: the samples whose ranks divide something, or talk less, and those that serve in more ways than one
# model whole, on the local cluster.
#
# Goal: manifests/samples/sharded.yaml, zero.yaml, experts.yaml, long-context.yaml and communication.yaml are taken by the API
# server, train in the layout that they ask for, and end with a model; serve-adapters.yaml answers by each of its names, with
# adapters of random factors. Method: the samples as they stand, with their model and
# text, but few steps of short sequences. The layout is read where a user reads it, status, and where the ranks say it: the plan in
# rank 0's log, and the checkpoint's manifest with a file a rank. embeddings.yaml and classify.yaml find tiny BERTs of tests/golden where
# the trainings that they name would have left a model; so does monitor.yaml, of whose alert Events tell while the controllers are killed.
# serve-ensemble.yaml averages the same adapters, one of which comes later; serve-speculation.yaml guesses, serve-small.yaml answers from
# 256 MiB, support.yaml out of Debian's policy, and recommend.yaml recommends all films of MovieLens by MiniLM as it is published.
. "$(dirname "$0")/../e2e/lib.sh"
[ $# -gt 0 ] || set -- sharded zero experts long-context communication serve-adapters serve-ensemble serve-speculation serve-small support recommend \
	embeddings classify monitor
declare -A layout=([sharded]="dp1 x tp2 x pp2" [zero]="dp2 zero1" [experts]="dp1 x ep2" [long-context]="dp1 x cp4 zero1" [communication]=dp2)
need_llmjob
need_namespace
need_material
work=$(mktemp -d)
trap 'rm -rf "$work"; at_exit' EXIT

status() { kn get llmjob "$name" -o jsonpath="{.status.$1}"; }
taken() { # the sample, shortened
	sed -E 's/^( *sequenceLength:) .*/\1 16/; s/^( *(steps|everySteps):) .*/\1 4/; s/^( *warmupSteps:) .*/\1 1/
		s/^( *localSteps:) .*/\1 2/' "manifests/samples/$sample.yaml" >"$work/$sample.yaml"
	kn apply -f "$work/$sample.yaml"
}
# The ways of each axis, as the plan in the rank's log has them.
planned() { kn logs "$name-0" | sed -n 's/ virtualStages=[0-9]*//; s/.*\(data=[0-9]* tensor=[0-9]* pipeline=[0-9]* expert=[0-9]* context=[0-9]* zeroStage=[0-9]*\).*/\1/p'; }
told() {
	kn get llmjob "$name" -o json | jq -r '.status.layout | "data=\(.data) tensor=\(.tensor) pipeline=\(.pipeline) expert=\(.expert // 1) " +
		"context=\(.context // 1) zeroStage=\(.zeroStage // 0)"'
}
written() { jq -r '"\(.layout), \(.files | length) files"' "$data/ckpt/$name/step-00000004/manifest.json"; }
declare -A reads=([embeddings]=movies:tiny-bert-masked:embedding [classify]=mails:tiny-bert-texts:probs) # model, what it is, what is said
answers() { # place model member: each of two texts has numbers
	curl -sS --fail-with-body --max-time 60 "http://$(kn get pod "$name-0" -o jsonpath='{.status.podIP}'):8000/v1/$1" \
		-H 'content-type: application/json' -d '{"model": "'"$2"'", "input": ["the", "anna in berlin"]}' |
		jq -e ".data | map(.$3 | length > 1 and all(. >= -1 and . <= 1)) == [true, true]"
}
serves() { # sample
	local model folder member
	IFS=: read -r model folder member <<<"${reads[$1]}"
	rm -rf "${data:?}/out/$model"
	mkdir -p "$data/out"
	cp -r "tests/golden/$folder" "$data/out/$model"
	chmod -R a+rX "$data/out"
	check "$1: the API server takes it" kn apply -f "manifests/samples/$1.yaml"
	check "it is Ready" wait_for 90 "llmjob/$name" condition=Ready
	check "and answers" answers "$1" "$model" "$member"
	kn delete llmjob "$name" --timeout=60s >/dev/null
}
lines() { # count first-second: of the past; all have one label
	local i
	for ((i = 0; i < $1; i++)); do echo "{\"text\": \"the\", \"time\": $(($2 + i))}"; done >>"$data/mails.jsonl"
}
alert() { kn get llmjob "$name" -o jsonpath='{.status.alerts[0].state}'; }
events() { kn get events -o json | jq -c "[.items[] | select(.involvedObject.name == \"$name\" and .reason == \"$1\") | .count] | add"; }
alert_is() { [ "$(alert)" = "$1" ]; }
told_of() { [ "$(events "$1")" = 1 ]; }
watches() {
	local now label
	now=$(date +%s)
	rm -rf "${data:?}/out/mails" "$data/mails.jsonl" "$data/state"
	mkdir -p "$data/out"
	cp -r tests/golden/tiny-bert-texts "$data/out/mails"
	label=$(jq -r '.id2label["0"]' "$data/out/mails/config.json") # all of them, one after the other, are the text's
	chmod -R a+rX "$data/out"
	install -d -m 777 "$data/state"
	lines 60 $((now - 4000))
	chmod a+r "$data/mails.jsonl"
	check "monitor: a label that is none is refused" refused_label
	for label in $(jq -r '.id2label[]' "$data/out/mails/config.json"); do
		sed "s/label: .*/label: '$label'/" manifests/samples/monitor.yaml >"$work/monitor.yaml"
		kn apply -f "$work/monitor.yaml" >/dev/null
		check "with $label it is Ready" wait_for 90 "llmjob/$name" condition=Ready
		! poll 15 "an alert" alert_is Firing || break
		kn delete llmjob "$name" --timeout=60s >/dev/null
		rm -rf "$data/state"/*
	done
	check "its status tells of an alert" alert_is Firing
	check "an Event does, once" poll 20 "an Event" told_of AlertFiring
	k -n $system delete pods --all --wait=false >/dev/null
	lines 5 $((now - 2000))
	check "and that it is over, by controllers that come anew" poll 60 "the end" alert_is Inactive
	check "in an Event, too" poll 20 "an Event" told_of AlertResolved
	check "the first was not told again" told_of AlertFiring
	kn delete llmjob "$name" --timeout=60s >/dev/null
}
refused_label() { # as the sample stands: the model of this test has others
	local said
	kn apply -f manifests/samples/monitor.yaml >/dev/null
	wait_for 60 "llmjob/$name" condition=Failed
	said=$(kn get llmjob "$name" -o jsonpath='{.status.conditions[?(@.type=="Failed")].message}')
	kn delete llmjob "$name" --timeout=60s >/dev/null
	grep -F 'alerts[0].label: "spam" is none of the 3 labels' <<<"$said" || { echo "$said"; return 1; }
}
ranks() { kn get llmjob "$name" -o json | jq '.spec.replicas * .spec.device.perReplica'; }

sed -nE 's/^# +//; /^\{"architectures"/,/\}$/p' manifests/samples/experts.yaml | jq . >"$data/mixture.json"
chmod a+r "$data/mixture.json"
ask() { # path [body]
	curl -sS --max-time 120 "http://$(kn get pod "$name-0" -o jsonpath='{.status.podIP}'):8000/v1/$1" \
		-H 'content-type: application/json' ${2:+-d "$2"}
}
metric() { # name: of the pod
	curl -sS --max-time 20 "http://$(kn get pod "$name-0" -o jsonpath='{.status.podIP}'):7070/metrics" | awk -v name="$1" '$1 == name { print $2 }'
}
chat() { # model question tokens
	ask chat/completions "$(jq -nc --arg model "$1" --arg content "$2" --argjson tokens "${3:-24}" \
		'{$model, max_tokens: $tokens, temperature: 0, messages: [{role: "user", $content}]}')"
}
served() { # seconds: the sample as it stands
	chmod -R a+rX "$data"/{models,out} 2>/dev/null
	check "$sample: the API server takes it" kn apply -f "manifests/samples/$sample.yaml"
	check "it is served" wait_for "$1" "llmjob/$name" condition=Ready
}
ended() {
	check "it is deleted" kn delete llmjob "$name" --timeout=60s
	rm -rf "${data:?}/out"
}
random_adapters() { # name...
	local one
	for one in "$@"; do
		python3 tests/e2e/random_adapter.py "$data/out/$one/adapter" ${#one} 8 0.2 30 self_attn.q_proj:576:576 self_attn.v_proj:192:576
	done
	chmod -R a+rX "$data/out"
}
by_all_names() { # each answers under its own, and not as the others do
	local one
	for one in smol kjv dictionary; do
		chat $one "Name three animals that live in the sea." | jq -e --arg name $one 'select(.model == $name) | .choices[0].message.content'
	done | sort -u | wc -l | grep -x 3
}
serve_adapters() {
	random_adapters kjv dictionary
	served 180
	check "all names are listed" equal "$(ask models | jq -r '[.data[] | .id + "<" + (.parent // "")] | join(" ")')" "smol< kjv<smol dictionary<smol"
	check "each answers in its own way" by_all_names
	check "another name does not" equal "$(chat other hello | jq -r .error.code)" model_not_found
	ended
}
averages() { # members that are there
	ask completions '{"model": "smol", "prompt": "And there was", "max_tokens": 8, "temperature": 0}' |
		jq -e ".llmjob == {members: $1, of: 3} and (.choices[0].text | length > 0)"
}
serve_ensemble() { # allowMissing: the second adapter is not there at first
	random_adapters kjv
	served 180
	check "two members answer, and say so" averages 2
	check "as the metrics do" equal "$(metric llmjob_ensemble_members) $(metric llmjob_ensemble_members_missing)" "2 1"
	kn delete llmjob "$name" --timeout=60s >/dev/null
	random_adapters dictionary
	served 180
	check "all three answer" averages 3
	ended
}
repeats() {
	chat smol "Repeat, word for word: in the beginning God created the heaven and the earth, and the earth was without form, and void" 64 |
		jq -r '.choices[0].message.content' | grep -i 'the heaven and the earth'
}
serve_speculation() {
	served 120
	check "it repeats what it is told" repeats
	check "by tokens some of which were guessed" [ "$(metric llmjob_guessed_tokens_total)" -gt 0 ]
	check "and came true" [ "$(metric llmjob_guessed_tokens_right_total)" -gt 0 ]
	echo "$sample: guessed $(metric llmjob_guessed_tokens_total) tokens, $(metric llmjob_guessed_tokens_right_total) right, of $(metric llmjob_generated_tokens_total)"
	ended
}
restarts() { kn get pod "$name-0" -o jsonpath='{.status.containerStatuses[0].restartCount}'; }
four_at_once() {
	local i pids=() long
	long=$(printf 'The sea is wide and the boats on it are small. %.0s' {1..30})
	for i in 1 2 3 4; do
		chat small "$i. $long Tell me about the sea." 32 >"$work/answer-$i" & pids+=($!)
	done
	wait "${pids[@]}"
	jq -es 'length == 4 and all(.choices[0].message.content | length > 0)' "$work"/answer-?
}
serve_small() {
	served 120
	check "its pod may have 256 MiB" equal "$(kn get pod "$name-0" -o jsonpath='{.spec.containers[0].resources.limits.memory}')" 256Mi
	check "four long requests are answered at once" four_at_once
	check "and nothing was killed for memory" equal "$(restarts) $(status restarts)" "0 0"
	ended
}
cites() { # question: quotes, each of its file, word for word but for white space
	local answer
	answer=$(chat support "$1" 64 | jq -c '.choices[0].message')
	jq -e '.annotations | length > 0' <<<"$answer" >/dev/null || { echo "$answer"; return 1; }
	jq -r '.annotations[] | [.filename, (.quote | gsub("[[:space:]]+"; " "))] | @tsv' <<<"$answer" |
		while IFS=$'\t' read -r file quote; do
			tr -s '[:space:]' ' ' <"$data/policy/$file" | grep -qF -- "$quote" || { echo "not in $file: $quote"; return 1; }
		done
}
some_cite() { cites "What is the priority of an essential package?" || cites "What must the file debian/rules be?" || cites "What must be in the maintainer field?"; }
found() { ask vector_stores/vs_documents/search '{"query": "Which file is run to build a package?"}' | jq -r '.data[].filename'; }
support() {
	tests/e2e/material "$data" support
	chmod -R a+rX "$data"
	served 300
	check "all sections are indexed" equal "$(metric llmjob_documents)" "$(find "$data/policy" -name '*.txt' | wc -l)"
	check "a search finds the section" eval 'found | grep -x 4.9.txt'
	check "some answer cites, and quotes are in their files" some_cite
	check "other matters are not in the documents" equal "$(chat support "Who built the ark?" | jq -r '.choices[0].message.content')" \
		"This is not in the documents."
	echo "$sample: $(metric llmjob_documents) documents in $(metric llmjob_document_chunks) chunks, indexed in $(metric llmjob_index_seconds_sum) s"
	ended
}
recommended() { # history: five that are not in it, best first, each score the sum of its parts
	ask recommend "{\"model\": \"movies\", \"history\": $1, \"top_n\": 5}" | tee "$work/recommended" |
		jq -e --argjson had "$1" '.results | length == 5 and ([.[].score] | . == (sort | reverse)) and ([.[].id] - $had | length == 5) and
			all((.score - ([.parts[]] | add)) | fabs < 1e-4)'
}
recommend() {
	tests/e2e/material "$data" movies
	mkdir -p "$data/out"
	cp -r "$data/models/all-MiniLM-L6-v2" "$data/out/movies"
	chmod -R a+rX "$data"
	served 240
	check "five others are recommended to who had two" recommended '["50", "172", {"text": "Blade Runner: Film-Noir Sci-Fi"}]'
	jq -r '.results[] | "\(.score) \(.text)"' "$work/recommended"
	check "and to who had none" recommended '[]'
	ended
}

for sample in "$@"; do
	name=$(awk '$1 == "name:" {print $2; exit}' "manifests/samples/$sample.yaml")
	case $sample in
	monitor) watches && continue ;;
	serve-* | support | recommend) ${sample/-/_} && continue ;;
	esac
	started=$SECONDS
	[ -z "${reads[$sample]-}" ] || { serves "$sample" && continue; }
	check "$sample: the API server takes it" taken
	check "it ends" wait_for 600 "llmjob/$name" condition=Complete
	check "at its last step" equal "$(status progress.step)" 4
	check "in the layout that it asks for" equal "$(status layout.summary)" "${layout[$sample]}"
	check "as its ranks say" equal "$(told)" "$(planned)"
	check "each of which wrote its part" equal "$(written)" "${layout[$sample]% zero1}, $(ranks) files"
	check "the model is there" test -s "$data/out/$name/model.safetensors"
	check "and the loss is a number" jq -en "$(status progress.loss) > 0 and $(status progress.loss) < 12"
	echo "$sample: $(status layout.summary), $(status layout.ranks) ranks of $(status layout.memoryPerRank), loss" \
		"$(status progress.firstLoss) -> $(status progress.loss), $((SECONDS - started)) s"
	kn delete llmjob "$name" --timeout=60s >/dev/null
	rm -rf "${data:?}/ckpt/$name" "$data/out/$name"
done
finish
