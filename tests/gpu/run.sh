#!/bin/bash
# run.sh check|bench [PROGRAMS]: the proofs or the figures of this machine's GPU, by the programs in that folder, by default
# run.sh's own, as in the bundle (bundle.sh). The plugin beside them needs cuBLASLt and NCCL: what the linker does not find
# is looked for among python3's packages and below /usr/local/cuda.
#
# GPU_CHECK: the programs that check runs, else all and compute-sanitizer's tools. LLMJOB_CUDA_CASE: one operation of gpu_ops.
# COMPUTE_SANITIZER: that program, "" for none; else it is looked for.
set -u
here=$(dirname "$(readlink -f "$0")")
programs=$(readlink -f "${2:-$here}")
cd "$here/../.." || exit 1
say() { echo "gpu-${what:-run}: $*" >&2; }
what=${1:-}
case $what in check | bench) ;; *) say "check or bench?"; exit 2 ;; esac

# For PyTorch, which brings its own.
export GPU_OUTER_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
look_in() { LD_LIBRARY_PATH=$1${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; }
[ ! -d lib ] || look_in "$PWD/lib"

library_folders() {
	python3 -c 'import sys; print(*sys.path, sep="\n")' 2>/dev/null |
		while read -r folder; do [ -z "$folder" ] || find -L "$folder/nvidia" -maxdepth 3 -name lib -type d 2>/dev/null; done
	printf '%s\n' /usr/local/cuda/lib64 /usr/local/cuda-*/lib64
}
plugin=$programs/libllmjob-cuda.so
[ -e "$plugin" ] || { say "there is no $plugin"; exit 1; }
for library in $(ldd "$plugin" | awk '/not found/ { print $1 }' | sort -u); do
	folder=$(library_folders | while read -r f; do [ ! -e "$f/$library" ] || { echo "$f"; break; }; done)
	[ -n "$folder" ] || { say "the plugin needs $library: neither python3's packages nor /usr/local/cuda have it"; exit 1; }
	look_in "$folder"
done

device=$("$programs/bench_gpu" device 2>&1) || { say "${device##*bench_gpu: }"; exit 1; }
name=$(sed -n 's/.*"name": "\([^"]*\)".*/\1/p' <<<"$device")
case $name in *simulated*) ran="simulated, not on a device" ;; *) ran="on $name" ;; esac
GPU_COMMIT=$(cat commit 2>/dev/null || git describe --always --dirty 2>/dev/null)
export GPU_COMMIT

bench() {
	exec python3 tests/gpu/bench.py "$programs"
}

# Adds compute-sanitizer's tool over a program and its arguments to the list.
sanitized() { # tool program argument...
	local tool=$1 program=$tmp/tests/gpu/$1-$2 sanitizer
	shift
	sanitizer=${COMPUTE_SANITIZER-$(command -v compute-sanitizer ||
		ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)}
	if [ -z "$sanitizer" ]; then
		printf '#!/bin/sh\necho "SKIP: there is no compute-sanitizer: %s of %s"\nexit 77\n' "$tool" "$1"
	else
		# CK_FORK=no: all cases in one process, the tool starts slowly.
		printf '#!/bin/sh\nexport CK_FORK=no\nexec %s --tool %s --error-exitcode 9 --target-processes all %s/%s\n' \
			"$sanitizer" "$tool" "$programs" "$*"
	fi >"$program"
	chmod +x "$program"
	list+=("$program")
}

check() {
	local program
	tmp=$(mktemp -d) list=()
	trap 'rm -rf "$tmp"' EXIT
	mkdir -p "$tmp/tests/gpu"
	for program in ${GPU_CHECK:-gpu_ops $(cd "$programs" && ls | grep '^test_[a-z_]*$')}; do
		list+=("$programs/$program")
	done
	if [ -z "${GPU_CHECK:-}" ] || [ -n "${GPU_SANITIZE:-}" ]; then
		sanitized memcheck gpu_ops -s
		sanitized memcheck test_cuda_model
		# cuBLASLt's kernels are not ours to prove.
		sanitized racecheck gpu_ops -s -x matmul
		sanitized synccheck gpu_ops -s -x matmul
	fi
	echo "gpu-check: $ran, commit ${GPU_COMMIT:-unknown}"
	tests/run.sh -v -g gpu -t 600 -r "$tmp/results" "${list[@]}"
	echo "gpu-check: $ran"
	tests/run.sh -s "$tmp/results"
}
$what
