#!/bin/bash
# Goal: the local cluster is a Kubernetes as a user's is: nodes, admission, authorisation, network,
# names, storage, gangs. Method: pods made of a small probe, packed as the product's image is, ask
# from inside; kubectl asks from outside.
. "$(dirname "$0")/lib.sh"
need_cluster
need_namespace

work=$(mktemp -d)
trap 'rm -rf "$work"; at_exit' EXIT
cc -O2 -Wall -Wextra -Werror -o "$work/probe" tests/e2e/probe.c
image/rootfs "$work/root" "$work/probe"
image/pack "$work/probe.tar" localhost/llmjob-probe:1 "$work/root" /usr/bin/probe
tests/cluster/import "$work/probe.tar"

pod() { # name node [more of the spec] -- argument...
	local name=$1 node=$2 more=
	shift 2
	[ "$1" = -- ] || { more=$1 && shift; }
	shift
	kn apply -f - >/dev/null <<-E
		apiVersion: v1
		kind: Pod
		metadata: {name: $name, labels: {app: probe}}
		spec:
		  hostname: $name
		  subdomain: probes
		  restartPolicy: Never
		  terminationGracePeriodSeconds: 2
		  nodeSelector: {kubernetes.io/hostname: $node}
		  $more
		  securityContext:
		    runAsNonRoot: true
		    runAsUser: 65532
		    runAsGroup: 65532
		    seccompProfile: {type: RuntimeDefault}
		  volumes: [{name: data, persistentVolumeClaim: {claimName: llmjob-data}}]
		  containers:
		  - name: probe
		    image: localhost/llmjob-probe:1
		    args: [$(printf '"%s",' "$@")]
		    volumeMounts: [{name: data, mountPath: /data}]
		    resources: {limits: {memory: 32Mi, cpu: 100m}}
		    securityContext:
		      allowPrivilegeEscalation: false
		      readOnlyRootFilesystem: true
		      capabilities: {drop: [ALL]}
	E
}
says() { # pod text: it ends well, having said this
	wait_for 30 "pod/$1" 'jsonpath={.status.phase}=Succeeded' && equal "$(kn logs "$1")" "$2"
}

check "three nodes are Ready" equal "$(k get nodes --no-headers | grep -cw Ready)" 3
check "a pod without the restricted profile is refused" \
	refuses 'violates PodSecurity "restricted:latest"' kn run bad --image=x
check "so is a folder of the host" refuses "restricted volume types" kn apply -f - <<-E
	apiVersion: v1
	kind: Pod
	metadata: {name: bad}
	spec: {containers: [{name: c, image: x}], volumes: [{name: h, hostPath: {path: /}}]}
E
check "a node may not touch another node" refuses "only its own Node object" \
	k --kubeconfig "$state/kubeconfig/node-0" label node node-1 a=b
check "nor read a secret that none of its pods uses" refuses "forbidden" \
	k --kubeconfig "$state/kubeconfig/node-0" -n kube-system get secret absent

kn create service clusterip probes --clusterip=None --tcp=7000 >/dev/null
kn create service clusterip one --tcp=7000 >/dev/null
kn set selector service/probes app=probe >/dev/null
kn set selector service/one app=probe >/dev/null
pod info node-0 -- info /data
check "a pod runs as 65532 with a read-only root and writes to its claim" \
	says info "uid 65532 gid 65532
root Read-only file system
data writable"
kn delete pod info --wait=false >/dev/null
for i in 0 1 2; do pod listen-$i node-$i -- listen 7000; done
check "pods start on every node" wait_for 30 pod/listen-0 condition=Ready
check "and become Ready" kn wait --for=condition=Ready pod/listen-1 pod/listen-2 --timeout=30s
for i in 0 1 2; do
	pod ask-$i node-$(((i + 1) % 3)) -- connect "listen-$i.probes.$namespace.svc.cluster.local" 7000
done
pod ask-one node-1 -- connect one 7000
for i in 0 1 2; do
	check "node-$(((i + 1) % 3)) reaches a pod of node-$i by its headless name" says ask-$i hello
done
check "a ClusterIP reaches a pod" says ask-one hello
check "exec reaches a pod" \
	equal "$(kn exec listen-2 -- /usr/bin/probe connect 127.0.0.1 7000)" hello

group='schedulingGroup: {podGroupName: gang}'
kn apply -f - >/dev/null <<-E
	apiVersion: scheduling.k8s.io/v1beta1
	kind: PodGroup
	metadata: {name: gang}
	spec: {schedulingPolicy: {gang: {minCount: 2}}}
E
pod gang-0 node-0 "$group" -- listen 7000
unscheduled() { [ "$(kn get pod gang-0 -o jsonpath='{.spec.nodeName}')" = "" ]; }
pod witness node-0 -- listen 7000
check "a pod made after half a gang is Ready first" wait_for 30 pod/witness condition=Ready
check "half a gang stays unscheduled" unscheduled
pod gang-1 node-1 "$group" -- listen 7000
check "the whole gang runs" kn wait --for=condition=Ready pod/gang-0 pod/gang-1 --timeout=30s
finish
