# lib.sh: the cluster's names, addresses and small helpers. Sourced by every script of this folder.
#
# One cluster a machine, so that every name below is fixed and `down` can find what an earlier `up`
# left, also when that `up` died half-way or its state folder is gone. The truth of "which processes
# are ours" is the cgroup tree `llmjob-cluster`, never a file with process numbers: those outlive
# the processes and get reused.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/pins.sh"

state=${LLMJOB_CLUSTER_STATE:-/var/tmp/llmjob-cluster}
tree=llmjob-cluster # the cgroup of everything, in each hierarchy
bridge=llmjob0
host_ip=10.200.0.1 # the bridge: API server, etcd, DNS
node_net=10.200.0.0/24
pod_net=10.201.0.0/16
service_net=10.96.0.0/16
api=https://$host_ip:6443
pki=$state/pki

node_ip() { echo "10.200.0.$((11 + $1))"; }
pod_range() { echo "10.201.$1.0/24"; }
veth() { echo "llmjob-n$1"; }

say() { printf 'cluster: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# wait_until SECONDS WHAT COMMAND...: until COMMAND succeeds; WHAT is named when it does not in
# time.
wait_until() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || die "no success in time: $what"
		sleep 0.05
	done
}

# quietly COMMAND...: its output only when it fails.
quietly() {
	local output
	output=$("$@" 2>&1) || {
		printf '%s\n' "$output" >&2
		return 1
	}
}

# ---- binaries: outside the repository, one folder for each set of pins ---------------------------
pins_hash() {
	{
		echo $KUBERNETES $KWOK $RECIPE "$(uname -m)"
		cat "$here"/{pause.c,go.mod,go.sum} "$here"/{kube,coredns}/main.go
	} | sha256sum | cut -c1-12
}
cache=${LLMJOB_CACHE:-$HOME/.cache/llmjob}/cluster-$(pins_hash)
bin=$cache/bin
PATH=$bin:$PATH

kubectl() { command kubectl --kubeconfig "$state/kubeconfig/admin" "$@"; }

# ---- cgroups: one tree on v2, one in each hierarchy on v1 ----------------------------------------
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
	cgroup_version=2 cgroup_roots=(/sys/fs/cgroup)
else
	cgroup_version=1
	mapfile -t cgroup_roots < <(
		awk '$2 ~ "^/sys/fs/cgroup/" && $3 ~ /^cgroup2?$/ {print $2}' /proc/self/mounts |
			sort -u)
fi

# Makes one level and hands the parent's resources down to it, which neither version does by itself.
cgroup_level() { # path parent
	local file
	if [ -w "$2/cgroup.subtree_control" ] && [ $cgroup_version = 2 ]; then
		sed 's/^/+/; s/ / +/g' "$2/cgroup.controllers" >"$2/cgroup.subtree_control" ||
			die "cannot delegate the controllers of $2 (inside a container?)"
	fi
	[ -d "$1" ] || mkdir "$1"
	for file in cpuset.cpus cpuset.mems; do
		[ $cgroup_version = 1 ] && [ -e "$2/$file" ] || continue
		cat "$2/$file" >"$1/$file"
	done
}
# Never the top, which only `up` makes: what is still booting while `down` runs fails here, and
# ends.
cgroup_make() { # name, for example node-0/pods
	local root path level
	for root in "${cgroup_roots[@]}"; do
		path=$root/$tree
		for level in ${1//\// }; do
			cgroup_level "$path/$level" "$path"
			path=$path/$level
		done
	done
}
# in_cgroup NAME COMMAND...: becomes COMMAND, in that cgroup of every hierarchy. Call in a subshell.
in_cgroup() {
	local root name=$1
	shift
	for root in "${cgroup_roots[@]}"; do
		echo "$BASHPID" >"$root/$tree/$name/cgroup.procs"
	done
	exec "$@"
}
cgroup_pids() {
	find "${cgroup_roots[@]/%//$tree}" -name cgroup.procs -exec cat {} + 2>/dev/null |
		sort -un || true
}
