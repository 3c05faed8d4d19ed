#!/bin/bash
# Goal: what a machine with a GPU will run, runs: the bundle finds its libraries in itself, `check` counts every program and
# compute-sanitizer's tools, `bench` takes turns with its peers and writes its table, and a machine without a GPU gets one line.
# Method: the bundle in GPU_BUNDLE, made with the simulated plugin, in a place where the repository is not; peers and
# compute-sanitizer are scripts that do as the real ones print.
set -u
passed=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cp -a "$GPU_BUNDLE" "$tmp/gpu" && cd "$tmp" || exit 1
unset LD_LIBRARY_PATH COMPUTE_SANITIZER

verdict() { # what, status, the log of a failure
	if [ "$2" -eq 0 ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED: $1" && sed 's/^/  | /' "$3"
	fi
}
says() { # pattern: the log has such a line
	grep -qE -- "$1" log || { echo "  (no line matches: $1)" >>log; return 1; }
}

# Libraries: the bundle's or the C library's.
LD_LIBRARY_PATH=$tmp/gpu/lib ldd gpu/tests/gpu/{bench_gpu,gpu_ops,test_*} | grep '=>' |
	grep -vE "=> ($tmp/gpu/lib/|[^ ]*/(libc|libm|libstdc\+\+|libgcc_s|libdl|librt|libpthread)\.so)" >log
[ ! -s log ]
verdict "the bundle is complete" $? log

mkdir bin
cat >bin/compute-sanitizer <<'EOS'
#!/bin/sh
while [ "${1#--}" != "$1" ]; do case $1 in --tool) tool=$2 ;; esac; shift 2; done
echo "========= COMPUTE-SANITIZER $tool"
exec "$@"
EOS
chmod +x bin/compute-sanitizer
export LLMJOB_CUDA_CASE=swiglu GPU_CHECK="gpu_ops test_cuda_nccl"
PATH=$tmp/bin:$PATH GPU_SANITIZE=1 gpu/run.sh check >log 2>&1 &&
	says '^gpu-check: simulated, not on a device$' && says '^========= COMPUTE-SANITIZER racecheck$' &&
	[ "$(tail -n 1 log)" = "18 passed, 0 failed, 0 skipped" ]
verdict "check counts its programs and the sanitizer's tools" $? log

COMPUTE_SANITIZER='' GPU_CHECK=gpu_ops GPU_SANITIZE=1 gpu/run.sh check >log 2>&1 &&
	says '^ *SKIP: there is no compute-sanitizer: memcheck of gpu_ops$' && [ "$(tail -n 1 log)" = "1 passed, 0 failed, 4 skipped" ]
verdict "a missing compute-sanitizer is four skips" $? log

GPU_CHECK=test_cuda_nccl LLMJOB_CUDASIM_DEVICES=1 gpu/run.sh check >log 2>&1 &&
	says '^ *SKIP: test_split: NCCL needs 4 devices for 4 ranks$' && [ "$(tail -n 1 log)" = "2 passed, 0 failed, 8 skipped" ]
verdict "with one device NCCL's ranks are skips" $? log

for what in check bench; do
	LLMJOB_CUDASIM_DEVICES=0 gpu/run.sh $what >log 2>&1
	[ $? -eq 1 ] && [ "$(wc -l <log)" -eq 1 ] && says "^gpu-$what: .*shows no GPU"
	verdict "$what without a device is one line" $? log
done

cat >peer.py <<'EOS'
import json, sys
shape = json.loads(sys.argv[2])
assert shape["layers"] == 3 and not __import__("os").environ["LD_LIBRARY_PATH"]
print("a warning", flush=True)
for line in sys.stdin:
    print(json.dumps({"rate": 2.0, "memory_mib": 7, "version": "9.9"}), flush=True)
EOS
export BENCH_SECONDS=0.1 BENCH_ROUNDS=2 BENCH_TRAIN=tiny-gpt2:2:8:2 BENCH_DECODE=tiny-llama:16 BENCH_OUT=$tmp/out
export BENCH_COPY_MIB=16 BENCH_ALLREDUCE_MIB=4
BENCH_PEER=$tmp/peer.py LLMJOB_CUDASIM_DEVICES=2 gpu/run.sh bench >log 2>&1 &&
	says '^\| tiny-gpt2 \| 2 x 8 \| [0-9.,]+ \| 2\.0 \| [0-9.]+ \([0-9.]+ to [0-9.]+\) \| - \| - \| [0-9]+ MiB, 7 \|$' &&
	says '^\| tiny-llama, context 16 \| .* GB/s \|$' && says '^- all-reduce of 4 MiB over 2 devices: ' &&
	cmp <(sed -n '/^# /,/^written/p' log | sed '$d') out/simulated-gpu-cudasim-*.md >>log
verdict "bench writes its table" $? log

BENCH_PEER=/nowhere LLMJOB_CUDASIM_DEVICES=1 BENCH_DECODE= gpu/run.sh bench >log 2>&1 &&
	says '^- tiny-gpt2, torch: nowhere ended with status' && says '^\| tiny-gpt2 \| .* \| - \| - \|'
verdict "a peer that fails is noted and left out" $? log

(cd gpu/tests/gpu && python3 - >../../../log 2>&1) <<'EOS'
import bench
line = "step %4d/40 | loss 10.98 (+nanz)| norm 15.1 (+nanz)| lr 1.00e-04 | %.2f ms | 45.5%% bf16 MFU | 459000 tok/s\n"
log = "allocating 237 MiB\n" + "".join(line % (i, 900 if i < 10 else 100 + i % 3) for i in range(40))
assert bench.llmc_rate(log, 1010) == 1e4, bench.llmc_rate(log, 1010)
EOS
verdict "llm.c's steps are read" $? log

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
