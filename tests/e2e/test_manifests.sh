#!/bin/bash
# Goal: a wrong manifest is refused by the API server with a sentence that names the field; the samples are accepted,
# and what the API server makes of them is what llmjob reads from the file; once created, only some fields change.
# Method: server-side dry runs against any cluster that has the CRD. Each file of bad-manifests/ holds one mistake and
# says on its first line what the refusal must name; where llmjob refuses it by a rule, the server says the same sentence.
# Then each two of what a job may have (docs/api.md, "What goes with what"): the server takes or refuses what llmjob does.
#
#   KUBECTL="kubectl --kubeconfig ..." LLMJOB=build/llmjob tests/e2e/test_manifests.sh
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
read -ra kubectl <<<"${KUBECTL:-$top/tests/cluster/kubectl}"
llmjob=${LLMJOB:-${O:-$top/build}/llmjob}
namespace=test-manifests-$$
work=$(mktemp -d)
passed=0 failed=0

k() { "${kubectl[@]}" -n $namespace "$@"; }
finish() {
	"${kubectl[@]}" delete namespace $namespace --wait=false >/dev/null 2>&1
	rm -rf "$work"
}
trap finish EXIT
ok() { passed=$((passed + 1)); }
bad() {
	failed=$((failed + 1))
	printf 'FAILED: %s\n' "$*"
}
# What the server said of one file, from the output of one kubectl for all of them.
said_of() { awk -v f="\"$1\"" '/^Error|^error/ { on = index($0, f) } on' "$work/bad.out"; }
# Does a rule of the CRD say so? The server has a sentence of its own for items that do not differ.
is_rule() { [[ $1 != names\ must\ differ\ from\ one* ]] && grep -qxF -- "$1" "$work/messages"; }

"${kubectl[@]}" get crd llmjobs.llmjob.dev >/dev/null || exit 1
"${kubectl[@]}" create namespace $namespace >/dev/null || exit 1

k create --dry-run=server -f "$here/bad-manifests" >"$work/bad.out" 2>&1
sed -nE 's/^ *message: "?(.*[^"])"?$/\1/p' "$top/manifests/crd.yaml" >"$work/messages"
"$llmjob" validate "$here"/bad-manifests/*.yaml >/dev/null 2>"$work/ours.out"
for file in "$here"/bad-manifests/*.yaml; do
	expect=$(sed -n '1s/^# expect: //p' "$file")
	said=$(said_of "$file")
	if [ -z "$expect" ]; then
		bad "$file: no '# expect:' on its first line"
	elif ! grep -qF -- "$expect" <<<"$said"; then
		bad "$(basename "$file"): wanted '$expect', the server said: ${said:-that it is right}"
	else
		ours=$(sed -n "s|^.*/$(basename "$file"): ||p" "$work/ours.out")
		if is_rule "${ours#*: }" && ! { grep -qF -- "${ours%%: *}" <<<"$said" && grep -qF -- "${ours#*: }" <<<"$said"; }; then
			bad "$(basename "$file"): llmjob says '$ours', the server: $said"
		else
			ok
		fi
	fi
done

# One line each of what the server says: its name, and then "created" or why not. One in LLMJOB_SAMPLE is asked.
"$llmjob" api-doc --pairs "$top/manifests/crd.yaml" | awk -v n="${LLMJOB_SAMPLE:-1}" -v seed="${LLMJOB_SEED:-0}" '
	/^---/ { on = (i++ + seed) % n == 0 } on' >"$work/pairs.yaml"
k create --dry-run=server -f "$work/pairs.yaml" 2>&1 | awk '
	/created/ { split($1, part, "/"); print part[2], "created"; next }
	match($0, /"pair-[0-9-]+" is invalid/) { if (name) print name, why; name = substr($0, RSTART + 1, RLENGTH - 13); why = "" }
	name { why = why " " $0 }
	END { if (name) print name, why }' >"$work/pairs.out"
while read -r mark expect; do
	[ "$mark" = "#" ] && { want=${expect#expect:} want=${want# }; continue; }
	[[ "$mark $expect" =~ \"name\":\ ?\"(pair-[0-9-]+)\" ]] || continue
	name=${BASH_REMATCH[1]}
	said=$(grep "^$name " "$work/pairs.out")
	if [ -z "$want" ] && [ "$said" = "$name created" ]; then
		ok
	elif [ -n "$want" ] && [[ $said == *"${want%%: *}"* && $said == *"${want#*: }"* ]]; then
		ok
	else
		bad "$name: llmjob says '${want:-nothing}', the server: $said"
	fi
done <"$work/pairs.yaml"

# Both sides fill in the same defaults: the server's object and the file decode to the same job.
same_job() { # file
	k create --dry-run=server -o json -f "$1" >"$work/server.json" || return 1
	[ -x "$llmjob" ] || return 0
	sed -E 's/^( *"generation": ).*,$/\11,/; /^ *"uid":/d; /^ *"namespace":/d' "$work/server.json" >"$work/job.json"
	diff <("$llmjob" validate --print "$1") <("$llmjob" validate --print "$work/job.json")
}
for file in "$top"/manifests/samples/*.yaml; do
	if said=$(same_job "$file" 2>&1); then ok; else bad "$(basename "$file"): $said"; fi
done

# ---- what may change after creation --------------------------------------------------------------
allowed() { # name patch
	if said=$(k patch llmj "$1" --type=merge --dry-run=server -p "$2" 2>&1); then ok; else bad "$2: $said"; fi
}
refused() { # name patch text
	if said=$(k patch llmj "$1" --type=merge --dry-run=server -p "$2" 2>&1); then
		bad "$2 was accepted"
	elif ! grep -qF -- "$3" <<<"$said"; then
		bad "$2: wanted '$3', the server said: $said"
	else
		ok
	fi
}
k create -f "$top/manifests/samples" >/dev/null || bad "the samples could not be created"
if k create --dry-run=server -f "$top/manifests/hpa.yaml" >/dev/null; then ok; else bad "hpa.yaml is refused"; fi
allowed kjv '{"spec":{"replicas":3}}'
allowed kjv '{"spec":{"replicas":0}}'
allowed kjv '{"spec":{"suspend":true}}'
allowed kjv '{"spec":{"elastic":{"minReplicas":2,"waitSeconds":5}}}'
allowed kjv '{"spec":{"restart":{"maxRestarts":1}}}'
allowed kjv '{"spec":{"health":{"hangSeconds":30}}}'
allowed kjv '{"spec":{"placement":{"nodeSelector":{"zone":"a"}}}}'
allowed kjv-chat '{"spec":{"replicas":0}}'
allowed kjv-chat '{"spec":{"replicas":2}}'
allowed kjv-chat '{"spec":{"serve":{"maxQueue":8}}}'
allowed kjv-chat '{"spec":{"model":{"source":"/data/other"},"resources":{"limits":{"cpu":"1"}}}}'
refused kjv-chat '{"spec":{"parallelism":{"tensor":2},"replicas":2}}' "spec.parallelism"
refused kjv-chat '{"spec":{"managedBy":"a.dev/b"}}' "spec.managedBy"
refused smol '{"spec":{"replicas":4}}' "spec.parallelism"
refused smol '{"spec":{"serve":{"maxQueue":8}}}' "spec.serve"
refused smol '{"spec":{"image":"other"}}' "spec.image"
refused kjv '{"spec":{"replicas":13}}' spec.train.batchSequences
refused kjv '{"spec":{"replicas":1,"elastic":{"minReplicas":2}}}' spec.elastic.minReplicas
refused kjv '{"spec":{"image":"other"}}' "spec.image"
refused kjv '{"spec":{"managedBy":"a.dev/b"}}' "spec.managedBy"
refused kjv '{"spec":{"device":{"perReplica":2}}}' "spec.device"
refused kjv '{"spec":{"resources":{"limits":{"cpu":"1"}}}}' "spec.resources"
refused kjv '{"spec":{"storage":[]}}' "spec.storage"
refused kjv '{"spec":{"model":{"source":"/data/other"}}}' "spec.model"
refused kjv '{"spec":{"precision":"FP32"}}' "spec.precision"
refused kjv '{"spec":{"checkpoint":{"everySteps":1}}}' "spec.checkpoint"
refused kjv '{"spec":{"train":{"steps":61}}}' "spec.train"
refused kjv '{"spec":{"train":{"optimizer":{"learningRate":1}}}}' "spec.train"
refused kjv '{"spec":{"activeDeadlineSeconds":5}}' "spec.activeDeadlineSeconds"
refused kjv '{"spec":{"ttlSecondsAfterFinished":5}}' "spec.ttlSecondsAfterFinished"
refused kjv '{"spec":{"train":null,"serve":{}}}' "which one is set is immutable"
refused kjv-chat '{"spec":{"model":null}}' "spec.model"
refused hello '{"spec":{"run":{"command":["/bin/false"]}}}' "spec.run"
refused hello '{"spec":{"model":{"source":"/data/m"}}}' "spec.model"
refused hello '{"spec":{"run":null,"serve":{}}}' "which one is set is immutable"
if k scale llmj kjv --replicas=3 >/dev/null && [ "$(k get llmj kjv -o 'jsonpath={.spec.replicas}')" = 3 ]; then
	ok
else
	bad "kubectl scale"
fi

# ---- scale: what an autoscaler reads and writes, of the job that hpa.yaml names -------------------
scale=/apis/llmjob.dev/v1alpha1/namespaces/$namespace/llmjobs
target=$(sed -n 's/^ *name: *\([-a-z]*\) .*samples.*/\1/p' "$top/manifests/hpa.yaml")
scaled() { # job replicas: by its scale alone
	"${kubectl[@]}" get --raw "$scale/$1/scale" | jq ".spec.replicas = $2" | "${kubectl[@]}" replace --raw "$scale/$1/scale" -f - 2>&1
}
if said=$(scaled "$target" 5) && [ "$(k get llmj "$target" -o 'jsonpath={.spec.replicas}')" = 5 ]; then ok; else bad "scale of $target: $said"; fi
if said=$(scaled "$target" 65); then
	bad "65 replicas whose requests are routed were accepted"
elif grep -qF spec.serve.routing.prefixAffinity <<<"$said"; then
	ok
else
	bad "65 replicas: $said"
fi

# ---- status: every column has its place ----------------------------------------------------------
status='{"status":{"task":"Train","ready":"2/2","state":"Training","restarts":1,"replicas":2,"selector":"a=b",
 "progress":{"step":12,"loss":3.0625,"tokensPerSecond":812},"layout":{"summary":"dp2"},"checkpoint":{"step":10},
 "verdict":{"kind":"Straggler"}}}'
k patch llmj kjv --subresource=status --type=merge -p "$status" >/dev/null || bad "status could not be written"
seen=$("${kubectl[@]}" get --raw "$scale/kjv/scale" | jq -c '[.spec.replicas, .status.replicas, .status.selector]')
if [ "$seen" = '[3,2,"a=b"]' ]; then ok; else bad "an autoscaler sees $seen"; fi
row=$(k get llmj kjv -o wide --no-headers | awk '{ $9 = "AGE"; print }')
want="kjv Train 2/2 Training 12 3.0625 812 1 AGE dp2 10 Straggler"
if [ "$row" = "$want" ]; then ok; else bad "columns: wanted '$want', got '$row'"; fi
all=$(k get all -o name) # a pipe into grep -q would end kubectl by SIGPIPE now and then
if grep -qx llmjob.llmjob.dev/kjv <<<"$all"; then ok; else bad "kubectl get all does not list llmjobs: $all"; fi

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
