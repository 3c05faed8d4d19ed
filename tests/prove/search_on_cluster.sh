#!/bin/bash
# search_on_cluster.sh: manifests/samples/search.yaml on the local cluster.
#
# Goal: of twelve trials the one whose rate teaches is found, whatever happens to the controller, and what the trials came to
# is what the same search comes to on one machine. Method: the sample with tests/golden's tiny Llama on the beginning of the
# King James text, few steps, and a seed with which one trial (8) draws a rate between 0.0002 and 1; both controllers are
# killed twice, another search is suspended and goes on. A watch counts how many trials ran at a time.
. "$(dirname "$0")/../e2e/lib.sh"
planted=8
need_llmjob
need_namespace
need_material
need_collector
work=$(mktemp -d)
trap 'rm -rf "$work"; at_exit' EXIT

prepare() {
	mkdir -p "$data/model" "$work/here"
	cp tests/golden/tiny-llama/*.* "$data/model/"
	byte_tokenizer >"$data/model/tokenizer.json"
	head -c 40000 "$data/kjv.txt" >"$data/verses.txt"
	cp -r "$data/model" "$data/verses.txt" "$work/here/"
	sed -E "s|^( *source:).*|\1 /data/model|; s|^( *config:).*|\1 /data/model/config.json|; s|kjv.txt|verses.txt|
		s/^( *sequenceLength:).*/\1 16/; s/^( *batchSequences:).*/\1 4/; s/^( *steps:).*/\1 60/
		s/^( *seed:).*/\1 1301/" manifests/samples/search.yaml >"$work/rate.yaml"
	sed 's|/rate$|/rest|; s/name: rate$/name: rest/; s/maxTrials: 12/maxTrials: 3/' "$work/rate.yaml" >"$work/rest.yaml"
	chmod -R a+rwX "$data"
}
status() { kn get llmjob "$1" -o jsonpath="{.status.$2}"; }
over() { [ "$1" -ge "$want" ] 2>/dev/null; }
trials_over() { # n
	want=$1
	watch 300 "$1 trials" over get llmjob rate -o jsonpath='{.status.trials.succeeded}{"\n"}'
}
kill_controllers() {
	k -n $system delete pod -l app.kubernetes.io/name=llmjob-controller --force --grace-period=0 2>&1
	k -n $system rollout status deploy/llmjob --timeout=120s
}
table() { kn get llmjob rate -o json | jq -r '.status.trials.table[] | "\(.index) \(.state) \(.value) \(.parameters)"'; }
# The same, as `llmjob run` prints it.
table_here() {
	sed -n '/^trial   steps/,$p' "$work/said" | sed 's/   <- best//' |
		awk '$1 ~ /^[0-9]+$/ {printf "%d %s %.10g", $1, $3, $4; for (i = 5; i <= NF; i++) printf " %s", $i; print ""}'
}
run_here() { "$O/llmjob" run "$work/rate.yaml" --storage "data=$work/here" --plain >"$work/said" 2>&1; }
most_at_once() { sort -n "$work/running" | tail -n 1; }
none_left() { [ -z "$(kn get llmjobs -o name)" ]; }
none_run() { [ "$(kn get llmjobs -l llmjob.dev/search=rest -o json | jq '[.items[] | select(.status.state != "Complete")] | length')" = 0 ]; }

prepare
kn apply -f "$work/rate.yaml" >/dev/null
kn get llmjob rate -o jsonpath='{.status.trials.running}{"\n"}' --watch 2>/dev/null >"$work/running" &
watching=$!
check "a first trial is over" trials_over 1
check "the controllers are killed" kill_controllers
check "five trials are over" trials_over 5
check "the controllers are killed again" kill_controllers
check "the search is complete" wait_for 600 llmjob/rate condition=Complete
kill $watching 2>/dev/null || true
check "the planted trial is the best" equal "$(status rate trials.best.index)" $planted
check "its model is named" equal "$(status rate trials.best.output)" /data/out/rate
check "and is there, alone" equal "$(find "$data/out" -name '*.safetensors')" "$data/out/rate/model.safetensors"
check "there are twelve trials, two at a time, and who wrote the model" equal \
	"$(kn get llmjobs -l llmjob.dev/search=rate -o name | wc -l) $(most_at_once)" "13 2"
check "which is that of the trial" equal "$(kn get llmjob rate-best -o jsonpath='{.spec.checkpoint.path}')" "/data/ckpt/rate/t$planted"
check "READY says so" equal "$(status rate ready)" 12/12
check "the same search runs on this machine" run_here
check "and comes to the same" diff <(table) <(table_here)
check "to the same model, to the bit" cmp "$data/out/rate/model.safetensors" "$work/here/out/rate/model.safetensors"
table
"$O/llmjob" top rate -n "$namespace" --once --kubectl "$kubectl" | head -n 20
kn apply -f "$work/rest.yaml" >/dev/null
want=1
check "another one begins" watch 120 "trials" over get llmjob rest -o jsonpath='{.status.trials.running}{"\n"}'
kn patch llmjob rest --type merge -p '{"spec":{"suspend":true}}' >/dev/null
check "is suspended" wait_for 120 llmjob/rest condition=Suspended
check "and runs nothing" none_run
kn patch llmjob rest --type merge -p '{"spec":{"suspend":false}}' >/dev/null
check "it goes on to its end" wait_for 300 llmjob/rest condition=Complete
kn delete llmjob rate rest >/dev/null
check "with the searches go their trials" poll 120 "the end of all jobs" none_left
finish
