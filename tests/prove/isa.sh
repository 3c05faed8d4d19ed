#!/bin/bash
# isa.sh [SET ...]: what computes with any instruction set computes with each that this processor has, as LLMJOB_ISA names them.
#
# Unit tests of kernels go through all sets themselves; those of serving and training take the best, so here they are run once with each:
# avx512bf16, avx512, avx2 and base, oneDNN's products held to the same. A set that this processor or build has not is told and left out. Minutes a set.
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
tests=(kernels/test_dev kernels/test_quant runtime/model/test_engine runtime/serve/test_batcher runtime/serve/test_infer runtime/train/test_train)
env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory O="$O" "${tests[@]/#/$O/tests/}" >&2 || exit 1

has() { for flag; do grep -qwm 1 "$flag" /proc/cpuinfo || return 1; done; }
lacks() { # set: why it is left out
    grep -q "WITHOUT_$([ "$1" = base ] && echo BASE || echo AVX512)" "$O/kernels/cpu/without" && [ "$1" != avx2 ] && echo "not in this build" && return
    case $1 in
        avx512bf16) has avx512vl avx512_bf16 avx512_vnni || echo "not in this processor" ;;
        avx512) has avx512f avx512bw avx512cd avx512dq avx512vl || echo "not in this processor" ;;
        avx2) has avx2 bmi2 f16c fma || echo "not in this processor" ;;
    esac
}
declare -A onednn=([avx512bf16]=ALL [avx512]=AVX512_CORE [avx2]=AVX2 [base]=SSE41)
[ "$(uname -m)" = x86_64 ] || { echo "SKIP: sets of x86-64; aarch64's are tried by aarch64.sh"; exit 77; }
[ $# -gt 0 ] || set -- avx512bf16 avx512 avx2 base
passed=0 failed=0
for set; do
    [ -n "${onednn[$set]-}" ] || { echo "no instruction set $set: avx512bf16 avx512 avx2 base" >&2; exit 2; }
    why=$(lacks "$set")
    [ -z "$why" ] || { echo "SKIP: $set: $why"; continue; }
    for test in "${tests[@]}"; do
        if LLMJOB_ISA=$set ONEDNN_MAX_CPU_ISA=${onednn[$set]} OMP_WAIT_POLICY=passive "$O/tests/$test" >"$O/isa.log" 2>&1; then
            passed=$((passed + 1)) && echo "$set: $test passed"
        else
            failed=$((failed + 1)) && echo "$set: $test failed" && tail -n 20 "$O/isa.log"
        fi
    done
done
rm -f "$O/isa.log"
echo "100%: Checks: $((passed + failed)), Failures: $failed, Errors: 0"
[ $passed -gt 0 ] && [ $failed = 0 ]
