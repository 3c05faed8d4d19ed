#!/bin/bash
# samples_on_cluster.sh [SAMPLE...]: the samples whose ranks divide something, or talk less, on the local cluster.
#
# Goal: manifests/samples/sharded.yaml, zero.yaml, experts.yaml, long-context.yaml and communication.yaml are taken by the API
# server, train in the layout that they ask for, and end with a model. Method: the samples as they stand, with their model and
# text, but few steps of short sequences. The layout is read where a user reads it, status, and where the ranks say it: the plan in
# rank 0's log, and the checkpoint's manifest with a file a rank.
. "$(dirname "$0")/../e2e/lib.sh"
[ $# -gt 0 ] || set -- sharded zero experts long-context communication
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
planned() { kn logs "$name-0" | sed -n 's/.*\(data=[0-9]* tensor=[0-9]* pipeline=[0-9]* expert=[0-9]* context=[0-9]* zeroStage=[0-9]*\).*/\1/p'; }
told() {
	kn get llmjob "$name" -o json | jq -r '.status.layout | "data=\(.data) tensor=\(.tensor) pipeline=\(.pipeline) expert=\(.expert // 1) " +
		"context=\(.context // 1) zeroStage=\(.zeroStage // 0)"'
}
written() { jq -r '"\(.layout), \(.files | length) files"' "$data/ckpt/$name/step-00000004/manifest.json"; }
ranks() { kn get llmjob "$name" -o json | jq '.spec.replicas * .spec.device.perReplica'; }

sed -nE 's/^# +//; /^\{"architectures"/,/\}$/p' manifests/samples/experts.yaml | jq . >"$data/mixture.json"
chmod a+r "$data/mixture.json"
for sample in "$@"; do
	name=$(awk '$1 == "name:" {print $2; exit}' "manifests/samples/$sample.yaml")
	started=$SECONDS
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
