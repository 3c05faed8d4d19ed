#!/bin/bash
# Goal: the main job, end to end: apply, train on two nodes, scale to three, lose a rank, lose a
# pod, complete, serve; no sample of a committed step is lost or repeated, and no pod is replaced
# that need not be. Method: manifests/samples/ with the real model and text on the real cluster, as
# they stand or, where LLMJOB_SAMPLE is more than 1, with sequences of half the length. The
# disturbances are what a user or a fault does: kubectl scale, SIGKILL, a forced delete. The ranks'
# sample logs are audited by samples.awk.
. "$(dirname "$0")/lib.sh"
need_llmjob
need_namespace
need_material

work=$(mktemp -d)
trap 'rm -rf "$work"; at_exit' EXIT
sample=$work/finetune.yaml
cp manifests/samples/finetune.yaml "$sample"
[ "${LLMJOB_SAMPLE:-1}" = 1 ] || sed -i -E 's/^( *sequenceLength:) 64$/\1 32/' "$sample"
steps=$(awk '$1 == "steps:" {print $2}' "$sample")
batch=$(awk '$1 == "batchSequences:" {print $2}' "$sample")
logs=$data/ckpt/kjv/samples

pods() { # field: of each pod of the job, a line each
	kn get pods -l llmjob.dev/job=kjv -o jsonpath="{range .items[*]}{$1}{\"\\n\"}{end}"
}
job() { kn get llmjob kjv -o jsonpath="{$1}"; }
uid() { kn get pod "$1" -o jsonpath='{.metadata.uid}'; }
incarnation() { find "$logs" -name '*.log' -printf '%f\n' | sort -n | tail -n 1 | cut -d- -f1; }
ranks_are() { [ "$1" = "$want_ranks" ]; }
trains_with() { # ranks seconds
	want_ranks=$1
	watch "$2" "$1 ranks" ranks_are get llmjob kjv -o jsonpath='{.status.layout.ranks}{"\n"}'
}
# The first step of an incarnation after OLD, by all of its ranks' evidence: a line in rank 0's log.
new_step_after() { [ "$(incarnation)" -gt "$1" ] && [ -s "$logs/$(incarnation)-0.log" ]; }
ended_by() { # incarnation "cause replica"...: its attempt says one of these
	local said want
	said=$(kn get llmjob kjv -o json | jq -r --argjson n "$1" \
		'.status.attempts[] | select(.number == $n) | "\(.cause // "") \(.replica // -1)"')
	for want in "${@:2}"; do [ "$said" != "$want" ] || return 0; done
	echo "attempt $1 ended by: $said"
	return 1
}
attempt_ended() { # seconds incarnation "cause replica"...
	poll "$1" "the end of attempt $2 by $3" ended_by "${@:2}" || ended_by "${@:2}"
}

kn apply -f "$sample" >/dev/null
check "status speaks within seconds" wait_for 15 llmjob/kjv 'jsonpath={.status.task}=Train'
check "two ranks train" trains_with 2 90
check "on two nodes" equal "$(pods '.spec.nodeName' | sort -u | wc -l)" 2
check "steps are taken" step_reached 90 kjv 2
uid_0=$(uid kjv-0) uid_1=$(uid kjv-1)

ms_since() { echo $(((${EPOCHREALTIME/./} - $1) / 1000)); } # microseconds of then

echo "-- replicas 2 -> 3"
old=$(incarnation) scaled=${EPOCHREALTIME/./}
kn scale llmjob kjv --replicas=3 >/dev/null
check "three ranks train" trains_with 3 60
check "and take a step" poll 60 "a step of three ranks" new_step_after "$old"
scaling=$(ms_since $scaled)
check "the first two pods are the same" equal "$(uid kjv-0) $(uid kjv-1)" "$uid_0 $uid_1"
check "steps go on" step_reached 60 kjv $(($(job .status.progress.step) + 2))

echo "-- SIGKILL of a rank"
pid=$(pod_pids kjv-1 llmjob-rank)
old=$(incarnation) killed=${EPOCHREALTIME/./}
kill -9 $pid
check "a new step is taken" poll 30 "a step after the rank's death" new_step_after "$old"
took=$(ms_since $killed)
echo "rank death to first new step: $took ms; replicas to first new step: $scaling ms"
# Both form a world, load and take a step: on a machine that has no time for either, no faster than it scales.
check "within 10 s of the rank's death" [ $took -lt $((scaling > 10000 ? scaling : 10000)) ]
check "in the same pods" equal "$(uid kjv-0) $(uid kjv-1)" "$uid_0 $uid_1"
check "without a container's restart" \
	equal "$(pods '.status.containerStatuses[0].restartCount' | sort -u)" 0
check "status names the rank's replica and the cause" attempt_ended 15 "$old" "RankFailed 1"

echo "-- forced delete of a pod"
uid_2=$(uid kjv-2) old=$(incarnation)
kn delete pod kjv-2 --force --grace-period=0 >/dev/null 2>&1
check "a new step is taken" poll 60 "a step after the pod's end" new_step_after "$old"
check "three ranks train again" trains_with 3 60
check "the pod is a new one" refuses "$uid_2" equal "$(uid kjv-2)" "$uid_2 is gone"
check "the others are the same" equal "$(uid kjv-0) $(uid kjv-1)" "$uid_0 $uid_1"
# Its ranks have a second or two: seldom enough for a step's end and a checkpoint.
check "status names the lost replica, or that it left at a boundary" \
	attempt_ended 15 "$old" "LostPeer 2" "Leaving -1"

echo "-- completion"
check "the job completes" wait_for 600 llmjob/kjv condition=Complete
check "at its last step" equal "$(job .status.progress.step)" "$steps"
check "every sample of every step was consumed once" \
	awk -v batch="$batch" -v steps="$steps" -f tests/e2e/samples.awk "$logs"/*.log
check "the loss fell" jq -en "$(job .status.progress.loss) < $(job .status.progress.firstLoss)"
echo "loss $(job .status.progress.firstLoss) -> $(job .status.progress.loss)"
check "the model is written" test -s "$data/out/kjv/model.safetensors"
none_runs() {
	equal "$(kn get pods -l llmjob.dev/job=kjv --field-selector=status.phase=Running -o name)" ""
}
check "its pods end" poll 60 "no pod runs" none_runs
check "and are kept, with their logs" equal "$(pods '.status.phase')" "$(printf 'Succeeded\n%.0s' 1 2 3)"

echo "-- serving what was trained"
kn apply -f manifests/samples/serve.yaml >/dev/null
check "the served model is Ready" wait_for 90 llmjob/kjv-chat condition=Ready
address=http://$(kn get pod kjv-chat-0 -o jsonpath='{.status.podIP}'):8000
ask() { # stream
	jq -n --argjson stream "$1" '{model: "kjv", max_tokens: 24, temperature: 0, stream: $stream,
		messages: [{role: "user", content: "Who made the heaven?"}]}' |
		curl -sSN --fail-with-body --max-time 60 "$address/v1/chat/completions" \
			-H 'content-type: application/json' -d @-
}
whole() {
	ask false >"$work/whole" || { cat "$work/whole"; return 1; }
	jq -e '.choices[0].message.content != "" and .usage.completion_tokens > 0' "$work/whole"
}
streamed() {
	ask true >"$work/stream" || { cat "$work/stream"; return 1; }
	equal "$(grep . "$work/stream" | tail -n 1)" "data: [DONE]" || return 1
	sed -n 's/^data: {/{/p' "$work/stream" |
		jq -rj '.choices[0].delta.content // empty' >"$work/text"
	equal "$(cat "$work/text")" "$(jq -r '.choices[0].message.content' "$work/whole")"
}
models() { curl -sS --max-time 10 "$address/v1/models" | jq -r '.data[].id'; }
check "it lists the model" equal "$(models || true)" kjv
check "it answers a chat" whole
check "and streams the same answer" streamed
echo "answer: $(cat "$work/text" 2>/dev/null)"

echo "-- removal"
check "deleting the jobs removes their pods" kn delete llmjob kjv kjv-chat --timeout=60s
check "all of them" kn wait --for=delete pod -l app.kubernetes.io/name=llmjob --timeout=60s
check "the checkpoint stays" test -d "$data/ckpt/kjv"
finish
