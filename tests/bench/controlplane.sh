#!/bin/bash
# controlplane.sh: what the operator costs beside batch/v1: the same number of jobs and pods on nodes
# that kwok plays, one kind after the other on the same API server. A batch/v1 Job (indexed, all pods
# at once) has a headless Service, as an LLMJob with `run` has. Then what is left of the operator
# when nothing happens and no agent can be reached, and batch/v1 again with pods like an LLMJob's,
# which are larger. The operator runs on this machine, alone.
# Prints a table; BENCH_JOBS, BENCH_PODS and BENCH_NODES change the size.
. "$(dirname "$0")/../e2e/lib.sh"
jobs=${BENCH_JOBS:-200} pods=${BENCH_PODS:-8} nodes=${BENCH_NODES:-100} quiet=30
work=$(mktemp -d)
void=llmjob-void # what is sent to agents, 198.18.0.0/16, is lost there
kwok_pid='' operator_pid='' watch_pid=''
clean_up() {
	local pid
	for pid in $watch_pid $operator_pid $kwok_pid; do
		kill "$pid" 2>/dev/null && wait "$pid" || true
	done
	ip link del $void 2>/dev/null || true
	rm -rf "$work"
}
trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
explain() {
	k get pods -A --field-selector=status.phase!=Running -o wide | head -n 8
	k get jobs,llmjobs -A --no-headers | awk '{n[$1 " " $3]++} END {for (i in n) print i, n[i]}' | head
	k get events -A --field-selector type=Warning | tail -n 8
	k get nodes --no-headers | awk '{n[$2]++} END {for (i in n) print "nodes", i, n[i]}'
	tail -n 5 "$work"/*.log || true
}

# ---- the stage -----------------------------------------------------------------------------------
boot() {
	[ "$(id -u)" = 0 ] || skip "the local cluster needs root"
	if ! "$top/tests/cluster/alive"; then
		booted=1
		# Nodes that are played on a busy machine renew their leases late.
		LLMJOB_NODE_GRACE=300s "$top/tests/cluster/up" 0
	fi
	k apply -f manifests/crd.yaml >/dev/null
	k wait --for=condition=Established crd/llmjobs.llmjob.dev --timeout=30s >/dev/null
	ip link add $void type bridge
	ip link set $void up
	ip route add 198.18.0.0/16 dev $void
	"$(tests/cluster/binaries kwok)/kwok" --kubeconfig "$state/kubeconfig/admin" \
		--config tests/bench/kwok.yaml --cidr 198.18.0.1/16 \
		--manage-nodes-with-annotation-selector kwok.x-k8s.io/node=fake --v ERROR \
		>"$work/kwok.log" 2>&1 &
	kwok_pid=$!
	local i
	for ((i = 0; i < nodes; i++)); do
		cat <<-E
			---
			apiVersion: v1
			kind: Node
			metadata:
			  name: fake-$i
			  annotations: {kwok.x-k8s.io/node: fake}
			  labels: {kubernetes.io/hostname: fake-$i}
			status:
			  allocatable: {cpu: 32, memory: 256Gi, pods: 110}
			  capacity: {cpu: 32, memory: 256Gi, pods: 110}
		E
	done | k create -f - >/dev/null
	k wait --for=condition=Ready node --all --timeout=120s >/dev/null
}
start_operator() {
	"$O/llmjob-controller" --kubeconfig "$state/kubeconfig/admin" --leader-elect=false \
		--listen 127.0.0.1:0 --image example.org/llmjob --namespace "$1" \
		>"$work/operator.log" 2>&1 &
	operator_pid=$!
}

# ---- what is measured ----------------------------------------------------------------------------
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
cpu_ms() { # pid
	awk '{sub(/.*\) /, ""); print ($12 + $13) * 10}' "/proc/$1/stat"
}
manager_pid() {
	local pid
	for pid in $(. tests/cluster/lib.sh && cgroup_pids); do
		[ "$(tr '\0' '\n' <"/proc/$pid/cmdline" | head -n 1)" != kube-controller-manager ] ||
			echo "$pid"
	done
}
# Requests of the API server so far: of a resource, subresource, verbs and codes, each a pattern.
requests() {
	k get --raw /metrics | awk -v resource="resource=\"$1\"" -v sub_="subresource=\"$2\"" \
		-v verb="verb=\"($3)\"" -v code="code=\"($4)\"" '
		/^apiserver_request_total/ && $0 ~ resource && $0 ~ sub_ && $0 ~ verb && $0 ~ code {n += $NF}
		END {printf "%d\n", n}'
}
writes() { requests "$1" status 'PUT|PATCH' '2..'; }
# Of what the two create; the endpoints controller has its own, in both.
conflicts() { requests '(pods|services|secrets|podgroups|events)' '' POST 409; }

count_running() { k -n "$1" get pods --field-selector=status.phase=Running -o name | wc -l; }
# all_running NAMESPACE: until all pods are Running. The namespace is empty when this begins. A watch
# that the API server ends, because it was read too slowly, is followed by counting.
all_running() {
	local name phase fd n=0 deadline=$((SECONDS + 300))
	declare -A seen=()
	exec {fd}< <(exec "$kubectl" -n "$1" get pods --watch-only --output-watch-events \
		-o jsonpath='{.object.metadata.name} {.object.status.phase}{"\n"}' 2>>"$work/watch.log")
	watch_pid=$!
	while [ $n -lt $((jobs * pods)) ] && read -t 10 -r -u $fd name phase; do
		[ "$phase" = Running ] && [ -z "${seen[$name]:-}" ] || continue
		seen[$name]=1 n=$((n + 1))
	done
	kill "$watch_pid" 2>/dev/null || true
	watch_pid=''
	exec {fd}<&-
	while [ $n -lt $((jobs * pods)) ]; do
		[ $SECONDS -lt $deadline ] || { echo "only $n of $((jobs * pods)) pods ran"; return 1; }
		n=$(count_running "$1")
	done
}
create() { # kind: its objects
	local i
	for ((i = 0; i < jobs; i++)); do
		"$1" "job-$i"
	done >"$work/objects.yaml"
	k create -f "$work/objects.yaml" >/dev/null 2>>"$work/create.log" &
}
batch_pod='containers: [{name: main, image: example.org/llmjob, command: [/bin/true]}]'
batch() {
	cat <<-E
		---
		apiVersion: batch/v1
		kind: Job
		metadata: {name: $1, namespace: $ns}
		spec:
		  completionMode: Indexed
		  parallelism: $pods
		  completions: $pods
		  template:
		    spec:
		      subdomain: $1
		      restartPolicy: Never
		      $batch_pod
		---
		apiVersion: v1
		kind: Service
		metadata: {name: $1, namespace: $ns}
		spec:
		  clusterIP: None
		  selector: {job-name: $1}
		  ports: [{port: 7070}]
	E
}
# What makes the pods of an LLMJob what they are, for batch_pod.
llmjob_pod() {
	k -n bench-llmjob get pod job-0-0 -o jsonpath='containers: {.spec.containers}
      volumes: {.spec.volumes}
      tolerations: {.spec.tolerations}
      securityContext: {.spec.securityContext}'
}
llmjob() {
	cat <<-E
		---
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: $1, namespace: $ns}
		spec: {replicas: $pods, run: {command: [/bin/true]}}
	E
}
# measure NAME KIND RESOURCE PID: sets seconds, cpu, manager_cpu, writes_each and refused
measure() {
	local start cpu0 manager0 writes0 refused0
	ns=bench-$1
	k create namespace "$ns" >/dev/null
	k -n "$ns" wait --for=create serviceaccount/default --timeout=30s >/dev/null
	cpu0=$(cpu_ms "$4") manager0=$(cpu_ms "$manager") writes0=$(writes "$3")
	refused0=$(conflicts) start=$(now_ms)
	create "$2"
	all_running "$ns"
	seconds=$(($(now_ms) - start))
	cpu=$(($(cpu_ms "$4") - cpu0)) manager_cpu=$(($(cpu_ms "$manager") - manager0))
	writes_each=$(awk -v n=$(($(writes "$3") - writes0)) -v jobs="$jobs" 'BEGIN {print n / jobs}')
	refused=$(($(conflicts) - refused0))
}
# Until no status was written for 15 s.
settle() {
	local last='' n same=0 deadline=$((SECONDS + 180))
	while [ $same -lt 15 ] && [ $SECONDS -lt $deadline ]; do
		n=$(writes llmjobs)
		[ "$n" = "$last" ] && same=$((same + 1)) || same=0
		last=$n
		sleep 1
	done
}
s() { awk -v ms="$1" 'BEGIN {printf "%.1f", ms / 1000}'; }
s2() { awk -v ms="$1" 'BEGIN {printf "%.2f", ms / 1000}'; }

boot
manager=$(manager_pid)
measure batch batch jobs "$manager"
batch=("$(s "$seconds")" "$(s2 "$cpu")" - "$writes_each" "$refused")
k delete namespace bench-batch --timeout=300s >/dev/null
start_operator bench-llmjob
measure llmjob llmjob llmjobs "$operator_pid"
ours=("$(s "$seconds")" "$(s2 "$cpu")" "$(s2 "$manager_cpu")" "$writes_each" "$refused")
settle
before=$(cpu_ms "$operator_pid") written=$(writes llmjobs)
sleep $quiet
idle=$(awk -v ms=$(($(cpu_ms "$operator_pid") - before)) -v s=$quiet 'BEGIN {print ms / 1000 / s}')
written=$(($(writes llmjobs) - written))
rss=$(awk '$1 == "VmRSS:" {printf "%.1f", $2 / 1024}' "/proc/$operator_pid/status")
kill "$operator_pid" && wait "$operator_pid" || true
operator_pid='' batch_pod=$(llmjob_pod)
k delete namespace bench-llmjob --timeout=300s >/dev/null
measure alike batch jobs "$manager"
alike=("$(s "$seconds")" "$(s2 "$cpu")" - "$writes_each" "$refused")

device="$(nproc) threads of $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | sort -u)"
echo "$(date -u +%Y-%m-%d), $device, $nodes simulated nodes, $jobs jobs of $pods pods," \
	"\`make bench-controlplane\`:"
echo
row() { echo "| $1 | $2 | $3 | $4 |"; }
row figure LLMJob "batch/v1 with a headless Service" "the same with an LLMJob's pods"
row --- ---: ---: ---:
row "first object created to all pods Running, s" "${ours[0]}" "${batch[0]}" "${alike[0]}"
row "CPU of its controller until then, s" "${ours[1]}" "${batch[1]}" "${alike[1]}"
row "CPU of kube-controller-manager beside it, s" "${ours[2]}" - -
row "status writes a job until then" "${ours[3]}" "${batch[3]}" "${alike[3]}"
row "creates refused as existing (409)" "${ours[4]}" "${batch[4]}" "${alike[4]}"
row "cores afterwards, no agent reachable, $quiet s" "$idle" - -
row "status writes in that time" "$written" - -
row "resident memory of the operator, MiB" "$rss" - -
k delete namespace bench-alike --wait=false >/dev/null
finished=1
