#!/bin/bash
# Goal: a controller that dies at any moment loses and doubles nothing. Method: a job's life (create
# 2 replicas, scale to 3, to 1, delete) is repeated, each time with a controller that gets SIGKILL
# at its N-th mutating request, before it is sent or after it took effect and before its answer was
# looked at, for N = 1, 2, ... until a whole life passes without it; then an unharmed one is
# started, as a Deployment would. With LLMJOB_SAMPLE=n it is one in n of these N, chosen by
# LLMJOB_SEED. After each phase all that belongs to the job must be as in an
# undisturbed life. Watches over all lives show whether two live pods of one replica ever stood side
# by side. The controllers run on this machine, with the chart's rights and no more.
. "$(dirname "$0")/lib.sh"
need_cluster
lives=10 # at a time, each in a namespace of its own
fault=$O/fault/llmjob-controller
most=80 # mutating requests that a life may need
work=$(mktemp -d)

prepare() {
	local slot
	[ -n "${LLMJOB_E2E_SHARED:-}" ] || env -u MAKEFLAGS -u MAKELEVEL make -s O="$O" "$fault"
	need_llmjob
	need_collector
	k -n $system scale deploy/llmjob --replicas=0 >/dev/null
	k -n $system wait pod -l app.kubernetes.io/name=llmjob-controller --for=delete \
		--timeout=30s >/dev/null
	sed "/^users:/,\$d" "$state/kubeconfig/admin" >"$work/kubeconfig"
	cat >>"$work/kubeconfig" <<-E
		users: [{name: chart, user: {token: $(k -n $system create token llmjob)}}]
		contexts:
		- {name: llmjob, context: {cluster: llmjob, user: chart, namespace: $system}}
	E
	"$kubectl" proxy --unix-socket="$work/proxy" >/dev/null &
	watches+=($!)
	for ((slot = 0; slot < lives; slot++)); do
		k delete namespace "crash-$slot" --ignore-not-found --timeout=60s >/dev/null
		restricted "crash-$slot"
		k -n "crash-$slot" wait --for=create serviceaccount/default --timeout=30s >/dev/null
		k -n "crash-$slot" get pods --watch --output-watch-events -o jsonpath="$pod_line" \
			>"$work/pods-$slot" 2>/dev/null &
		watches+=($!)
	done
}
# A rank that waits until it is told to end: for what nobody types at a new terminal.
cat >"$work/life.yaml" <<E
apiVersion: llmjob.dev/v1alpha1
kind: LLMJob
metadata: {name: life}
spec:
  replicas: 2
  run: {command: [/bin/sh, -c], args: ["read -r line </dev/ptmx"]}
E
o=.object
pod_line="{.type} {$o.metadata.uid} {$o.metadata.labels.llmjob\.dev/replica}"
pod_line="$pod_line {$o.status.phase} {$o.metadata.deletionTimestamp}{\"\\n\"}"
watches=()
clean_up() {
	local slot
	kill "${watches[@]}" $(jobs -p) 2>/dev/null || true
	if [ -z "$booted" ]; then
		for ((slot = 0; slot < lives; slot++)); do
			k delete namespace "crash-$slot" --ignore-not-found --wait=false
		done
		k -n $system scale deploy/llmjob --replicas=2
	fi >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT

# ---- a life --------------------------------------------------------------------------------------
controller() { # fault, "" for none: becomes the controller of $namespace
	LLMJOB_FAULT_MUTATION=$1 exec "$fault" --kubeconfig "$work/kubeconfig" \
		--namespace "$namespace" --leader-elect=false --listen 127.0.0.1:0 --image "$image"
}
# Keeps a controller going: one with the fault, and when that has killed it (noted in $dir/fired)
# one without.
keep_controller() { # fault
	local child status=0
	trap 'kill -TERM $child; wait $child; exit' TERM
	(controller "$1") &
	child=$!
	wait $child || status=$?
	[ $status = 137 ] || { echo "the controller ended with status $status"; exit 1; }
	: >"$dir/fired"
	(controller "") &
	child=$!
	wait $child
}
# A life asks one proxy: hundreds of kubectls would cost more than the lives do.
by_proxy=(curl -sSfN --max-time 65 --unix-socket "$work/proxy")
url() { # kind in the plural
	local group
	case $1 in
	llmjobs) group=apis/llmjob.dev/v1alpha1 ;;
	podgroups) group=apis/scheduling.k8s.io/v1beta1 ;;
	*) group=api/v1 ;;
	esac
	echo "http://localhost/$group/namespaces/$namespace/$1"
}
# All that belongs to the job, without what no two lives share (uids, times, addresses, nodes).
snapshot() {
	"${by_proxy[@]}" "$(url llmjobs)" "$(url pods)" "$(url services)" "$(url secrets)" \
		"$(url podgroups)" |
	jq -sS '[.[] | (.kind | rtrimstr("List")) as $kind | .items[] | .kind = $kind | {
		kind, name: .metadata.name, labels: .metadata.labels,
		owners: [.metadata.ownerReferences[]? | "\(.kind)/\(.name) \(.controller)"],
		ending: (.metadata.deletionTimestamp != null)
	} + {
		LLMJob: (.status | {ready, readyReplicas, replicas, selector, state, restarts,
			observedGeneration, ranks: .layout.ranks, attempts: [.attempts[]?.cause],
			conditions: [.conditions[]? | "\(.type)=\(.status) \(.reason)"]}),
		Pod: {phase: .status.phase, image: .spec.containers[0].image},
		Service: {ports: .spec.ports, clusterIP: .spec.clusterIP},
		Secret: {keys: (.data // {} | keys), annotations: .metadata.annotations},
		PodGroup: .spec
	}[.kind]]'
}
as_expected() { # phase
	snapshot >"$dir/now" && cmp "$dir/now" "$work/expect/$1" && return
	sleep 0.3 # ten lives poll, and what they wait for needs the processor too
	return 1
}
# The undisturbed life says what to expect: what has not changed for two seconds.
recorded() { # phase
	local since=$SECONDS
	snapshot >"$work/expect/$1" || return 1
	until [ $SECONDS -ge $((since + 3)) ]; do
		sleep 0.3
		snapshot >"$dir/now" || return 1
		cmp -s "$dir/now" "$work/expect/$1" || since=$SECONDS
		mv "$dir/now" "$work/expect/$1"
	done
}
settles() { # phase
	if [ -n "$recording" ]; then
		recorded "$1"
	elif ! poll 40 "what an undisturbed life has" as_expected "$1"; then
		echo "after phase $1:"
		diff "$work/expect/$1" "$dir/now"
		return 1
	fi
}
seen() { # kind text: a line of its watch has it within a minute
	local fd pid status=0
	exec {fd}< <(exec "${by_proxy[@]}" "$(url "$1")?watch=1&timeoutSeconds=60")
	pid=$!
	grep -qm 1 -- "$2" <&$fd || status=1
	kill $pid 2>/dev/null || true
	exec {fd}<&-
	[ $status = 0 ] || echo "not within a minute among the $1: $2"
	return $status
}
create() {
	"${by_proxy[@]}" "$(url llmjobs)" -H 'content-type: application/yaml' \
		--data-binary @"$work/life.yaml"
}
scale() { # n
	"${by_proxy[@]}" -X PATCH "$(url llmjobs)/life/scale" \
		-H 'content-type: application/merge-patch+json' -d "{\"spec\": {\"replicas\": $1}}"
}
remove() { "${by_proxy[@]}" -X DELETE "$(url llmjobs)/life"; }
replicas_are() { # n phase
	seen llmjobs "\"ready\":\"$1/$1\"" && settles "$2"
}
phases() {
	create && replicas_are 2 created && scale 3 && replicas_are 3 up &&
		scale 1 && replicas_are 1 down && remove && settles deleted
}
life() { # fault: prints what went wrong
	local keeper status=0
	dir=$work/life-$1
	mkdir "$dir"
	keep_controller "$1" >"$dir/controller" 2>&1 &
	keeper=$!
	phases >"$dir/said" 2>&1 || status=1
	kill -0 $keeper 2>/dev/null || status=1
	kill -TERM $keeper 2>/dev/null || true
	wait $keeper || true
	[ $status != 0 ] || return 0
	cat "$dir/said"
	tail -n 60 "$dir/controller"
	{ # for the next life in this namespace
		kn delete llmjob life --ignore-not-found --timeout=60s
		kn delete pod --all --force --grace-period=0
	} >/dev/null 2>&1 || true
	return 1
}

# ---- all lives -----------------------------------------------------------------------------------
sample=${LLMJOB_SAMPLE:-1} seed=${LLMJOB_SEED:-$RANDOM}
# A line for each life to try: killed before a request, then after it. Of each n neighbours it is one.
plan() { # mutating requests of an undisturbed life
	awk -v n="$sample" -v seed="$seed" -v requests="$([ "$sample" = 1 ] && echo $most || echo "$1")" 'BEGIN {
		srand(seed)
		for (i = 0; i + n <= 2 * requests; i += n) {
			at = i + int(rand() * n)
			print at % 2 ? "after" : "before", int(at / 2) + 1
		}
	}'
}
next() { # the next line of the plan, "" after the last
	flock 9
	read -r mode at < <(head -n 1 "$work/plan") || mode=''
	sed -i 1d "$work/plan"
	flock -u 9
	[ -n "$mode" ]
}
worker() { # slot
	local mode at status
	namespace=crash-$1
	exec 9>"$work/lock"
	while next; do
		[ ! -e "$work/whole-before" ] || [ ! -e "$work/whole-after" ] || break
		[ ! -e "$work/whole-$mode" ] || continue
		status=0
		life $mode:$at >"$work/result-$mode-$at.new" || status=$?
		echo $status >"$work/status-$mode-$at"
		[ -e "$work/life-$mode:$at/fired" ] || : >"$work/whole-$mode"
		mv "$work/result-$mode-$at.new" "$work/result-$mode-$at"
	done
}
verdict() { # mode n: what its life said
	cat "$work/result-$1-$2" && [ "$(cat "$work/status-$1-$2")" = 0 ]
}
# The k-th request of every life up to the first that passed whole had its turn. Of a sample, those that were chosen had;
# a life may do with fewer requests than the undisturbed one.
every_request() { # mode
	local n chosen=0 mode at
	if [ "$sample" != 1 ]; then
		while read -r mode at; do
			[ "$mode" = "$1" ] && [ $((at * 4)) -le $((made * 3)) ] || continue
			chosen=$((chosen + 1))
			[ -e "$work/life-$mode:$at/fired" ] || { echo "request $at was not met"; return 1; }
		done <"$work/planned"
		echo "one in $sample, $chosen requests"
		[ $chosen -gt 0 ]
		return
	fi
	for ((n = 1; n < most; n++)); do
		[ -e "$work/life-$1:$n/fired" ] || break
	done
	echo "$((n - 1)) requests"
	[ $n -gt 20 ] && [ -e "$work/whole-$1" ]
}

prepare
mkdir "$work/expect"
namespace=crash-0 recording=1
check "an undisturbed life" life ""
check "makes what belongs to two replicas" equal "LLMJob Pod Pod PodGroup Secret Service" \
	"$(jq -r '[.[].kind] | sort | join(" ")' "$work/expect/created")"
check "leaves nothing" equal "$(jq -c . "$work/expect/deleted")" "[]"
made=$(sed -n 's/^fault: mutations=//p' "$work/life-/controller")
check "it takes more than 20 requests" [ "${made:-0}" -gt 20 ]
echo "mutating requests of an undisturbed life: $made; LLMJOB_SAMPLE=$sample LLMJOB_SEED=$seed"
plan "$made" >"$work/planned"
cp "$work/planned" "$work/plan"
recording='' workers=()
for ((slot = 0; slot < lives; slot++)); do
	worker $slot &
	workers+=($!)
done
wait "${workers[@]}"
for mode in before after; do
	for ((n = 1; n <= most; n++)); do
		[ -e "$work/result-$mode-$n" ] || continue
		check "killed $mode request $n" verdict $mode $n
	done
	check "every request was met, $mode: $(every_request $mode)" every_request $mode
done
for ((slot = 0; slot < lives; slot++)); do
	check "no replica ever had two live pods, namespace $slot" \
		awk -f tests/e2e/twins.awk "$work/pods-$slot"
done
pods=$(for ((slot = 0; slot < lives; slot++)); do
	awk -f tests/e2e/twins.awk "$work/pods-$slot" | tail -n 1
done | paste -sd+)
check "each life made three pods and never one anew" \
	equal $((pods)) $((3 * $(find "$work" -maxdepth 1 -name 'life-*' -type d | wc -l)))
check "nothing that the controllers tried was forbidden" refuses "" \
	grep -rhi forbidden "$work" --include=controller
finish
