#!/bin/bash
# Goal: manifests/samples/evaluate.yaml keeps its word on a real model: its table is told, and the model does better than chance.
# Method: `llmjob run` with SmolLM2-135M and some of the questions. That one replica says the same is test_convert.sh's affair.
. "$(dirname "$0")/lib.sh"
alone
data=$work/data

prepare() {
	own_programs
	need_material
	sed -E 's/^( *)sequenceLength:.*/\1sequenceLength: 64\n\1samples: 8/' manifests/samples/evaluate.yaml >"$work/questions.yaml"
}
runs() { env "TMPDIR=$work" timeout 600 "$work/bin/llmjob" run "$work/questions.yaml" --storage "data=$data" --plain >"$out" 2>&1; }

prepare
check "the sample's questions are asked by two replicas" runs
sed -n '/^accuracy/,$p' "$out"
check "its table is told" grep -qE '^accuracy +[0-9.]+ \+- [0-9.]+$' "$out"
chance=$(jq -s 'map(1 / (.choices | length)) | add / length' "$data/questions.jsonl")
echo "by chance: $chance"
check "better than by chance" jq -e ".questions == 8 and .accuracy > $chance + 2 * .accuracyStandardError" "$data/out/questions/report.json"
finish
