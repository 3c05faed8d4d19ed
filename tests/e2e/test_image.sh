#!/bin/bash
# Goal: the image is small, the same for the same input, complete, and runs as a restricted pod
# does. Method: it is packed twice and compared; each program is started from it by kubelet and
# containerd, read-only, as 65532.
. "$(dirname "$0")/lib.sh"
need_cluster
need_image
need_namespace

archive=$O/llmjob-$version.oci.tar
work=$(mktemp -d)
trap 'rm -rf "$work"; at_exit' EXIT

same_again() {
	image/rootfs "$work/root" "$O"/llmjob-{rank,agent,controller} "$O/llmjob"
	image/pack "$work/again.tar" "$image" "$work/root" /usr/bin/llmjob-agent
	cmp "$archive" "$work/again.tar"
}
small() { # MiB
	local size=$(($(stat -c %s "$archive") >> 20))
	echo "image: $size MiB packed"
	[ $size -le "$1" ]
}
nothing_else() {
	! find "$work/root" -type f ! -path '*/usr/lib*/*.so*' ! -path '*/usr/bin/llmjob*' \
		! -path '*/usr/bin/sh' ! -path '*/etc/*' | grep .
}
runs() { # program phase
	kn apply -f - >/dev/null <<-E
		apiVersion: v1
		kind: Pod
		metadata: {name: $1}
		spec:
		  restartPolicy: Never
		  securityContext:
		    runAsNonRoot: true
		    runAsUser: 65532
		    seccompProfile: {type: RuntimeDefault}
		  containers:
		  - name: c
		    image: $image
		    command: [/usr/bin/$1, --help]
		    resources: {limits: {memory: 256Mi}}
		    securityContext:
		      allowPrivilegeEscalation: false
		      readOnlyRootFilesystem: true
		      capabilities: {drop: [ALL]}
	E
	wait_for 30 "pod/$1" "jsonpath={.status.phase}=$2"
}
says() { kn logs "$1" | grep -F -- "$2"; } # pod text

check "packing again gives the same bytes" same_again
check "it holds at most 32 MiB" small 32
check "it holds the programs, their libraries, a shell, and nothing else" nothing_else
for program in llmjob llmjob-agent llmjob-controller; do
	check "$program starts" runs $program Succeeded
done
check "llmjob-rank starts" runs llmjob-rank Failed
check "and says that it is the agent's to start" says llmjob-rank "is started by llmjob-agent"
finish
