#!/bin/bash
# elastic_on_cluster.sh [plain] [shared]: a training whose world changes while it runs, on the local cluster.
#
# Goal: replicas 2 -> 4 -> 1 -> 3, and a node that dies in between, change nothing of what is learnt: at every step the loss is
# within a relative 1e-5 of what one rank has that nothing disturbs, and every sample of every step counts once. A world costs less
# than 5 s from the last step of the one before it to its own first, beside what had to be waited for: a pod's start, as the API
# server tells it, or that a loss is noticed and elastic.waitSeconds pass. Method: a small Llama from random weights learns the King
# James text, in FP32. `plain` has a rank a pod and the planner's layout; when the node dies no other has room, so the world goes on
# without its pods (elastic.minReplicas) and takes them back with the node. `shared` has two ranks a pod that share every layer
# (tensor: 2) and divide the optimizer's state (zeroStage: 1); with the node the coordinator dies, and is made anew on another. Steps
# are read from TensorBoard's points, losses from metrics.jsonl, samples from the ranks' logs. In the end the jobs are suspended, and
# `llmjob run` takes as many steps by one rank.
. "$(dirname "$0")/../e2e/lib.sh"
[ $# -gt 0 ] || set -- plain shared
batch=24
need_llmjob
need_namespace
work=$(mktemp -d)
lost="" # the node that is down, its number
clean_up() {
	[ -z "$lost" ] || "$top/tests/cluster/node" up "$lost" || true
	k uncordon node-0 node-1 node-2 >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT

prepare() {
	mkdir -p "$data/model" "$work/here"
	cp tests/golden/tiny-llama/*.* "$data/model/" # lends its tokenizer
	byte_tokenizer >"$data/model/tokenizer.json"
	jq -n '{architectures: ["LlamaForCausalLM"], model_type: "llama", vocab_size: 256, hidden_size: 128, intermediate_size: 384,
		num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 4, max_position_embeddings: 256, rms_norm_eps: 1e-5,
		rope_theta: 10000, hidden_act: "silu", tie_word_embeddings: true, bos_token_id: 0, eos_token_id: 0}' >"$data/config.json"
	tests/e2e/kjv "$work/kjv.txt"
	head -c 400000 "$work/kjv.txt" >"$data/kjv.txt"
	chmod -R a+rX "$data"
	cp -r "$data/model" "$data/config.json" "$data/kjv.txt" "$work/here/"
}
write_job() { # name steps perReplica parallelism
	cat <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: $1}
		spec:
		  replicas: 2
		  device: {perReplica: $3}
		  elastic: {waitSeconds: 600}
		  storage: [{name: data, claimName: llmjob-data, mountPath: /data}]
		  model: {source: /data/model, init: Random, config: /data/config.json}
		  parallelism: {$4}
		  precision: FP32
		  checkpoint: {path: /data/ckpt/$1, everySteps: 10}
		  train:
		    data: {train: /data/kjv.txt}
		    sequenceLength: 64
		    batchSequences: $batch
		    steps: $2
		    seed: 1
		    optimizer: {learningRate: 0.0001, schedule: Constant}
		    tensorboard: /data/board/$1
		    output: /data/out/$1
	E
}
job() { kn get llmjob "$name" -o jsonpath="{$1}"; }
incarnation() { find "$data/ckpt/$name/samples" -name '*.log' -printf '%f\n' | sort -n | tail -n 1 | cut -d- -f1; }
new_step_after() { [ "$(incarnation)" -gt "$1" ] && [ -s "$data/ckpt/$name/samples/$(incarnation)-0.log" ]; }
layout_is() { [ "$1" = "$want_layout" ]; }
# The world of this layout takes steps, ten of them; a line for the table.
becomes() { # what layout seconds
	want_layout=$2
	check "$name, $1: $2" watch "$3" "$2" layout_is get llmjob "$name" -o jsonpath='{.status.layout.summary}{"\n"}'
	check "and takes a step" poll "$3" "a step of a new world" new_step_after "$old"
	old=$(incarnation)
	check "and more" step_reached 120 "$name" $(($(job .status.progress.step) + 10))
	# The world's number, when its youngest pod's container began, and when it was formed.
	kn get llmjob "$name" -o json | jq -r --argjson n "$old" \
		'.status.attempts[] | select(.number == $n) | .started | fromdate' >"$work/formed"
	printf '%s|%s|%s|%s|%s\n' "$old" "$1" "$2" "$(kn get pods -l "llmjob.dev/job=$name" -o json |
		jq '[.items[].status.containerStatuses[]?.state.running.startedAt | values | fromdate] | max')" \
		"$(cat "$work/formed")" >>"$work/changes.$name"
}
patch() { kn patch llmjob "$name" --type merge -p "{\"spec\":$1}" >/dev/null; }
node_of() { kn get pod "$name-$1" -o jsonpath='{.spec.nodeName}'; }
crash() { # node
	lost=${1#node-}
	"$top/tests/cluster/node" crash "$lost"
}
comes_back() {
	"$top/tests/cluster/node" up "$lost"
	lost=""
}
node_is_ready() { k wait "node/$1" --for=condition=Ready --timeout=60s; }

# ---- the two stories -----------------------------------------------------------------------------
plain() {
	local other
	old=0 name=plain
	write_job plain 100000 1 "" | kn apply -f - >/dev/null
	becomes "begins" dp2 120
	patch '{"replicas":4}'
	becomes "replicas 2 -> 4" dp4 120
	patch '{"elastic":{"minReplicas":2,"waitSeconds":5}}'
	for other in 1 2 3; do
		node=$(node_of $other)
		[ "$node" = "$(node_of 0)" ] || break
	done
	alive=$(kn get pods -l llmjob.dev/job=plain -o json | jq --arg n "$node" '[.items[] | select(.spec.nodeName != $n)] | length')
	k cordon node-0 node-1 node-2 >/dev/null
	crash "$node"
	becomes "$node dies, nowhere is room" "dp$alive" 120
	check "status tells of the loss" equal "$(job ".status.attempts[?(@.cause==\"LostPeer\")].cause")" LostPeer
	k uncordon "$node" >/dev/null
	comes_back
	becomes "$node is back" dp4 120
	k uncordon node-0 node-1 node-2 >/dev/null
	patch '{"replicas":1,"elastic":{"minReplicas":1,"waitSeconds":600}}'
	becomes "replicas 4 -> 1" dp1 120
	patch '{"replicas":3}'
	becomes "replicas 1 -> 3" dp3 120
}
shared() {
	old=0 name=shared
	write_job shared 100000 2 "tensor: 2, zeroStage: 1" | kn apply -f - >/dev/null
	becomes "begins" "dp2 x tp2 zero1" 120
	patch '{"replicas":4}'
	becomes "replicas 2 -> 4" "dp4 x tp2 zero1" 120
	node=$(node_of 0)
	crash "$node"
	becomes "$node dies with the coordinator" "dp4 x tp2 zero1" 120
	comes_back
	check "$node is back" node_is_ready "$node"
	patch '{"replicas":1}'
	becomes "replicas 4 -> 1" "dp1 x tp2" 120
	patch '{"replicas":3}'
	becomes "replicas 1 -> 3" "dp3 x tp2 zero1" 120
}

# ---- what became of them -------------------------------------------------------------------------
losses() { # folder of checkpoints: a line a step, of what was said of it last
	jq -r 'select(.loss) | "\(.step) \(.loss)"' "$1/metrics.jsonl" |
		awk '{ of[$1] = $2; last = $1 > last ? $1 : last } END { for (i = 1; i <= last; i++) print i, of[i] }'
}
compare() { # of the last job: within 1e-5 of one rank at every step
	paste -d' ' <(losses "$data/ckpt/$name") <(losses "$work/here/ckpt/one" | head -n "$steps") | awk -v steps="$steps" '
		NF != 4 || $1 != $3 { print "line " NR ": " $0; exit bad = 1 }
		{ off = $2 / $4 - 1; off = off < 0 ? -off : off; if (off > most) { most = off; at = $1 } }
		END { printf "%d steps, loss %.4f -> %.4f, at most %.1e from one rank (step %d)\n", NR, first, $2, most, at
			exit bad || NR != steps || most > 1e-5 }
		NR == 1 { first = $2 }'
}
# Each world but the first: from the last step before it to its first.
table() {
	python3 tests/prove/facts.py worlds "$data/board/$name" >"$work/worlds"
	awk -F'|' -v name="$name" '
		BEGIN { printf "%-8s %-36s %-18s %8s %8s %8s\n", name, "", "layout", "s", "waited", "beside" }
		NR == FNR { split($0, w, " "); first[w[1]] = w[3]; last[w[1]] = w[5]; number[n++] = w[1]; next }
		FNR > 1 {
			if (!($1 in first)) { print "no step of world " $1; bad = 1; next }
			for (i = 0; i < n && number[i] + 0 < $1 + 0; i++) before = last[number[i]]
			from = before
			if ($4 + 0 > from) from = $4 + 0
			if ($2 ~ /nowhere is room/ && $5 + 0 > from) from = $5 + 0
			beside = first[$1] - from
			if (beside > 5) bad = 1
			printf "%-8s %-36s %-18s %8.2f %8.2f %8.2f\n", "", $2, $3, first[$1] - before, from - before, beside
		}
		END { exit bad }' "$work/worlds" "$work/changes.$name"
}
audit() {
	name=$1
	patch '{"suspend":true}'
	check "$name is suspended" wait_for 120 "llmjob/$name" condition=Suspended
	steps=$(job .status.progress.step)
	check "$name: every sample of $steps steps counted once" awk -v batch=$batch -v steps="$steps" \
		-f tests/e2e/samples.awk "$data/ckpt/$name"/samples/*.log
	echo "$steps" >>"$work/steps"
	kn get llmjob "$name" -o json | jq -c '.status | {restarts, attempts: [.attempts[] | {number, cause, replica, node, step, stepsLost}]}'
}
one_rank() {
	write_job one "$(sort -n "$work/steps" | tail -n 1)" 1 "" | sed 's/replicas: 2/replicas: 1/' >"$work/one.yaml"
	timeout 900 "$O/llmjob" run "$work/one.yaml" --storage "data=$work/here" --plain >"$work/said" 2>&1 || { tail -n 20 "$work/said"; return 1; }
}

prepare
for story in "$@"; do
	$story
	audit "$story"
done
check "one rank takes as many steps" one_rank
for name in "$@"; do
	steps=$(job .status.progress.step)
	check "$name: the same losses" compare
	compare || true
	check "$name: worlds cost less than 5 s" table
	table || true
done
finish
