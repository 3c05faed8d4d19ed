#!/bin/bash
# demo: what a person does with llmjob, and sees: fine-tune a real model on two replicas, scale it to
# three while it trains, lose a rank, lose a replica, complete, serve, ask. First on this machine
# alone (demo_standalone.sh), within three minutes; while that is built, and after it, the local cluster's
# programs are compiled at the lowest priority; then the same file on the cluster, which goes afterwards. With
# DEMO_KUBECONFIG (make demo KUBECONFIG=...) at once on a cluster that is there; see `other_cluster`
# for what that needs. Ends non-zero when anything did; a signal at any time leaves nothing behind.
began=$EPOCHSECONDS
. "$(dirname "$0")/lib.sh"
. tests/e2e/demo_standalone.sh
trap clean_up EXIT
namespace=llmjob-demo
llmjob=$O/llmjob
finished=1

now_s() { echo $((EPOCHSECONDS - began)); }
bold=$'\033[1m' plain=$'\033[0m'
[ -t 1 ] || bold='' plain=''
title() {
	local line
	printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
	line=$(compile_progress)
	[ -z "$line" ] || printf '   (meanwhile, at the lowest priority: %s)\n' "$line"
}
show() {
	printf '$ %s\n' "$*"
	"$@"
}
# A signal is acted on at once, not when the command has ended. A program, no function: its pid is killed.
hold() {
	"$@" &
	wait $!
}
build() { # program...
	title "build: $*"
	hold ${DEMO_MAKE:-env -u MAKEFLAGS -u MAKELEVEL make -s -j$(nproc)} "${@/#/$O/}"
}

# ---- the cluster's programs, compiled beside all else ----------------------------------------------
compiler='' compiled_at='' paused=''
compile_progress() { [ -z "$compiler" ] || [ -n "$paused" ] || tests/cluster/binaries --progress; }
# In a process group of its own: what it starts ends with it.
start_compiling() {
	local idle=(nice -n 19)
	[ -n "$(tests/cluster/binaries --progress)" ] || return 0
	! chrt -i 0 true 2>/dev/null || idle+=(chrt -i 0)
	! ionice -c 3 true 2>/dev/null || idle+=(ionice -c 3)
	set -m
	"${idle[@]}" tests/cluster/binaries >/dev/null 2>"$work/compile" &
	compiler=$!
	set +m
}
# Even the lowest priority takes caches and memory from what is shown: a step of training half as long again.
pause_compiling() { [ -z "$compiler" ] || ! kill -STOP -- -"$compiler" 2>/dev/null || paused=1; }
resume_compiling() { [ -z "$paused" ] || ! kill -CONT -- -"$compiler" 2>/dev/null || paused=''; }
stop_compiling() {
	[ -n "$compiler" ] || return 0
	kill -- -"$compiler" 2>/dev/null || return 0
	resume_compiling # a stopped process does not hear a signal
	poll 10 "the end of the compiler" compiler_gone || kill -9 -- -"$compiler" || true
}
compiler_gone() { ! kill -0 -- -"$compiler"; }
await_compiled() {
	local line last=''
	[ -n "$compiler" ] || return 0
	title "the cluster's programs, compiled once a machine"
	while kill -0 "$compiler" 2>/dev/null; do
		line=$(compile_progress)
		if [ -t 1 ]; then
			printf '\r\033[K%s' "$line"
		elif [ "${line%,*}" != "${last%,*}" ]; then
			echo "$line"
		fi
		last=$line
		hold sleep 3
	done
	[ ! -t 1 ] || printf '\r\033[K'
	wait "$compiler" || { cat "$work/compile" >&2; exit 1; }
	compiler=''
	sed -n 's/^cluster: //p' "$work/compile"
}

# ---- where it runs -------------------------------------------------------------------------------
local_cluster() {
	await_compiled
	compiled_at=$(now_s)
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
		start_compiling
		await_compiled
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
	local status=$? pid
	trap - EXIT
	trap '' INT TERM HUP
	stop_compiling
	# Two signals: after the first alone llmjob would save a checkpoint.
	for pid in $(jobs -p); do kill -- -"$pid" || { kill -INT "$pid" && kill "$pid"; } || true; done 2>/dev/null
	poll 15 "the end of all programs" programs_gone || kill -9 $(program '*') || true
	if [ $status -ne 0 ] && [ $status -lt 128 ]; then
		tail -n 40 "$work"/llmjob-*/agent-*.log 2>/dev/null || true
		[ -z "${DEMO_KUBECONFIG:-}$compiled_at" ] || explain || true
	fi
	if [ -n "${DEMO_KUBECONFIG:-}" ]; then
		k delete namespace $namespace --ignore-not-found --wait=false >/dev/null || true
		[ -z "$installed" ] || helm uninstall llmjob -n $system >/dev/null || true
	elif [ -n "$booted" ]; then
		title "the cluster goes, leaving nothing"
		"$top/tests/cluster/down"
	fi
	wait
	rm -rf "$work"
	exit $status
}
programs_gone() { [ -z "$(program '*')" ]; }

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
question="Who made the heaven and the earth?"
ask() { # address
	title "ask, through the OpenAI API, streaming: $question"
	jq -n --arg question "$question" '{model: "kjv", stream: true, max_tokens: 48, temperature: 0,
		messages: [{role: "user", content: $question}]}' |
		curl -sSN --fail-with-body --max-time 60 "$1/v1/chat/completions" \
			-H 'content-type: application/json' -d @- |
		sed -un 's/^data: {/{/p' | jq --unbuffered -rj '.choices[0].delta.content // empty'
	echo
}
on_cluster() {
	local disturb port
	title "train on the cluster: manifests/samples/finetune.yaml, two pods"
	show "$kubectl" -n $namespace apply -f manifests/samples/finetune.yaml
	set -m # what it watches with ends with it
	disturb >"$work/disturb" 2>&1 &
	disturb=$!
	set +m
	if [ ! -t 1 ]; then tail -f --pid=$disturb "$work/disturb" & fi
	hold env LLMJOB_KUBECTL="$kubectl" "$llmjob" top kjv --namespace $namespace
	wait $disturb || { cat "$work/disturb"; exit 1; }
	hold "$kubectl" -n $namespace wait --for=condition=Complete llmjob/kjv --timeout=600s

	title "serve on the cluster: manifests/samples/serve.yaml"
	show "$kubectl" -n $namespace apply -f manifests/samples/serve.yaml
	hold "$kubectl" -n $namespace wait --for=condition=Ready llmjob/kjv-chat --timeout=120s
	"$kubectl" -n $namespace port-forward service/kjv-chat :8000 >"$work/forward" 2>&1 &
	poll 60 "port-forward" grep -q Forwarding "$work/forward"
	port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$work/forward")
	ask "http://127.0.0.1:$port"

	title "before and after"
	printf 'loss %s -> %s\n' "$(job .status.progress.firstLoss)" "$(job .status.progress.loss)"
	show "$kubectl" -n $namespace get llmj
	show "$kubectl" -n $namespace describe llmj kjv
}
duration() { # seconds
	[ "$1" -lt 60 ] || printf '%d min ' $(($1 / 60))
	printf '%d s' $(($1 % 60))
}
say_times() {
	local answered
	answered=$(cat "$work/answered")
	title "times"
	printf 'first step after %s, answer after %s' "$(duration "$(cat "$work/first")")" \
		"$(duration "$answered")"
	[ -z "$compiled_at" ] || printf ', cluster'"'"'s half %s, from %s on' \
		"$(duration $(($(now_s) - compiled_at)))" "$(duration "$compiled_at")"
	printf '\nthe limit is 3 min to the first answer: %s\n' \
		"$([ "$answered" -le 180 ] && echo kept || echo missed)"
}

work=$(mktemp -d) installed=
data=$work/data samples=$work/data/ckpt/kjv/samples
export TMPDIR=$work # also of what a signal ends before it can clean up
tests/deps.sh || [ "$(id -u)" != 0 ]
if [ -n "${DEMO_KUBECONFIG:-}" ]; then
	build llmjob
	other_cluster
	on_cluster
	exit
fi
tests/e2e/material "$data" &
material=$!
[ "$(id -u)" != 0 ] || start_compiling
standalone
if [ "$(id -u)" = 0 ]; then
	local_cluster
	on_cluster
else
	title "the same on a cluster is skipped: the local one needs root; or: make demo KUBECONFIG=<file>"
fi
say_times
