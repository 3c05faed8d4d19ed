#!/bin/bash
# samples_on_cluster.sh [SAMPLE...]: the samples whose ranks divide something, or talk less, and those that serve models which read whole
# texts, on the local cluster.
#
# Goal: manifests/samples/sharded.yaml, zero.yaml, experts.yaml, long-context.yaml and communication.yaml are taken by the API
# server, train in the layout that they ask for, and end with a model; serve-adapters.yaml answers by each of its names, with
# adapters of random factors. Method: the samples as they stand, with their model and
# text, but few steps of short sequences. The layout is read where a user reads it, status, and where the ranks say it: the plan in
# rank 0's log, and the checkpoint's manifest with a file a rank. embeddings.yaml and classify.yaml find tiny BERTs of tests/golden where
# the trainings that they name would have left a model; so does monitor.yaml, of whose alert Events tell while the controllers are killed.
. "$(dirname "$0")/../e2e/lib.sh"
[ $# -gt 0 ] || set -- sharded zero experts long-context communication serve-adapters embeddings classify monitor
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
	curl -sS --max-time 60 "http://$(kn get pod smol-adapters-0 -o jsonpath='{.status.podIP}'):8000/v1/$1" \
		-H 'content-type: application/json' ${2:+-d "$2"}
}
chat() { ask chat/completions "{\"model\": \"$1\", \"max_tokens\": 24, \"temperature\": 0, \"messages\": [{\"role\": \"user\", \"content\": \"Name three animals that live in the sea.\"}]}"; }
by_all_names() { # each answers under its own, and not as the others do
	local name
	for name in smol kjv dictionary; do
		chat $name | jq -e --arg name $name 'select(.model == $name) | .choices[0].message.content'
	done | sort -u | wc -l | grep -x 3
}
serve_adapters() {
	local name
	for name in kjv dictionary; do
		python3 tests/e2e/random_adapter.py "$data/out/$name/adapter" ${#name} 8 0.2 30 self_attn.q_proj:576:576 self_attn.v_proj:192:576
	done
	chmod -R a+rX "$data/out"
	check "serve-adapters: the API server takes it" kn apply -f manifests/samples/serve-adapters.yaml
	check "it is served" wait_for 180 llmjob/smol-adapters condition=Ready
	check "all names are listed" equal "$(ask models | jq -r '[.data[] | .id + "<" + (.parent // "")] | join(" ")')" "smol< kjv<smol dictionary<smol"
	check "each answers in its own way" by_all_names
	check "another name does not" equal "$(chat other | jq -r .error.code)" model_not_found
	kn delete llmjob smol-adapters --timeout=60s >/dev/null
	rm -rf "$data/out/kjv" "$data/out/dictionary"
}

for sample in "$@"; do
	if [ "$sample" = serve-adapters ]; then
		serve_adapters
		continue
	fi
	name=$(awk '$1 == "name:" {print $2; exit}' "manifests/samples/$sample.yaml")
	if [ "$sample" = monitor ]; then
		watches
		continue
	fi
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
