#!/bin/bash
# bundle.sh FOLDER PLUGIN PROGRAM...: makes FOLDER, which runs on a machine with a GPU and nothing of ours: run.sh, stripped
# programs with the plugin beside them, their files, and in lib/ the shared libraries that the linker names for the programs.
# The C and C++ libraries are the system's, NVIDIA's those of the machine (run.sh finds them).
set -euo pipefail
folder=$1 plugin=$2
shift 2
rm -rf "$folder"
mkdir -p "$folder"/{lib,tests/gpu,tests/golden}
for program in "$@"; do
	strip -o "$folder/tests/gpu/$(basename "$program")" "$program"
done
strip -o "$folder/tests/gpu/libllmjob-cuda.so" "$plugin"
cp tests/run.sh "$folder/tests/"
cp tests/gpu/{run.sh,bench.py,torch_peer.py} "$folder/tests/gpu/"
cp -r tests/golden/tiny-{llama,gpt2,qwen2,qwen3,mistral} "$folder/tests/golden/"
ln -s tests/gpu/run.sh "$folder/run.sh"
git describe --always --dirty >"$folder/commit" 2>/dev/null || true
ldd "$@" | grep -o '/[^ ]*\.so[^ ]*' | sort -u | while read -r library; do
	case $(basename "$library") in
	ld-linux* | libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | libstdc++.so.* | libgcc_s.so.*) ;;
	*) cp -L "$library" "$folder/lib/" ;;
	esac
done
