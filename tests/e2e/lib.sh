# lib.sh: what every end-to-end test needs. Sourced; the test then calls need_cluster (or
# need_llmjob), checks, and finish.
#
# A test owns one namespace of its own name. `check WHAT COMMAND...` counts; an unexpected failure
# outside a check ends the test as failed. What failed is explained at the end: pods, jobs, events,
# logs. Waiting is by watches with deadlines.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C.UTF-8 # EPOCHREALTIME has a point

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"
O=${O:-build}
version=$(cat VERSION)
image=localhost/llmjob:$version
state=${LLMJOB_CLUSTER_STATE:-/var/tmp/llmjob-cluster}
system=llmjob-system
namespace=$(basename "$0" .sh | tr _ -)
passed=0 failed=0 skipped=0
kubectl=$top/tests/cluster/kubectl

k() { "$kubectl" "$@"; }
kn() { "$kubectl" -n "$namespace" "$@"; }

# ---- verdicts ------------------------------------------------------------------------------------
check() { # what command...
	local what=$1 output
	shift
	if output=$("$@" 2>&1); then
		passed=$((passed + 1))
		echo "ok: $what"
	else
		failed=$((failed + 1))
		printf 'FAILED: %s\n  command: %s\n' "$what" "$*"
		sed 's/^/  | /' <<<"$output"
	fi
}
refuses() { # text command...: COMMAND fails and says TEXT
	local output
	if output=$("${@:2}" 2>&1); then
		echo "was accepted: $output"
		return 1
	fi
	grep -qF -- "$1" <<<"$output" || { echo "refused, but without '$1': $output"; return 1; }
}
equal() { [ "$1" = "$2" ] || { echo "wanted: $2"; echo "got:    $1"; return 1; }; }
skip() {
	echo "SKIP: $*"
	finished=1
	exit 77
}
finish() {
	finished=1
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed -eq 0 ]
}
explain() {
	local pod
	if [ -n "$alone" ]; then
		tail -n 40 "$out" "$work"/*/agent-*.log 2>/dev/null
		return
	fi
	[ -e "$state/ready" ] || return 0
	echo "---- $namespace"
	kn get llmjobs,pods -o wide 2>&1
	kn get llmjobs -o yaml 2>/dev/null | sed -n '/^  status:/,$p'
	kn get events --sort-by=.lastTimestamp 2>&1 | tail -n 30
	for pod in $(kn get pods -o name); do
		echo "---- log of $pod" && kn logs "$pod" --tail=60 2>&1
	done
	echo "---- log of the controllers"
	k -n $system logs deploy/llmjob --all-pods --tail=80 2>&1
}
finished="" booted="" alone=""
at_exit() {
	local status=$?
	trap - EXIT
	[ -n "$finished" ] || failed=$((failed + 1))
	if [ $failed -gt 0 ]; then explain || true; fi
	[ -n "$finished" ] || echo "$passed passed, $failed failed, $skipped skipped"
	if [ -n "$booted" ]; then "$top/tests/cluster/down"; fi
	[ $failed -eq 0 ] || [ $status -ne 0 ] || status=1 # after a trap's own clean-up
	exit $status
}
trap at_exit EXIT
trap 'exit 130' INT TERM HUP

# ---- the cluster and what runs on it -------------------------------------------------------------
need_cluster() {
	[ "$(id -u)" = 0 ] || skip "the local cluster needs root"
	if [ -n "${LLMJOB_E2E_SHARED:-}" ]; then
		[ ! -e "$state/ready" ] || return 0
	else
		! "$top/tests/cluster/alive" || return 0
		booted=1
	fi
	"$top/tests/cluster/up"
}
# Once a cluster, not once a test: the archive's digest says what the nodes have.
need_image() {
	local archive=$O/llmjob-$version.oci.tar sum
	[ -n "${LLMJOB_E2E_SHARED:-}" ] || env -u MAKEFLAGS -u MAKELEVEL make -s O="$O" image
	sum=$(sha256sum "$archive" | cut -d' ' -f1)
	[ "$(cat "$state/image" 2>/dev/null)" != "$sum" ] || return 0
	"$top/tests/cluster/import" "$archive"
	echo "$sum" >"$state/image"
}
need_llmjob() {
	need_cluster
	need_image
	restricted $system
	"$top/tests/cluster/helm" upgrade --install llmjob helm/llmjob -n $system \
		--take-ownership --wait --timeout 60s >/dev/null
}
# The garbage collector hears of a new kind only about every 30 s: until then pods outlive their
# job. Once a cluster: what an LLMJob owned goes with it.
need_collector() {
	local uid
	[ ! -e "$state/collects" ] || return 0
	k -n default apply -f - >/dev/null <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: collected}
		spec: {suspend: true, run: {command: [/bin/true]}}
	E
	uid=$(k -n default get llmjob collected -o jsonpath='{.metadata.uid}')
	k -n default apply -f - >/dev/null <<-E
		apiVersion: v1
		kind: ConfigMap
		metadata:
		  name: collected
		  ownerReferences:
		  - {apiVersion: llmjob.dev/v1alpha1, kind: LLMJob, name: collected, uid: $uid}
	E
	k -n default delete llmjob collected --timeout=60s >/dev/null
	k -n default wait --for=delete configmap/collected --timeout=120s >/dev/null
	: >"$state/collects"
}
restricted() { # namespace: is there, and takes only restricted pods
	k create namespace "$1" --dry-run=client -o yaml | k apply -f - >/dev/null
	k label --overwrite namespace "$1" pod-security.kubernetes.io/enforce=restricted \
		pod-security.kubernetes.io/enforce-version=latest >/dev/null
}
# A namespace that only takes restricted pods, with the claim `llmjob-data`; its folder is $data.
need_namespace() {
	k delete namespace "$namespace" --ignore-not-found --timeout=60s >/dev/null
	k delete pv "llmjob-data-$namespace" --ignore-not-found --timeout=30s >/dev/null
	restricted "$namespace"
	rm -rf "$state/data/$namespace"
	data=$("$top/tests/cluster/storage" "$namespace")
	kn wait --for=create serviceaccount/default --timeout=30s >/dev/null
}
# The model and text that the samples of manifests/ name.
need_material() { tests/e2e/material "$data"; }
# Of a BERT's six layers three, where LLMJOB_SAMPLE is more than 1.
fewer_layers() { [ "${LLMJOB_SAMPLE:-1}" = 1 ] || python3 tests/e2e/cut_bert.py "$1" 3; } # folder

# A tokenizer.json with a token for each byte: GPT-2's printable stand-ins for bytes are the vocabulary.
byte_tokenizer() {
	jq -n 'def plain: (. >= 33 and . <= 126) or (. >= 161 and . <= 172) or . >= 174;
		{pre_tokenizer: {type: "ByteLevel", add_prefix_space: false, use_regex: true},
		 model: {type: "BPE", merges: [], vocab: (reduce range(256) as $b ({others: 0, of: {}};
			if $b | plain then .of[[$b] | implode] = $b
			else .of[[256 + .others] | implode] = $b | .others += 1 end) | .of)}}'
}

# ---- a program beside the test -------------------------------------------------------------------
# Its pid is $run. Its log is emptied before it begins, so that nobody reads there what another program said.
begin() { # log command...
	: >"$1"
	"${@:2}" >>"$1" 2>&1 &
	run=$!
}
# The address that an `llmjob run` with this log serves at; none yet is a failure.
serving() { sed -n 's|.* serving at \(http://[^ ]*\)/v1$|\1|p' "$1" | tail -n 1 | grep .; }

# ---- programs of the test's own folder, without a cluster ----------------------------------------
# $work, which goes at the end with all that runs from $work/bin; what is begun writes to $out, and agents to logs beside it,
# all of which is shown where something failed.
alone() {
	alone=1
	work=$(mktemp -d)
	out=$work/out
	mkdir "$work/bin"
	trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
}
own_programs() { cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"; }
running() { # [program]: nobody else's are at these paths
	{ find /proc -maxdepth 2 -name exe -lname "$work/bin/${1:-*}" 2>/dev/null || true; } | cut -d/ -f3 | sort -n
}
none_running() { [ -z "$(running)" ]; }
clean_up() {
	local pids
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
# An agent's own port, which has /metrics.
control() { tr '\0' '\n' <"/proc/$1/cmdline" | grep -A 1 -x -- --listen | tail -n 1; }
# A program that counts and prints as `check` does; its last line is its own sum, which is taken over.
counted() { # command...
	local good bad status=0
	timeout 600 "$@" >"$work/counted" 2>&1 || status=$?
	grep -vE '^[0-9]+ passed, ' "$work/counted" || true
	read -r good _ bad _ <<<"$(grep -E '^[0-9]+ passed, ' "$work/counted" || echo "0 passed, 1 failed")"
	passed=$((passed + good)) failed=$((failed + bad))
	[ $status = 0 ] || [ "$bad" -gt 0 ] || failed=$((failed + 1))
}

# ---- waiting -------------------------------------------------------------------------------------
# watch SECONDS WHAT PREDICATE KUBECTL-ARGUMENTS...: feeds each line of a watch to PREDICATE until
# it is true.
watch() {
	local seconds=$1 what=$2 predicate=$3 line fd pid status=1
	shift 3
	exec {fd}< <(exec timeout "$seconds" "$kubectl" -n "$namespace" "$@" --watch 2>&1)
	pid=$!
	while read -r -u $fd line; do
		if $predicate "$line"; then
			status=0
			break
		fi
	done
	kill $pid 2>/dev/null || true
	exec {fd}<&-
	[ $status = 0 ] || echo "not within $seconds s: $what (last: ${line:-nothing})"
	return $status
}
step_reached() { # seconds job step
	at_least() { [ "${1:-0}" -ge "$at_least_step" ] 2>/dev/null; }
	at_least_step=$3
	watch "$1" "$2 at step $3" at_least get llmjob "$2" \
		-o jsonpath='{.status.progress.step}{"\n"}'
}
wait_for() { # seconds object condition
	kn wait "$2" --for="$3" --timeout="$1s"
}
# A small BERT learns to tell unwanted mails from others, at $data/out/mails, with the $mails_learnt first texts of tests/e2e/mails.
mails_learnt=448
learn_mails() { # work data
	tests/e2e/mails "$(tests/golden/fetch.sh mails)" "$2/mails" 256 64 128
	mkdir -p "$2/models"
	tests/e2e/material "$2" mails
	sed -E 's/^( *replicas:).*/\1 1/; s/^( *epochs:).*/\1 2/; s/^( *learningRate:).*/\1 0.0005/; s/^( *sequenceLength:).*/\1 48/' \
		manifests/samples/sequence-classification.yaml >"$1/train.yaml"
	TMPDIR=$1 "$1/bin/llmjob" run "$1/train.yaml" --storage "data=$2" --plain >"$1/train.log" 2>&1
}
poll() { # seconds what command...: for what no API announces (a file, a process)
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || { echo "not in time: $what"; return 1; }
		sleep 0.05
	done
}
# Processes named NAME inside a pod, as this machine numbers them: the pod's cgroup carries its UID.
pod_pids() { # pod process-name
	local uid pid
	uid=$(kn get pod "$1" -o jsonpath='{.metadata.uid}')
	for pid in $(find /sys/fs/cgroup -path "*llmjob-cluster*pod$uid*" -name cgroup.procs \
		-exec cat {} + | sort -un); do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$2" ] || echo "$pid"
	done
}
