#!/bin/bash
# Goal: the chart installs what the controller needs, no more; an LLMJob gives its author nothing
# that he could not have without it; uninstalling loses nobody's jobs. Method: lint and schema; an
# install in which the controller, with only the chart's rights, makes a job's pods; jobs that ask
# for what the policy does not allow; an uninstall; an install of one namespace's owner.
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
# What the owner of one namespace installs, with nothing of the cluster's.
own() { rendered --set clusterScoped=false "$@"; }
cluster_kinds() { own --set watchNamespace=team | grep -E '^kind: (Cluster|CustomRes|Validating)' || true; }
check "a release of one namespace has nothing cluster-wide" equal "$(cluster_kinds)" ""
check "and it must say which namespace" refuses "watchNamespace must name" own

need_llmjob
need_collector
need_namespace
job() { # name spec: on standard output
	printf '{apiVersion: llmjob.dev/v1alpha1, kind: LLMJob, metadata: {name: %s}, spec: {%s}}' \
		"$1" "$2"
}
# The controller looks at Secrets again within 30 s: what happens meanwhile is asked for below.
kn create secret generic database --from-literal=apiKey=secret >/dev/null
job keyed "storage: [{name: d, claimName: llmjob-data, mountPath: /data}], model: {source: /data/m},
	serve: {modelName: m, apiKeySecret: database}" | kn create -f - >/dev/null
stalled='jsonpath={.status.conditions[?(@.type=="Stalled")].message}'
says_label() { grep -q "lacks the label llmjob.dev/api-key" <<<"$1"; }
check "a Secret that was not meant for it is not mounted" \
	watch 30 "the label is asked for" says_label get llmjob keyed -o "$stalled{\"\\n\"}"
check "there is no pod" refuses NotFound kn get pod keyed-0
kn label secret database llmjob.dev/api-key=true >/dev/null
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

# ---- what a job may ask for ----------------------------------------------------------------------
ask() { job asks "$1, run: {command: [/bin/true]}" | kn create --dry-run=server -f -; }
placed() { ask "placement: {$1}"; }
# A policy is known to the API server's admission a moment after it is made.
poll 60 "the policy holds" refuses "is not allowed" placed "priorityClassName: system-node-critical"
check "a priority class is refused by its name" refuses \
	"spec.placement.priorityClassName: system-node-critical is not allowed" \
	placed "priorityClassName: system-node-critical"
check "a runtime class too" refuses "spec.placement.runtimeClassName: gvisor is not allowed" \
	placed "runtimeClassName: gvisor"
check "but for nvidia" placed "runtimeClassName: nvidia"
check "a toleration of every taint is refused" refuses "spec.placement.tolerations" \
	placed "tolerations: [{operator: Exists}]"
check "one of the control plane's too" refuses "spec.placement.tolerations" placed \
	"tolerations: [{key: nvidia.com/gpu}, {key: node-role.kubernetes.io/control-plane}]"
check "one of GPUs' is not" placed "tolerations: [{key: nvidia.com/gpu, operator: Exists}]"
check "a foreign image is refused" refuses "spec.image: docker.io/me/x:1 is not allowed" \
	ask "image: docker.io/me/x:1"
check "an image whose name begins like ours too" refuses "is not allowed" ask "image: ${image%:*}-x:1"
check "ours is not" ask "image: $image"
check "edit does not reach LLMJobs by itself" equal "$(k get clusterrole \
	-l rbac.authorization.k8s.io/aggregate-to-edit=true -o name | grep llmjob || true)" ""

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
check "the Secret that was labelled is mounted" kn wait --for=create pod/keyed-0 --timeout=90s
kn delete llmjob keyed --timeout=60s >/dev/null
# "cannot": a right that is missing; a namespace that is ending forbids too, with other words.
forbidden() { ! k -n "$1" logs deploy/"$2" --all-pods | grep -i 'forbidden.* cannot '; }
check "nothing that it tried was forbidden" forbidden $system llmjob

check "uninstall works" helm uninstall llmjob -n $system --wait
check "the kind is still there" k get crd llmjobs.llmjob.dev
check "and so is the job" kn get llmjob probe

# ---- one namespace's own release -----------------------------------------------------------------
check "the owner of a namespace installs it there" helm install own $chart -n "$namespace" \
	--set clusterScoped=false,watchNamespace="$namespace",replicas=1 --wait --timeout=60s
job mine 'run: {command: [/usr/bin/llmjob, --help]}' | kn create -f - >/dev/null
check "and it does a job without a right on the cluster" wait_for 60 llmjob/mine condition=Complete
check "nor one that it misses" forbidden "$namespace" own-llmjob
helm uninstall own -n "$namespace" --wait >/dev/null
check "install after uninstall takes the kind over again" need_llmjob
finish
