#!/bin/bash
# Goal: manifests/samples/evaluate.yaml keeps its word on a real model: its table is told, and the model does better than chance.
# Method: `llmjob run` with SmolLM2-135M and some of the questions. That one replica says the same is test_convert.sh's affair.
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
data=$work/data out=$work/out

prepare() {
	mkdir -p "$work/bin"
	cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
	need_material
	sed -E 's/^( *)sequenceLength:.*/\1sequenceLength: 64\n\1samples: 8/' manifests/samples/evaluate.yaml >"$work/questions.yaml"
}
explain() { tail -n 40 "$out" "$work"/llmjob-*/agent-*.log 2>/dev/null; }
clean_up() {
	local pids
	pids=$(find /proc -maxdepth 2 -name exe -lname "$work/bin/*" 2>/dev/null | cut -d/ -f3 || true)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
runs() { env "TMPDIR=$work" timeout 600 "$work/bin/llmjob" run "$work/questions.yaml" --storage "data=$data" --plain >"$out" 2>&1; }

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
prepare
check "the sample's questions are asked by two replicas" runs
sed -n '/^accuracy/,$p' "$out"
check "its table is told" grep -qE '^accuracy +[0-9.]+ \+- [0-9.]+$' "$out"
chance=$(jq -s 'map(1 / (.choices | length)) | add / length' "$data/questions.jsonl")
echo "by chance: $chance"
check "better than by chance" jq -e ".questions == 8 and .accuracy > $chance + 2 * .accuracyStandardError" "$data/out/questions/report.json"
finish
