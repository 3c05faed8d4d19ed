#!/bin/sh
# format.sh: every C and CUDA file of the house is as clang-format would write it. `make format` repairs.
cd "$(dirname "$0")/.." || exit 1
if ! command -v clang-format >/dev/null; then
	echo "SKIP: clang-format is not installed"
	exit 77
fi
find base api kernels runtime agent controller cli tests \
	\( -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
	xargs -0 -n 50 -P "$(nproc)" clang-format --dry-run -Werror
