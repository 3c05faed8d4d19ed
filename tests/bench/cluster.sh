#!/bin/bash
# cluster.sh: figures of the whole on the local cluster: seconds from kubectl apply to training and
# from a rank's death to the next step, and the controller's memory. The job is the main one,
# manifests/samples/finetune.yaml: real model, real text, two pods on two nodes. Prints a table.
. "$(dirname "$0")/../e2e/lib.sh"
namespace=bench
need_llmjob
need_namespace
need_material
rounds=${BENCH_ROUNDS:-3}
logs=$data/ckpt/kjv/samples
running=() stepping=() recovering=()

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
incarnation() {
	find "$logs" -name '*.log' -printf '%f\n' 2>/dev/null | sort -n | tail -n 1 | cut -d- -f1
}
# Both ranks of a world after OLD have taken a step.
both_stepped() { # old
	local world
	world=$(incarnation)
	[ "${world:-0}" -gt "$1" ] && [ -s "$logs/$world-0.log" ] && [ -s "$logs/$world-1.log" ]
}
is_training() { [ "$1" = Training ]; }
median() { printf '%s\n' "$@" | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
seconds() { awk -v ms="$(median "$@")" 'BEGIN {printf "%.1f", ms / 1000}'; }

train_once() {
	local start old
	start=$(now_ms)
	kn apply -f manifests/samples/finetune.yaml >/dev/null
	watch 120 "Training" is_training get llmjob kjv -o jsonpath='{.status.state}{"\n"}'
	running+=($(($(now_ms) - start)))
	poll 120 "a step of both ranks" both_stepped 0
	stepping+=($(($(now_ms) - start)))
	step_reached 120 kjv 3
	old=$(incarnation) start=$(now_ms)
	kill -9 "$(pod_pids kjv-1 llmjob-rank)"
	poll 120 "a step after a rank's death" both_stepped "$old"
	recovering+=($(($(now_ms) - start)))
}
forget() {
	kn delete llmjob kjv --timeout=60s >/dev/null
	kn wait --for=delete pod -l llmjob.dev/job=kjv --timeout=60s >/dev/null
	rm -rf "$data"/{ckpt,out,tensorboard}
}
handful() { # jobs that stay
	local i
	for i in 1 2 3 4 5; do
		cat <<-E
			---
			apiVersion: llmjob.dev/v1alpha1
			kind: LLMJob
			metadata: {name: wait-$i}
			spec:
			  replicas: 2
			  run: {command: [/bin/sh, -c], args: ["read -r line </dev/ptmx"]}
		E
	done | kn apply -f - >/dev/null
	kn wait llmjob --all --for=jsonpath='{.status.ready}'=2/2 --timeout=120s >/dev/null
}
resident() { # field of /proc/<pid>/status, MiB of each controller
	local pod pid namespace=$system
	for pod in $(kn get pods -l app.kubernetes.io/name=llmjob-controller -o name); do
		pid=$(pod_pids "${pod#pod/}" llmjob-controll) # as far as the kernel keeps a name
		awk -v field="$1:" '$1 == field {printf "%.1f\n", $2 / 1024}' "/proc/$pid/status"
	done | sort -rn | paste -sd' '
}

for ((round = 1; round <= rounds; round++)); do
	train_once
	[ $round = "$rounds" ] || forget
done
handful
jobs=$(k get llmjobs -A --no-headers | wc -l)
row() { echo "| $1 | $2 | $3 |"; }
spread() { echo "median of ${#}: $(for ms in "$@"; do printf '%s ' "$(seconds "$ms")"; done)s"; }
device="$(nproc) threads of $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | sort -u)"
echo "$(date -u +%Y-%m-%d), $device, local cluster of $(cat "$state/nodes") nodes," \
	"\`make bench-cluster\`:"
echo
row figure value measured
row --- ---: ---
row "kubectl apply to all ranks training" "$(seconds "${running[@]}") s" "$(spread "${running[@]}")"
row "kubectl apply to the first step of every rank" "$(seconds "${stepping[@]}") s" \
	"$(spread "${stepping[@]}")"
row "rank death to the next step of every rank" "$(seconds "${recovering[@]}") s" \
	"$(spread "${recovering[@]}")"
row "resident memory of the two controllers" "$(resident VmRSS) MiB" \
	"with $jobs jobs; private: $(resident RssAnon) MiB"
[ -n "$booted" ] || k delete namespace $namespace --wait=false >/dev/null
finished=1
