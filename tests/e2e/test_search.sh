#!/bin/bash
# Goal: manifests/samples/search.yaml keeps its word: of twelve trials the one whose rate teaches is found, and a search that is
# interrupted ends as one that is not. Method: `llmjob run` of the sample with tests/golden's tiny Llama, a token for each
# byte, few steps, and a seed with which exactly one trial (8) draws a rate between 0.0002 and 1; then the same search, ended by
# SIGINT after its first trial and run again: the same table. What train.output holds at the end is the planted trial's model, by
# training that trial alone. Another search in that folder is refused, and so is an output that is somebody else's, by its trials.
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
planted=8

prepare() {
	mkdir -p "$work/bin" "$work/model"
	cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
	cp tests/golden/tiny-llama/*.* "$work/model/"
	byte_tokenizer >"$work/model/tokenizer.json"
	printf 'and there was evening, and there was morning\n%.0s' {1..400} >"$work/kjv.txt"
	sed -E "s|^( *source:).*|\1 /data/model|; s|^( *config:).*|\1 /data/model/config.json|; s/^( *sequenceLength:).*/\1 16/
		s/^( *batchSequences:).*/\1 4/; s/^( *steps:).*/\1 20/; s/^( *seed:).*/\1 1301/" manifests/samples/search.yaml >"$work/straight.yaml"
	sed 's|/rate$|/cut|' "$work/straight.yaml" >"$work/cut.yaml"
	sed 's/max: 10/max: 1/' "$work/cut.yaml" >"$work/other.yaml"
	sed 's|/rate$|/full|; s/maxTrials: 12/maxTrials: 2/' "$work/straight.yaml" >"$work/full.yaml"
	mkdir -p "$work/out/full"
	echo mine >"$work/out/full/notes.txt"
}
running() { find /proc -maxdepth 2 -name exe -lname "$work/bin/*" 2>/dev/null | cut -d/ -f3 || true; }
none_running() { [ -z "$(running)" ]; }
explain() { tail -n 40 "$work"/*.said "$work"/ckpt/*/t0.log 2>/dev/null; }
clean_up() {
	local pids
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
search() { # name
	env "TMPDIR=$work" timeout 300 "$work/bin/llmjob" run "$work/$1.yaml" --storage "data=$work" >>"$work/$1.said" 2>&1
}
table() { sed -n '/^trial   steps/,$p' "$work/$1.said" | grep -E '^ +[0-9]' | tail -n 12; }
first_over() { grep -q 'is complete' "$work/cut.said"; }
interrupted() {
	local run status=0
	env "TMPDIR=$work" "$work/bin/llmjob" run "$work/cut.yaml" --storage "data=$work" >"$work/cut.said" 2>&1 &
	run=$!
	poll 60 "the end of a trial" first_over
	kill -INT $run
	wait $run || status=$?
	equal $status 71
}
same_tables() { diff <(table straight) <(table cut); }
# The trial's own job file, as a job by itself: from its checkpoint, and from nothing.
alone() { # name filter
	jq ".name = \"$1\" | del(.spec.train.exportedBy) | .spec.train.output += \"-$1\" | $2" "$work/ckpt/rate/t$planted.json" >"$work/$1.json"
	env "TMPDIR=$work" timeout 100 "$work/bin/llmjob" run "$work/$1.json" --plain >>"$work/$1.said" 2>&1
}
same_model() { cmp "$work/out/rate/model.safetensors" "$work/out/rate-$1/model.safetensors"; }
only_a_model() { [ -z "$(find "$work/out/rate" -mindepth 1 -type d)" ] && [ "$(find "$work/out" -name '*.safetensors' | wc -l)" = 1 ]; }
full_is_refused() {
	local status=0
	search full || status=$?
	equal $status 64 && grep -q "spec.train.output: $work/out/full holds notes.txt, which llmjob did not write" "$work"/ckpt/full/t0.log &&
		equal "$(ls "$work/out/full")" notes.txt && ! ls -d "$work"/ckpt/full/t?/step-* 2>/dev/null
}
best() { table straight | awk '/<- best/ {print $1}'; }
# The planted trial's loss, and the least of the others'.
beats_others() {
	table straight | awk -v want=$planted '$1 == want {mine = $4} $1 != want && $3 == "Succeeded" && (!n++ || $4 < least) {least = $4}
		END {printf "trial %d: validation loss %s, the others %s at least\n", want, mine, least; exit !(mine < least - 1)}'
}

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
prepare
check "twelve trials run" search straight
check "the planted one is the best" equal "$(best)" $planted
check "by far" beats_others
beats_others
check "its model is in the search's output" grep -q "the best trial is $planted: $work/out/rate\$" "$work/straight.said"
check "as the only one" only_a_model
check "it is written from the trial's checkpoint" alone again .
check "to the bit" same_model again
check "and is what that trial comes to" alone anew '.spec.checkpoint.path += "-anew"'
check "to the bit, too" same_model anew
check "an output of somebody else's fails each trial at its start" full_is_refused
check "a search is interrupted" interrupted
check "its record is kept" jq -e '.trials | length > 0 and length < 12' "$work/ckpt/cut/search.json"
check "it goes on to its end" search cut
check "and comes to the same" same_tables
check "another search in its folder is refused" refuses "spec.checkpoint.path: $work/ckpt/cut/search.json is of another search" \
	"$work/bin/llmjob" run "$work/other.yaml" --storage "data=$work"
check "nothing is left running" poll 60 "the end of all processes" none_running
finish
