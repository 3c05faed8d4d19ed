#!/bin/bash
# serve_replicas.sh: manifests/samples/serve-replicas.yaml on the local cluster, under load.
#
# Goal: as many replicas as are wanted answer, by one name, and no request is lost while a new version is rolled out and while replicas are
# scaled down and up; a version that cannot be loaded takes nothing away; a replica whose rank hangs is named in status and comes back; one whose
# rank is killed answers within 5 s; a conversation finds what it began with in a cache, whichever replica is asked, and no request that was sent on
# is lost with the replica that it was for; adapters that are added, exchanged and taken out under load are what each replica has in seconds, by
# the same pods; an autoscaler finds the replicas and changes their number. Method: the sample as it stands; clients in a node's network (steady.py) ask the Service's ClusterIP all the
# time; the fewest ready pods are read from a watch of the EndpointSlices.
. "$(dirname "$0")/../e2e/lib.sh"
need_llmjob
need_namespace
need_material
work=$(mktemp -d)
chmod 755 "$work"
watcher=""
trap '[ -z "$watcher" ] || kill $watcher 2>/dev/null; touch "$work/stop"; wait; rm -rf "$work"; at_exit' EXIT

status() { kn get llmjob smol-many -o jsonpath="{.status.$1}"; }
uids() { kn get pods -o jsonpath='{range .items[*]}{.metadata.uid}{"\n"}{end}' | sort; }
ready_is() { [ "$(endpoints | wc -l)" = "$1" ]; }
endpoints() { kn get endpointslices -l kubernetes.io/service-name=smol-many -o json |
	jq -r '.items[].endpoints[]? | select(.conditions.ready) | .addresses[]'; }
settled() { # replicas
	[ "$(kn get llmjob smol-many -o json | jq -r '"\(.metadata.generation) \(.status.observedGeneration) \(.status.readyReplicas) " +
		"\(.status.updatedReplicas) \(.status.replicas) \(.status.conditions[] | select(.type == "Reconciling").status)"' |
		awk '$1 == $2')" = "$(kn get llmjob smol-many -o jsonpath='{.metadata.generation}' | sed "s/.*/& & $1 $1 $1 False/")" ]
}
begin_load() { # what
	rm -f "$work/stop" "$work/asked"
	nsenter -t "$(cat "$state/node-0/init")" -n -- python3 -IS "$top/tests/prove/steady.py" "http://$service:8000/v1" smol 4 12 "$work" \
		>"$work/load" 2>&1 & load=$!
	poll 60 "answers" asked_more 5
	kn get endpointslices -l kubernetes.io/service-name=smol-many -o json --watch |
		jq -r --unbuffered '[.endpoints[]? | select(.conditions.ready)] | length' >"$work/ready" & watcher=$!
}
asked_more() { [ "$(cat "$work/asked" 2>/dev/null || echo 0)" -ge "$1" ]; }
end_load() { # how many ready replicas at least
	asked=$(cat "$work/asked")
	poll 60 "further answers" asked_more $((asked + 10))
	touch "$work/stop"
	lost=0
	wait $load || lost=$?
	check "no request was lost" equal "$lost $(sed '/ 0 lost,/d' "$work/load")" "0 "
	tail -n 1 "$work/load"
	kill $watcher 2>/dev/null || true
	check "never were fewer than $1 ready" [ "$(sort -n "$work/ready" | head -n 1)" -ge "$1" ]
	watcher=""
}
answers() { curl -sS --max-time 20 "http://$1:8000/v1/completions" -H 'content-type: application/json' \
	-d '{"model": "smol", "prompt": "The capital of France is", "max_tokens": 3, "temperature": 0}' | jq -e '.choices[0].text | contains("Paris")'; }

# Conversations, asked from a node: of the Service, or of replicas by their addresses.
converse() { # conversations turns url...
	nsenter -t "$(cat "$state/node-0/init")" -n -- python3 -IS "$top/tests/prove/affinity.py" smol "$@"
}
found() { jq -r .found "$work/$1"; }
address_of() { kn get pod "smol-many-$1" -o jsonpath='{.status.podIP}'; }
metric() { curl -sS --max-time 20 "http://$(address_of "$1"):7070/metrics" | awk -v name="$2" '$1 == name { print $2 }'; } # replica name
counted() { for i in 0 1 2; do metric $i "$1"; done | awk '{ n += $1 } END { print n }'; }
routes() { # they know each other
	converse 1 1 "http://$service:8000/v1"
	[ "$(counted llmjob_requests_kept_total)" -gt 0 ] && [ "$(counted llmjob_requests_forwarded_total)" -gt 0 ]
}
sent_on() { [ "$(metric 2 llmjob_requests_total)" -gt "$asked" ]; }

kn apply -f manifests/samples/serve-replicas.yaml >/dev/null
check "three replicas are served" poll 180 "three replicas" settled 3
service=$(kn get service smol-many -o jsonpath='{.spec.clusterIP}')
check "the Service leads to three pods" ready_is 3
check "of which each answers" eval 'for at in $(endpoints); do answers $at || exit 1; done'

check "they know each other" poll 60 "a request that was sent on" routes
check "conversations are answered" eval 'converse 12 4 "http://$service:8000/v1" >"$work/with"'
check "nine tenths of what they say again are found" jq -en "$(found with) > 0.9"
echo "found with routing: $(found with); sent on $(counted llmjob_requests_forwarded_total), kept $(counted llmjob_requests_kept_total)," \
	"fallen back $(counted llmjob_requests_fallback_total)"
asked=$(metric 2 llmjob_requests_total)
converse 24 4 "http://$(address_of 0):8000/v1" "http://$(address_of 1):8000/v1" >"$work/killed" 2>"$work/losses" & talking=$!
poll 60 "a request that was sent on" sent_on
kill -9 $(pod_pids smol-many-2 llmjob-agent) $(pod_pids smol-many-2 llmjob-rank)
lost=0
wait $talking || lost=$?
check "no request is lost with the replica that it was sent to" equal "$lost $(cat "$work/losses")" "0 "
cat "$work/killed"
check "three answer again" poll 60 "three replicas" settled 3

begin_load
before=$(uids)
began=$SECONDS
kn patch llmjob smol-many --type=merge -p '{"spec": {"serve": {"maxSequences": 2, "routing": null}}}' >/dev/null
check "another version is rolled out under load" poll 240 "the new version" settled 3
echo "rolled out in $((SECONDS - began)) s"
check "every pod is another one" [ -z "$(comm -12 <(uids) <(echo "$before"))" ]
end_load 3
check "conversations are answered without routing, too" eval 'converse 12 4 "http://$service:8000/v1" >"$work/without"'
echo "found without routing: $(found without)"
check "and find less" jq -en "$(found without) < $(found with) - 0.2"

begin_load
kn scale llmjob smol-many --replicas=1 >/dev/null
check "replicas are scaled down under load" poll 120 "one replica" settled 1
kn scale llmjob smol-many --replicas=2 >/dev/null
check "and up" poll 120 "two replicas" settled 2
end_load 1

matrices="self_attn.q_proj:576:576 self_attn.o_proj:576:576"
python3 tests/e2e/random_adapter.py "$data/adapters/a" 1 8 0.1 30 $matrices
python3 tests/e2e/random_adapter.py "$data/adapters/b" 2 8 0.1 30 $matrices
list() { kn patch llmjob smol-many --type=merge -p "{\"spec\": {\"serve\": {\"adapterMemory\": \"16Mi\", \"adapters\": [$1]}}}" >/dev/null; }
item() { echo "{\"name\": \"$1\", \"path\": \"/data/adapters/${2:-$1}\"}"; }
named() { # address model: what it says by that name, as status and text
	curl -sS --max-time 20 -w '\n%{http_code}' "http://$1:8000/v1/completions" -H 'content-type: application/json' \
		-d "{\"model\": \"$2\", \"prompt\": \"The capital of France is\", \"max_tokens\": 8, \"temperature\": 0}" |
		jq -rs '"\(.[1]) \(.[0].choices[0].text? // .[0].error.message | gsub("\n"; " "))"'
}
each() { # model pattern: each replica says so by that name
	local at
	for at in $(endpoints); do named "$at" "$1" | grep -q "$2" || return; done
}
adapters() { kn get llmjob smol-many -o json | jq -r '.status.conditions[] | select(.type == "AdaptersReady") | "\(.status) \(.reason) \(.message)"'; }
adapters_are() { adapters | grep -q "$1"; }
list "$(item a)"
check "a version with adapters is rolled out" poll 120 "the new version" settled 2
check "and has them" poll 20 "AdaptersReady" adapters_are 'True AdaptersListed 1 adapters, in each of 2 replicas'
said=$(named "$(endpoints | head -n 1)" a)
before=$(uids)
begin_load
begun=${EPOCHREALTIME/./}
list "$(item a), $(item b)"
check "an adapter that is added answers from each replica" poll 20 "b" each b '^200 '
echo "from each $(((${EPOCHREALTIME/./} - begun) / 1000)) ms after the edit"
check "which status says" poll 10 "AdaptersReady" adapters_are 'True AdaptersListed 2 adapters, in each of 2 replicas'
echo "and status says so $(((${EPOCHREALTIME/./} - begun) / 1000)) ms after it"
list "$(item c a), $(item b), $(item none)"
check "one is known by another name" poll 20 "c" each c "^$said\$"
check "and by its own no more" poll 20 "a 404" each a '^404 '
check "one whose folder is not there is told of" poll 20 "its name" adapters_are 'False AdapterNotLoaded pod smol-many-[01]: none: .*/data/adapters/none'
check "in an Event" poll 20 "an Event" eval 'kn get events | grep -q "AdapterNotLoaded.*none: "'
check "and to who asks for it" each none '^503 none: .*/data/adapters/none'
check "the others go on" each b '^200 '
list "$(item c a), $(item b)"
check "until it is taken out" poll 20 "AdaptersReady" adapters_are 'True AdaptersListed 2 adapters'
end_load 2
check "all by the same pods" equal "$(uids)" "$before"

able() { kn get hpa smol-many -o jsonpath='{.status.conditions[?(@.type=="AbleToScale")].status}' | grep -x True; }
wants() { [ "$(kn get llmjob smol-many -o jsonpath='{.spec.replicas}')" = "$1" ]; }
sed 's/maxReplicas: .*/maxReplicas: 1/' manifests/hpa.yaml | kn create -f - >/dev/null
check "an autoscaler finds the replicas" poll 120 "a scale" able
check "and takes them to the most that it allows" poll 60 "one replica" wants 1
kn delete hpa smol-many >/dev/null
kn scale llmjob smol-many --replicas=2 >/dev/null
check "two are wanted again" poll 120 "two replicas" settled 2

before=$(uids)
kn patch llmjob smol-many --type=merge -p '{"spec": {"model": {"source": "/data/models/none.gguf"}}}' >/dev/null
check "a version that cannot be loaded is told" wait_for 60 llmjob/smol-many condition=Stalled
check "by the pod that tried it" eval 'status "conditions[?(@.type==\"Stalled\")].message" | grep "pod smol-many-2 gave up: .*none.gguf"'
check "the others answer" eval 'for at in $(endpoints); do answers $at || exit 1; done'
check "and are there still" [ "$(comm -12 <(uids) <(echo "$before") | wc -l)" = 2 ]
kn patch llmjob smol-many --type=merge -p '{"spec": {"model": {"source": "/data/models/SmolLM2-135M-Instruct.Q4_1.gguf"}}}' >/dev/null
check "when it is taken back they stay, and it goes" poll 60 "two replicas" settled 2
check "without another roll-out" equal "$(uids)" "$before"

address=$(kn get pod smol-many-1 -o jsonpath='{.status.podIP}')
kill -STOP "$(pod_pids smol-many-1 llmjob-rank)"
began=$SECONDS
answers "$address" >/dev/null 2>&1 & asking=$!
hangs() { status verdict.message | grep '^pod smol-many-1: .*silent'; }
check "a replica whose rank hangs is named" poll 60 "a verdict" hangs
echo "named after $((SECONDS - began)) s"
wait $asking || true
check "and answers again" poll 30 "an answer" answers "$address"
check "with the same pods" equal "$(uids)" "$before"
healthy() { [ "$(status 'conditions[?(@.type=="Healthy")].status')" = True ]; }
check "the verdict goes" poll 60 "health" healthy

begun=${EPOCHREALTIME/./}
kill -9 "$(pod_pids smol-many-1 llmjob-rank)"
check "a killed rank is replaced" poll 30 "an answer" answers "$address"
back_ms=$(((${EPOCHREALTIME/./} - begun) / 1000))
check "within 5 s" [ $back_ms -lt 5000 ]
echo "answers $back_ms ms after the kill"
finish
