#!/bin/bash
# allreduce.sh [-r ROUNDS] BUILD [BYTES...]: an all-reduce of F32 between two processes, a processor each, of BUILD beside MPICH and Open MPI (Debian:
# mpich, libmpich-dev, openmpi-bin, libopenmpi-dev) and Gloo (torch's, by tests/golden/python): medians in us, of what both ranks have
# just written, in place, by the slower rank. In shared memory: ours of the memory that gradients lie in, and of any other. Over TCP on
# loopback. An MPI that is not installed, and torch with TORCH=no, is left out and said. Each of them runs once a round, in turns, and a cell
# is the median of its rounds (5): a virtual machine's processors change their speed by half from one minute to the next. Four minutes on
# two cores that do nothing else.
set -euo pipefail
export LC_ALL=C
rounds=5
[ "${1:-}" != -r ] || { rounds=$2 && shift 2; }
build=$(realpath "$1") && shift
here=$(dirname "$0")
[ $# -gt 0 ] || set -- 1024 16384 65536 262144 1048576 4194304 16777216 67108864 134217728
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

measure() { # file command...: a line a size, of each round
    local out=$1
    shift
    echo "  $out" >&2
    "$@" >>"$work/$out" || { echo "$out: failed" >&2 && exit 1; }
}
for mpi in mpich openmpi; do
    if command -v mpicc.$mpi mpirun.$mpi >/dev/null; then
        mpicc.$mpi -O2 -D_GNU_SOURCE "$here/allreduce_mpi.c" -o "$work/run.$mpi"
    else
        echo "SKIP: $mpi is not installed" >&2
    fi
done
open=(mpirun.openmpi --allow-run-as-root -n 2)
for _ in $(seq "$rounds"); do
    measure shared "$build/tests/bench/bench_coll" allreduce shared "$@"
    measure private "$build/tests/bench/bench_coll" allreduce private "$@"
    measure tcp "$build/tests/bench/bench_coll" allreduce tcp "$@"
    if [ -x "$work/run.mpich" ]; then
        measure mpich-shared mpirun.mpich -n 2 "$work/run.mpich" "$@"
        measure mpich-tcp env UCX_TLS=tcp,self UCX_NET_DEVICES=lo MPIR_CVAR_NOLOCAL=1 mpirun.mpich -n 2 "$work/run.mpich" "$@"
    fi
    if [ -x "$work/run.openmpi" ]; then
        measure openmpi-shared "${open[@]}" "$work/run.openmpi" "$@"
        measure openmpi-tcp "${open[@]}" --mca pml ob1 --mca btl self,tcp --mca btl_tcp_if_include lo "$work/run.openmpi" "$@"
    fi
    [ "${TORCH:-}" = no ] || measure gloo-tcp "$("$here/../golden/python")" "$here/allreduce_gloo.py" "$@"
done

us() { # file bytes: the median of its rounds
    [ ! -e "$work/$1" ] || awk -v b="$2" '$1 == b { print $2 }' "$work/$1" | sort -g |
        awk '{ at[NR] = $1 } END { if (NR) printf "%.1f", (at[int((NR + 1) / 2)] + at[int(NR / 2) + 1]) / 2 }'
}
least() { for f in "${@:2}"; do us "$f" "$1" && echo; done | sort -g | awk 'NF && !n++'; } # bytes file...
times() { awk -v a="$1" -v b="$2" 'BEGIN { if (a > 0 && b > 0) printf "%.2f", b / a }'; }
echo "| bytes | shared: ours | ours, any memory | MPICH | Open MPI | best of them / ours | TCP: ours | MPICH | Open MPI | Gloo | best of them / ours |"
echo "|---|---|---|---|---|---|---|---|---|---|---|"
for bytes in "$@"; do
    echo "| $bytes | $(us shared "$bytes") | $(us private "$bytes") | $(us mpich-shared "$bytes") | $(us openmpi-shared "$bytes") |" \
        "$(times "$(us shared "$bytes")" "$(least "$bytes" mpich-shared openmpi-shared gloo-tcp)") | $(us tcp "$bytes") |" \
        "$(us mpich-tcp "$bytes") | $(us openmpi-tcp "$bytes") | $(us gloo-tcp "$bytes") |" \
        "$(times "$(us tcp "$bytes")" "$(least "$bytes" mpich-tcp openmpi-tcp gloo-tcp)") |"
done
