#!/bin/bash
# Goal: the image is small, the same for the same input, complete, listed file by file, and runs as a
# restricted pod does. Method: it is packed twice and compared, and so is the bill of materials; each program is started from it by kubelet and
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
inventory() { # is whole, and the same again
	image/sbom "$work/root" "$version" >"$work/sbom.json"
	image/sbom "$work/root" "$version" | cmp - "$work/sbom.json"
	jq -r '.components[] | select(.version | length > 0) | .components[].name' "$work/sbom.json" | sort |
		diff - <(cd "$work/root" && find . -type f | cut -c 2- | sort)
}
no_stranger() { # is passed over
	touch "$work/root/usr/lib/libstranger.so"
	! image/sbom "$work/root" "$version" >/dev/null
	rm "$work/root/usr/lib/libstranger.so"
}
start() { # program
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
}
ends() { wait_for 30 "pod/$1" "jsonpath={.status.phase}=$2"; }
says() { kn logs "$1" | grep -F -- "$2"; } # pod text

for program in llmjob llmjob-agent llmjob-controller llmjob-rank; do start $program; done
check "packing again gives the same bytes" same_again
check "it holds at most 32 MiB" small 32
check "it holds the programs, their libraries, a shell, and nothing else" nothing_else
check "the bill of materials names every file with its package" inventory
check "and refuses a file that is of none" no_stranger
for program in llmjob llmjob-agent llmjob-controller; do
	check "$program starts" ends $program Succeeded
done
check "llmjob-rank starts" ends llmjob-rank Failed
check "and says that it is the agent's to start" says llmjob-rank "is started by llmjob-agent"
finish
