#!/bin/bash
# aarch64.sh [TEST...]: llmjob for aarch64: cross-compiled with Debian's gcc-aarch64-linux-gnu, run by QEMU's user mode.
#
# The system to compile for is put together from Debian's arm64 packages in LLMJOB_CACHE, once; nothing of this machine's own is
# changed, but that as root the compiler and QEMU are installed where they are missing. The build is build-aarch64. test_quant runs on
# a processor of each set of instructions that kernels/cpu has (SMMLA: max, SDOT: cortex-a76, neither: cortex-a72); the other tests of
# kernels, which compare all sets that there are, and those of TESTS, or TEST..., on max, which has them all. Then two ranks train a
# tiny Llama to a loss within 1e-4 of that of this machine's build (O), and it is served, in Q8_0: its logprobs are the same on all
# three processors, and within 1e-3 of this machine's. QEMU tells whether it is right, not how fast it is, nor how processors order
# what threads write. Six minutes, and as many once to compile.
here=$(realpath "$(dirname "$0")")
native=$(realpath "${O:-$here/../../build}")
A=$native B=$native
. "$here/lib.sh"
build=$top/build-aarch64
TESTS="base/test_buf base/test_cel base/test_clock base/test_conf base/test_fair base/test_field base/test_io base/test_json base/test_mem
    base/test_metric base/test_net base/test_number base/test_random base/test_request base/test_secret base/test_utf8 base/test_yaml
    runtime/coll/test_coll runtime/coll/test_layout runtime/coll/test_slices runtime/door/test_beat runtime/door/test_door
    runtime/files/test_gguf runtime/files/test_safetensors runtime/files/test_hash runtime/model/test_kvcache runtime/serve/test_batcher
    runtime/serve/test_sample"
[ $# -eq 0 ] || TESTS=$*

# The packages that tests/deps.sh installs to compile with, of the other architecture, by an apt of their own.
sysroot() { # sets $root
    local packages cache=${LLMJOB_CACHE:-$HOME/.cache/llmjob} deb apt link
    packages="libc6-dev libgomp1 $(grep -oE '\b(lib[a-z0-9.-]+-dev|zlib1g-dev|check)\b' "$top/tests/deps.sh" | sort -u | tr '\n' ' ')"
    root=$cache/aarch64-$(sha256sum <<<"$packages" | cut -c 1-12)
    [ ! -d "$root" ] || return 0
    mkdir -p "$cache"
    (
        flock 9
        [ ! -d "$root" ] || exit 0
        rm -rf "$root.new" "$root.apt"
        mkdir -p "$root.new" "$root.apt"/{state/lists/partial,cache/archives/partial}
        : >"$root.apt/status"
        apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$root.apt/state" -o Acquire::Retries=5
            -o Dir::State::status="$root.apt/status" -o Dir::Cache="$root.apt/cache" -o Debug::NoLocking=1)
        [ "$(id -u)" -ne 0 ] || apt+=(-o APT::Sandbox::User=root)
        "${apt[@]}" update && "${apt[@]}" -y --no-install-recommends --download-only install $packages >/dev/null || exit 1
        for deb in "$root.apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root.new"; done
        find "$root.new" -type l -lname '/*' | while read -r link; do
            ln -sfn "$(realpath -ms --relative-to="$(dirname "$link")" "$root.new$(readlink "$link")")" "$link"
        done
        rm -rf "$root.apt"
        mv "$root.new" "$root"
    ) 9>"$cache/aarch64.lock"
}
tools() {
    command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null && return
    [ "$(id -u)" -eq 0 ] && apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends gcc-aarch64-linux-gnu \
        libc6-dev-arm64-cross qemu-user >/dev/null
}
compile() { # target...: each of the build
    env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS nice make -C "$top" -j"$(nproc)" O=build-aarch64 ARCH=aarch64 \
        CC="$(command -v ccache || true) aarch64-linux-gnu-gcc --sysroot=$root" "${@/#/build-aarch64/}"
}
# A program of that build as one of this machine: the kernel is told of no other.
wrap() { # file program processor
    printf '#!/bin/sh\nexec %s -L %s -cpu %s %s "$@"\n' "$(command -v qemu-aarch64)" "$root" "$3" "$build/$2" >"$1"
    chmod +x "$1"
}
programs() { # processor: the four, in $other
    local name
    for name in llmjob llmjob-agent llmjob-rank; do wrap "$other/$name" $name "$1"; done
}
run_tests() { # processor test...
    local name status=0
    rm -rf "$work/tests"
    mkdir "$work/tests"
    for name in "${@:2}"; do wrap "$work/tests/${name//\//.}" "tests/$name" "$1"; done
    CK_TIMEOUT_MULTIPLIER=30 OMP_WAIT_POLICY=passive LLMJOB_EMULATED=1 LLMJOB_SAMPLE=8 LLMJOB_SEED=${LLMJOB_SEED:-$(date +%s)} \
        "$top/tests/run.sh" -g "aarch64-$1" -t 1500 "$work"/tests/* || status=1
    [ $status = 0 ] && pass || fail
}
other_run() { start "$other" "$1" --agent "$other/llmjob-agent" --rank-program "$other/llmjob-rank" "${@:2}"; }
loss() { jq .loss "$work/run/ckpt/step-00000020/manifest.json"; }
trained() { # how name: of the job by either build
    rm -rf "$work/run"
    mkdir "$work/run"
    "$1" "data=$work/data,run=$work/run"
    ended && loss >"$work/loss.$2" || { explain "training, $2"; fail; return 1; }
}
asked() { # how name: the logprobs of a text, read at once, and of what is answered, a token at a time
    "$1" "data=$work/data" --port 0
    url=$(serving) || { explain "serving, $2"; fail; return 1; }
    jq -n '{model: "m", echo: true, max_tokens: 24, temperature: 0, logprobs: 1, prompt: "In the beginning God created the heaven"}' |
        curl -sS --fail-with-body --max-time 300 "$url/completions" -H 'content-type: application/json' -d @- |
        jq -c '.choices[0] | [.text, .logprobs.token_logprobs[1:]]' >"$work/said.$2" || true
    kill "$running"
    ended || true
    [ "$(jq '.[1] | length' "$work/said.$2")" -gt 30 ] || { explain "an answer, $2"; fail; return 1; }
}
native_run() { start "$native" "$@"; }

tools || { echo "SKIP: no aarch64-linux-gnu-gcc and qemu-aarch64 (apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"; exit 77; }
begin
other=$work/other
mkdir "$other"
sysroot || { echo "no arm64 packages"; exit 1; }
kernels="kernels/test_ops kernels/test_gradient kernels/test_state"
compile llmjob llmjob-agent llmjob-rank $(printf 'tests/%s ' kernels/test_quant $kernels $TESTS) >"$work/log" 2>&1 ||
    { explain "compiling"; exit 1; }
for processor in max cortex-a76 cortex-a72; do run_tests $processor kernels/test_quant; done
run_tests max $kernels $TESTS

add_texts
add_tiny
write_training "$work/job.yaml" steps=20 save=20 evaluate=0 replicas=2 rate=0.01
programs max
trained native_run native && trained other_run aarch64 || exit 1
mv "$work/run/out" "$work/data/learnt"
awk '{ x[NR] = $1 } END { printf "losses %.6f and, on aarch64, %.6f\n", x[1], x[2]; exit !((x[1] - x[2]) ^ 2 < (1e-4 * x[1]) ^ 2) }' \
    "$work/loss.native" "$work/loss.aarch64" && pass || fail
convert_model learnt q8_0 'quantize: Q8_0' || exit 1
write_serving "$work/job.yaml" q8_0/model.gguf BF16
asked native_run native || exit 1
for processor in max cortex-a76 cortex-a72; do
    programs $processor
    asked other_run $processor && cmp "$work/said.max" "$work/said.$processor" && pass || fail
done
off=$(jq -s '.[0][1] as $a | .[1][1] as $b | [range($a | length) | $a[.] - $b[.] | fabs] | max' "$work"/said.{native,max})
echo "logprobs off by $off at most"
jq -en "$off < 1e-3" >/dev/null && pass || fail
finished=1
