#!/bin/bash
# bench.sh FOLDER: what bench_gpu (in FOLDER) and PyTorch reach on this machine's GPU, shape by shape, one after the
# other. Prints a line for each; a machine without a GPU, or without PyTorch, says so.
set -u
here=$(dirname "$0")
seconds=${BENCH_SECONDS:-15}
device=$("$1/bench_gpu" device) || { echo "SKIP: no GPU to measure"; exit 77; }
echo "on $device, $(date -u +%F)"
peer() { # arguments of torch_peer.py
	python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null ||
		{ echo "torch: not here, not measured"; return; }
	python3 "$here/torch_peer.py" "$@"
}
pair() { # shape batch tokens micro
	"$1/bench_gpu" train "$2" "$3" "$4" "$5" "$seconds"
	peer train "$2" "$3" "$4" "$seconds"
}
pair "$1" gpt2-124m 64 1024 64
pair "$1" smollm2-135m 64 1024 64
pair "$1" llama-1.1b 8 2048 8
"$1/bench_gpu" bandwidth 3
