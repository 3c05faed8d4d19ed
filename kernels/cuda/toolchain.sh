#!/bin/bash
# toolchain.sh: says where the CUDA toolkit and NCCL are, and fetches pinned ones where there are
# none. Prints one line, "CUDA NCCL": two folders, each with include/ and lib/ (or lib64/).
#
#   toolchain.sh         fetches NVIDIA's wheels from PyPI (690 MiB) unless something is installed
#   toolchain.sh -n      never fetches; status 1 and no line when there is nothing
#
# CUDA_HOME and NCCL_HOME, where set, are taken as they are. Else /usr/local/cuda counts when it
# is of the pinned major version, and an nccl.h below it, or the system's, with it. What is missing
# comes from the wheels: their folder is named after their hashes and put in place by rename when it
# is whole. They bring the compiler and libraries, no driver: that is the machine's. They exist for
# x86_64 only; on another machine install a toolkit. nvcc needs g++ besides.
set -euo pipefail
wheels='
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
nvidia-cublas==13.1.0.3 --hash=sha256:ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171
nvidia-nccl-cu13==2.28.9 --hash=sha256:e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42
nvidia-nvml-dev==13.0.87 --hash=sha256:082871368275cf6620fc900f55d8eaf2563b263a38a00a5168e9650bce963ba1
'
major=13
cache=${LLMJOB_CACHE:-$HOME/.cache/llmjob}
fetched=$cache/cuda-$(sha256sum <<<"$wheels" | cut -c 1-12)

say() { echo "cuda-toolchain: $*" >&2; }
die() { say "$@"; exit 1; }

# Sets cuda and nccl to what is installed, "" where there is none.
look() {
	local f
	cuda=${CUDA_HOME:-/usr/local/cuda} nccl=${NCCL_HOME:-}
	if [ ! -x "$cuda/bin/nvcc" ]; then
		[ -z "${CUDA_HOME:-}" ] || die "CUDA_HOME=$CUDA_HOME has no bin/nvcc"
		cuda=
	elif [ -z "${CUDA_HOME:-}" ] && [[ $("$cuda/bin/nvcc" --version) != *"release $major."* ]]; then
		cuda=
	fi
	for f in ${cuda:+"$cuda" /usr/local /usr}; do
		[ -n "$nccl" ] || [ ! -e "$f/include/nccl.h" ] || nccl=$f
	done
	[ -z "$nccl" ] || [ -e "$nccl/include/nccl.h" ] || die "NCCL_HOME=$nccl has no include/nccl.h"
}

fetch() {
	[ "$(uname -m)" = x86_64 ] || die "no pinned wheels for $(uname -m): install CUDA $major and NCCL," \
		"and set CUDA_HOME and NCCL_HOME"
	mkdir -p "$cache"
	exec 9>"$fetched.lock"
	flock -n 9 || { say "another run is fetching; waiting for it"; flock 9; }
	[ ! -d "$fetched" ] || return 0
	local new=$fetched.new start=$SECONDS
	say "fetching CUDA 13.0 and NCCL from PyPI, 690 MiB, once"
	rm -rf "$new" && mkdir "$new"
	python3 -m pip --disable-pip-version-check install -q --root-user-action ignore --no-deps --no-compile --no-cache-dir \
		--retries 10 --timeout 60 --only-binary :all: --require-hashes --target "$new" -r /dev/stdin <<<"$wheels" ||
		die "the wheels could not be installed"
	# The names that a linker and CUDA_HOME expect.
	ln -sf libcublasLt.so.13 "$new/nvidia/cu13/lib/libcublasLt.so"
	ln -sf libnccl.so.2 "$new/nvidia/nccl/lib/libnccl.so"
	ln -sfn lib "$new/nvidia/cu13/lib64"
	# cuBLAS proper (not Lt) is never linked with: 50 MiB less.
	rm -f "$new"/nvidia/cu13/lib/libcublas.so* "$new"/nvidia/cu13/lib/libnvblas.so*
	mv "$new" "$fetched"
	say "done in $((SECONDS - start)) s"
}

look
if [ -z "$cuda" ] || [ -z "$nccl" ]; then
	if [ ! -d "$fetched" ]; then
		[ "${1:-}" != -n ] || exit 1
		fetch
	fi
fi
echo "${cuda:-$fetched/nvidia/cu13} ${nccl:-$fetched/nvidia/nccl}"
