#!/bin/bash
# compile.sh NVCC SOURCE OBJECT FLAG...: compiles one .cu file, or takes its object from the cache.
#
# nvcc needs half a minute for what seldom changes, so objects outlive the output folder: they are
# kept in ${LLMJOB_CACHE:-$HOME/.cache/llmjob}/cuda-objects under a hash of everything that decides
# what they hold: the source and each header of the repository that it includes, the flags and both
# compilers' versions. OBJECT's .d file, for make, comes from the same list of headers. A cached
# object that was not used for 30 days goes.
set -euo pipefail
nvcc=$1 source=$2 object=$3
shift 3
cache=${LLMJOB_CACHE:-$HOME/.cache/llmjob}/cuda-objects
toolkit=$(dirname "$(dirname "$nvcc")")
host=${NVCC_CCBIN:-g++}

mkdir -p "$(dirname "$object")" "$cache"
"$host" -x c++ -std=c++17 -D__CUDACC__ -I. -isystem "$toolkit/include" -MM -MP -MT "$object" \
	-MF "${object%.o}.d.new" "$source"
mapfile -t files < <(sed -n '/^[^ ]*: *$/d; s/^[^ ]*: //; s/\\$//; p' "${object%.o}.d.new" |
	tr -s ' ' '\n' | grep . | sort -u)
key=$({ cat "$0"; echo "$source" "$@"; "$nvcc" --version; "$host" --version; sha256sum "${files[@]}"; } |
	sha256sum | cut -c 1-32)
if [ ! -e "$cache/$key.o" ]; then
	new=$cache/.$key.$$.o
	trap 'rm -f "$new"' EXIT
	"$nvcc" -ccbin "$host" "$@" -c "$source" -o "$new"
	mv "$new" "$cache/$key.o"
fi
touch "$cache/$key.o"
cp "$cache/$key.o" "$object"
mv "${object%.o}.d.new" "${object%.o}.d"
find "$cache" -name '*.o' -mtime +30 -delete 2>/dev/null || true
