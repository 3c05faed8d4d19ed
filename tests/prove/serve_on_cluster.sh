#!/bin/bash
# serve_on_cluster.sh: manifests/samples/serve-sharded.yaml on the local cluster.
#
# Goal: a model that does not fit the memory of one pod answers from two; when a rank of either is killed, each running request ends with
# one clear error, and the next is answered within 5 s by the same pods. Method: the sample as it stands, its limit enforced by the
# node's cgroups; the Service leads to replica 0 alone; then the same job for one rank, which says that it does not fit, and what to write.
. "$(dirname "$0")/../e2e/lib.sh"
need_llmjob
need_namespace
need_material
work=$(mktemp -d)
trap 'rm -rf "$work"; at_exit' EXIT

ask() { # tokens stream question
	jq -n --argjson n "$1" --argjson stream "$2" --arg q "$3" '{model: "smol", temperature: 0, max_tokens: $n, stream: $stream,
		messages: [{role: "user", content: $q}]}' |
		curl -sSN --max-time 60 "http://$address:8000/v1/chat/completions" -H 'content-type: application/json' -d @-
}
knows() { ask 16 false 'What is the capital of France?' | jq -e '.choices[0].message.content | contains("Paris")'; }
answers() { ask 1 false 'Hello' | jq -e .choices; }
streams() { [ "$(grep -c '^data: ' "$work/stream")" -gt 5 ]; }
pods() { kn get pods -o json | jq -r '.items[] | "\(.metadata.name) \(.metadata.uid) \(.status.containerStatuses[0].restartCount)"'; }
leads_to() { kn get endpointslices -l kubernetes.io/service-name=smol -o json | jq -r '[.items[].endpoints[].addresses[]] | join(" ")'; }
one_error() { equal "$(grep -c '"error"' "$1")" 1 && grep -F 'the model was stopped' "$1" && ! grep -F '[DONE]' "$1"; }
kill_rank() { # pod
	local begun told back first second
	ask 1500 true 'Tell me about the sea.' >"$work/stream" & first=$!
	ask 1500 false 'Tell me about the sea.' >"$work/whole" & second=$!
	poll 60 "a stream" streams
	begun=${EPOCHREALTIME/./}
	kill -9 "$(pod_pids "$1" llmjob-rank)"
	wait $first $second || true
	told=${EPOCHREALTIME/./}
	poll 30 "an answer" answers
	back=${EPOCHREALTIME/./}
	told_ms=$(((told - begun) / 1000)) back_ms=$(((back - begun) / 1000))
}

kn apply -f manifests/samples/serve-sharded.yaml >/dev/null
check "the sample is served" wait_for 180 llmjob/smol condition=Ready
address=$(kn get pod smol-0 -o jsonpath='{.status.podIP}')
check "by two pods, both ready" wait_for 30 pod/smol-1 condition=Ready
check "the Service leads to the one that answers" equal "$(leads_to)" "$address"
check "it answers" knows
before=$(pods)
for pod in smol-1 smol-0; do
	kill_rank $pod
	check "a rank of $pod is killed: one error ends the stream" one_error "$work/stream"
	check "and one the other request" one_error "$work/whole"
	check "the next is answered within 5 s" [ "$back_ms" -lt 5000 ]
	echo "$pod: errors after $told_ms ms, answers after $back_ms ms"
done
check "by the same pods" equal "$(pods)" "$before"
check "with what it knew" knows
kn delete llmjob smol --timeout=60s >/dev/null

sed -E 's/^( *replicas:) 2/\1 1/; s/^( *tensor:) 2/\1 1/' manifests/samples/serve-sharded.yaml | kn apply -f - >/dev/null
advises() { kn logs smol-0 | grep -F 'may use 192 MiB; with spec.parallelism {tensor: 2, pipeline: 1} each of 2 ranks needs'; }
check "one rank is too small for it, and says what to write" poll 120 "its refusal" advises
finish
