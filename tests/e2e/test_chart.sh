#!/bin/bash
# Goal: the chart installs what the controller needs, no more, and uninstalling it loses nobody's
# jobs. Method: lint and schema; an install in which the controller, with only the chart's rights,
# makes a job's pods; an uninstall.
. "$(dirname "$0")/lib.sh"
chart=helm/llmjob

need_cluster
helm() { "$top/tests/cluster/helm" "$@"; }
rendered() { helm template llmjob $chart -n $system "$@"; }
stray_values() { refuses "not allowed" rendered --set replica=3; }
may() { # answer verb resource namespace
	local account=system:serviceaccount:$system:llmjob
	equal "$(k auth can-i "$2" "$3" -n "$4" --as="$account" 2>/dev/null || true)" "$1"
}

check "lint finds nothing" helm lint --strict $chart
check "the chart's CRD is manifests/crd.yaml" cmp manifests/crd.yaml $chart/files/crd.yaml
check "chart and VERSION agree" equal "$(sed -n 's/^appVersion: //p' $chart/Chart.yaml)" "$version"
check "a misspelt value is refused" stray_values
check "every other value renders" rendered --set watchNamespace=team,logFormat=json \
	--set podDisruptionBudget.enabled=false,image.tag=x,crd.install=false \
	--set extraArgs[0]=--log-level=debug,nodeSelector.a=b

need_llmjob
need_collector
need_namespace
on_gpu() { # resource: the image that a job on it gets
	kn apply -f - >/dev/null <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: gpu}
		spec: {device: {resource: $1}, run: {command: [/bin/true]}}
	E
	kn wait --for=create pod/gpu-0 --timeout=30s >&2
	kn get pod gpu-0 -o jsonpath='{.spec.containers[0].image}'
	kn delete llmjob gpu --timeout=60s >&2
	kn wait --for=delete pod/gpu-0 --timeout=60s >&2
}
check "pods on NVIDIA GPUs get the CUDA image" equal "$(on_gpu nvidia.com/gpu)" "$image-cuda"
check "and those on others the plain one" equal "$(on_gpu amd.com/gpu)" "$image"
check "both controllers are Ready" \
	k -n $system wait --for=jsonpath='{.status.readyReplicas}'=2 deploy/llmjob --timeout=60s
check "one of them holds the lease" \
	k -n $system wait lease/llmjob-controller --for=jsonpath='{.spec.holderIdentity}' \
	--timeout=30s
check "it may make pods" may yes create pods "$namespace"
check "it may not read pods' logs" may no get pods/log "$namespace"
check "it may not list secrets" may no list secrets "$namespace"
check "it may not change jobs" may no update llmjobs "$namespace"

kn apply -f - >/dev/null <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: probe}
	spec:
	  replicas: 2
	  run: {command: [/usr/bin/llmjob, --help]}
E
check "with only the chart's rights it makes a job's pods" \
	kn wait --for=create pod/probe-0 pod/probe-1 --timeout=30s
check "and follows the job to its end" wait_for 90 llmjob/probe condition=Complete
# "cannot": a right that is missing; a namespace that is ending forbids too, with other words.
forbidden() { ! k -n $system logs deploy/llmjob --all-pods | grep -i 'forbidden.* cannot '; }
check "nothing that it tried was forbidden" forbidden

check "uninstall works" helm uninstall llmjob -n $system --wait
check "the kind is still there" k get crd llmjobs.llmjob.dev
check "and so is the job" kn get llmjob probe
check "install after uninstall takes the kind over again" need_llmjob
finish
