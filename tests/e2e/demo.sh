#!/bin/bash
# demo: what a person does with llmjob, and sees: fine-tune a real model on two nodes, scale it to
# three while it trains, lose a rank, lose a pod, complete, serve, ask. Boots the local cluster and
# takes it down, or, with DEMO_KUBECONFIG (make demo KUBECONFIG=...), uses a cluster that is there;
# see `other_cluster` for what that needs. Ends non-zero when anything did.
. "$(dirname "$0")/lib.sh"
trap clean_up EXIT
namespace=llmjob-demo
llmjob=$O/llmjob
finished=1

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
[ -t 1 ] || title() { printf '\n== %s\n' "$*"; }
show() {
	printf '$ %s\n' "$*"
	"$@"
}

# ---- where it runs -------------------------------------------------------------------------------
local_cluster() {
	if [ "$(id -u)" != 0 ]; then
		echo "demo: the local cluster needs root; or: make demo KUBECONFIG=<file>" >&2
		exit 1
	fi
	title "a Kubernetes of three nodes on this machine"
	need_cluster
	title "helm install"
	need_llmjob
	need_namespace
	need_material
}

# Another cluster needs the image where its nodes can pull it (DEMO_IMAGE=registry/name:tag, made by
# `make image` or the Dockerfile) and a storage class for ReadWriteMany (DEMO_STORAGE_CLASS, else
# the cluster's default). DEMO_UPLOAD_IMAGE is any image with a shell, cat, mkdir, sleep and wc.
other_cluster() {
	: "${DEMO_IMAGE:?demo on another cluster: set it to where the nodes can pull the image}"
	export KUBECONFIG=$DEMO_KUBECONFIG
	if ! command -v kubectl >/dev/null || ! command -v helm >/dev/null; then
		"$top/tests/cluster/binaries" >/dev/null
		PATH=$PATH:$(. tests/cluster/lib.sh && echo "$bin")
	fi
	kubectl=$(command -v kubectl)
	title "helm install"
	helm status llmjob -n $system >/dev/null 2>&1 || installed=1
	helm upgrade --install llmjob helm/llmjob -n $system --create-namespace --wait \
		--timeout 120s --set image.repository="${DEMO_IMAGE%:*}" \
		--set image.tag="${DEMO_IMAGE##*:}" >/dev/null
	restricted $namespace
	title "the model and the text, onto the claim llmjob-data"
	upload
}
# A connection that breaks ends kubectl exec well, with half a file.
send() { # file path
	local try size
	size=$(stat -c %s "$1")
	for try in 1 2 3 4 5; do
		[ "$(kn exec -i upload -- sh -c "cat >'$2' && wc -c <'$2'" <"$1")" != "$size" ] || return 0
		echo "the upload of $2 broke off (try $try)" >&2
	done
	return 1
}
upload() {
	local model
	tests/e2e/material "$work/data"
	model=$(echo "$work"/data/models/*)
	kn apply -f - >/dev/null <<-E
		apiVersion: v1
		kind: PersistentVolumeClaim
		metadata: {name: llmjob-data}
		spec:
		  accessModes: [ReadWriteMany]
		  ${DEMO_STORAGE_CLASS:+storageClassName: $DEMO_STORAGE_CLASS}
		  resources: {requests: {storage: 10Gi}}
		---
		apiVersion: v1
		kind: Pod
		metadata: {name: upload}
		spec:
		  restartPolicy: Never
		  terminationGracePeriodSeconds: 0
		  securityContext:
		    runAsNonRoot: true
		    runAsUser: 65532
		    fsGroup: 65532
		    seccompProfile: {type: RuntimeDefault}
		  volumes: [{name: data, persistentVolumeClaim: {claimName: llmjob-data}}]
		  containers:
		  - name: upload
		    image: ${DEMO_UPLOAD_IMAGE:-debian:12-slim}
		    command: [sleep, "3600"]
		    volumeMounts: [{name: data, mountPath: /data}]
		    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
	E
	kn wait --for=condition=Ready pod/upload --timeout=180s >/dev/null
	kn exec upload -- mkdir -p /data/models
	send "$work/data/kjv.txt" /data/kjv.txt
	send "$model" "/data/models/${model##*/}"
	kn delete pod upload --wait=false >/dev/null
}

clean_up() {
	local status=$?
	trap - EXIT
	for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
	if [ $status -ne 0 ]; then explain || true; fi
	rm -rf "$work"
	if [ -n "${DEMO_KUBECONFIG:-}" ]; then
		k delete namespace $namespace --ignore-not-found --wait=false >/dev/null || true
		[ -z "$installed" ] || helm uninstall llmjob -n $system >/dev/null || true
	elif [ -n "$booted" ]; then
		title "the cluster goes, leaving nothing"
		"$top/tests/cluster/down"
	fi
	exit $status
}

# ---- what happens to the job ---------------------------------------------------------------------
# Announced as an Event of the job, so that it stands on the live screen among what llmjob itself
# says.
announce() {
	local now
	now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
	[ -t 1 ] || echo "== $*"
	kn create -f - >/dev/null <<-E
		apiVersion: v1
		kind: Event
		metadata: {generateName: kjv-demo-}
		involvedObject:
		  apiVersion: llmjob.dev/v1alpha1
		  kind: LLMJob
		  namespace: $namespace
		  name: kjv
		  uid: $(job .metadata.uid)
		type: Normal
		reason: Demo
		message: "$*"
		source: {component: demo}
		firstTimestamp: $now
		lastTimestamp: $now
		count: 1
	E
}
job() { kn get llmjob kjv -o jsonpath="{$1}"; }
ranks_are() { [ "$1" = "$want_ranks" ]; }
trains_on() { # ranks: with that many, and two steps further than now
	want_ranks=$1
	watch 120 "$1 ranks" ranks_are get llmjob kjv -o jsonpath='{.status.layout.ranks}{"\n"}'
	step_reached 120 kjv $(($(job .status.progress.step) + 2))
}
# Runs beside the screen. kill -9 is a builtin of the image's shell: no more is needed inside the
# pod.
disturb() {
	step_reached 180 kjv 5
	announce "kubectl scale llmjob kjv --replicas=3"
	kn scale llmjob kjv --replicas=3 >/dev/null
	trains_on 3
	announce "kill -9 of the rank in pod kjv-1"
	kn exec kjv-1 -- /bin/sh -c 'for p in /proc/[0-9]*; do read -r name <$p/comm
		[ "$name" != llmjob-rank ] || kill -9 ${p#/proc/}; done'
	watch 60 "a restart" restarted get llmjob kjv -o jsonpath='{.status.restarts}{"\n"}'
	trains_on 3
	announce "kubectl delete pod kjv-2 --force --grace-period=0"
	kn delete pod kjv-2 --force --grace-period=0 >/dev/null 2>&1
}
restarted() { [ "${1:-0}" -ge 1 ]; }

# ---- the demo ------------------------------------------------------------------------------------
work=$(mktemp -d) installed=
if [ -n "${DEMO_KUBECONFIG:-}" ]; then other_cluster; else local_cluster; fi

title "train: manifests/samples/finetune.yaml, two pods"
show "$kubectl" -n $namespace apply -f manifests/samples/finetune.yaml
disturb >"$work/disturb" 2>&1 &
disturb=$!
[ -t 1 ] || tail -f --pid=$disturb "$work/disturb" &
LLMJOB_KUBECTL=$kubectl "$llmjob" top kjv --namespace $namespace
wait $disturb || { cat "$work/disturb"; exit 1; }
kn wait --for=condition=Complete llmjob/kjv --timeout=600s

title "serve: manifests/samples/serve.yaml"
show "$kubectl" -n $namespace apply -f manifests/samples/serve.yaml
kn wait --for=condition=Ready llmjob/kjv-chat --timeout=120s
kn port-forward service/kjv-chat :8000 >"$work/forward" 2>&1 &
poll 15 "port-forward" grep -q Forwarding "$work/forward"
port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$work/forward")
question="Who made the heaven and the earth?"
title "ask, through the OpenAI API, streaming: $question"
jq -n --arg question "$question" '{model: "kjv", stream: true, max_tokens: 48, temperature: 0,
	messages: [{role: "user", content: $question}]}' |
	curl -sSN --fail-with-body --max-time 60 127.0.0.1:$port/v1/chat/completions \
		-H 'content-type: application/json' -d @- |
	sed -un 's/^data: {/{/p' | jq --unbuffered -rj '.choices[0].delta.content // empty'
echo

title "before and after"
printf 'loss %s -> %s\n' "$(job .status.progress.firstLoss)" "$(job .status.progress.loss)"
show "$kubectl" -n $namespace get llmj
show "$kubectl" -n $namespace describe llmj kjv
