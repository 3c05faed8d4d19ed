# lib.sh: runs jobs with the four programs of a build, through what users use. Sourced by bits.sh and pace.sh.
#
# A run has the folder $work/run, the same for both builds, since an export names its model's path; $work/data holds
# models and texts, which nothing writes to. What runs is ended with the script, by its process id; $work is removed.
set -euo pipefail
export LC_ALL=C.UTF-8

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=$(python3 -c 'import sys; print(sys.executable)')
passed=0 failed=0 skipped=0 running="" finished=""

facts() { "$python" -IS "$top/tests/prove/facts.py" "$@"; }

begin() { # work folder of this script; A and B are set by then
    local side
    for side in "$A" "$B"; do
        [ -x "$side/llmjob" ] && [ -x "$side/llmjob-agent" ] && [ -x "$side/llmjob-rank" ] || {
            echo "$side: no build with llmjob, llmjob-agent and llmjob-rank"
            exit 2
        }
    done
    mkdir -p "$top/build"
    work=$(mktemp -d "$top/build/prove.XXXX")
    trap end EXIT
    trap 'exit 130' INT TERM HUP
    mkdir -p "$work/data" "$work/tmp"
    rank_wrapper "$work/rank"
}
clean_up() { :; } # of a script's own
end() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP # a second one leaves nothing behind either
    if [ -n "$running" ] && kill $running 2>/dev/null; then wait $running || true; fi
    clean_up
    rm -rf "$work"
    [ -n "$finished" ] || failed=$((failed + 1))
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ] || [ $status -ne 0 ] || status=1
    exit $status
}
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); }

# Stands in a rank's place and appends its process id to $work/pids and, when it has ended, its greatest resident memory
# in KiB to $work/peaks. An agent that ends before its rank, as serving ones do, ends this program first.
rank_wrapper() { # file
    cat >"$1" <<-E
	#!$python -IS
	import os, signal, sys
	signal.signal(signal.SIGTERM, signal.SIG_IGN)
	rank = os.environ["PROVE_RANK"]
	pid = os.posix_spawn(rank, [rank], os.environ, setsigdef=[signal.SIGTERM])
	with open("$work/pids", "a") as f:
	    f.write("%d\n" % pid)
	_, status, use = os.wait4(pid, 0)
	with open("$work/peaks", "a") as f:
	    f.write("%d\n" % use.ru_maxrss)
	code = os.waitstatus_to_exitcode(status)
	if code < 0:
	    signal.signal(-code, signal.SIG_DFL) if code != -9 else None
	    os.kill(os.getpid(), -code)
	sys.exit(code)
	E
    chmod +x "$1"
}

# ---- materials -----------------------------------------------------------------------------------
add_texts() {
    "$top/tests/e2e/kjv" "$work/kjv"
    head -c 40000 "$work/kjv" >"$work/data/text.txt"
    head -n 400 "$work/kjv" | tail -n 60 | jq -Rc '{text: .}' >"$work/data/lines.jsonl"
    rm "$work/kjv"
}
add_tiny() {
    local name
    for name in llama gpt2 qwen2; do
        cp -r "$top/tests/golden/tiny-$name" "$work/data/$name"
        facts tokenizer "$work/data/text.txt" "$(jq .vocab_size "$work/data/$name/config.json")" \
            "$work/data/$name/tokenizer.json"
    done
}
# What each objective learns from, of a text's lines, with labels that mean little; the last ten lines are held out.
add_objectives() {
    local name
    for name in bert bert-texts bert-masked; do cp -r "$top/tests/golden/tiny-$name" "$work/data/$name"; done
    head -n 130 "$work/data/text.txt" | cut -d ' ' -f 1-9 | awk 'NF > 5' >"$work/lines"
    awk '{ for (i = 1; i <= NF; i++) print $i, (i % 4 == 1 ? "B-A" : i % 4 == 2 ? "I-A" : "O"); print "" }' \
        "$work/lines" >"$work/words.conll"
    jq -Rc '{text: ., label: "of \(length % 3)"}' "$work/lines" >"$work/texts.jsonl"
    jq -Rc '{text: ., labels: [["a", "b", "c"][:length % 4][]]}' "$work/lines" >"$work/sets.jsonl"
    jq -Rc 'split(" ") | {prompt: .[0], chosen: " \(.[1:4] | join(" "))", rejected: " \(.[4:] | join(" "))"}' \
        "$work/lines" >"$work/answers.jsonl"
    jq -Rc 'split(" ") | {a: (.[:3] | join(" ")), b: (.[3:] | join(" "))}' "$work/lines" >"$work/pairs.jsonl"
    jq -c '. + {label: ((.b | length) % 5 / 4)}' "$work/pairs.jsonl" >"$work/alike.jsonl"
    for name in texts.jsonl sets.jsonl answers.jsonl pairs.jsonl alike.jsonl; do
        head -n 90 "$work/$name" >"$work/data/$name" && tail -n 10 "$work/$name" >"$work/data/held-$name"
    done
    awk -v RS= -v ORS='\n\n' 'NR <= 90' "$work/words.conll" >"$work/data/words.conll"
    awk -v RS= -v ORS='\n\n' 'NR > 90' "$work/words.conll" >"$work/data/held-words.conll"
}
add_smollm2() { cp --reflink=auto "$("$top/tests/golden/fetch.sh" smollm2)" "$work/data/smollm2.gguf"; }

# llama.cpp in a python, which is $theirs: PYTHON, or what comes from llamacpp.txt, once a machine.
need_llamacpp() { # an environment that is there is whole
    local requirements=$top/tests/prove/llamacpp.txt venv
    venv=${LLMJOB_CACHE:-$HOME/.cache/llmjob}/venv-llamacpp-$(sha256sum <"$requirements" | cut -c 1-12)
    theirs=${PYTHON:-$venv/bin/python}
    [ ! -x "$theirs" ] || return 0
    (
        flock 9
        [ ! -x "$theirs" ] || exit 0
        rm -rf "$venv.new"
        python3 -m venv "$venv.new"
        "$venv.new/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$requirements"
        mv "$venv.new" "$venv"
    ) 9>"$venv.lock"
}
# A python, which is $theirs, with what NAME.txt names beside what the golden files are made with, once a machine; or PYTHON.
need_beside() { # name
    local cache=${LLMJOB_CACHE:-$HOME/.cache/llmjob} requirements=$top/tests/golden/requirements.txt beside=$top/tests/prove/$1.txt golden venv
    hash_of() { sha256sum <"$1" | cut -c 1-12; }
    golden=$cache/venv-golden-$(hash_of "$requirements") venv=$cache/venv-$1-$(hash_of "$requirements")-$(hash_of "$beside")
    theirs=${PYTHON:-$venv/bin/python}
    [ ! -x "$theirs" ] || return 0
    new_python "$golden" "" "$requirements"
    new_python "$venv" --no-deps "$beside"
    "$golden/bin/python" -c 'import site; print(site.getsitepackages()[0])' \
        >"$("$theirs" -c 'import site; print(site.getsitepackages()[0])')/golden.pth"
}
new_python() { # folder flags requirements: an environment that is there is whole
    [ ! -x "$1/bin/python" ] || return 0
    (
        flock 9
        [ ! -x "$1/bin/python" ] || exit 0
        rm -rf "$1.new"
        python3 -m venv "$1.new"
        "$1.new/bin/python" -m pip install --quiet --disable-pip-version-check $2 --require-hashes -r "$3"
        mv "$1.new" "$1"
    ) 9>"$1.lock"
}
convert_model() { # source output task: of models in $work/data
    cat >"$work/job.yaml" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: prove}
	spec:
	  storage: [{name: data, claimName: data, mountPath: /data}]
	  model: {source: /data/$1}
	  convert: {output: /data/$2, $3}
	E
    start "$A" "data=$work/data"
    ended || { explain "converting to $2"; fail; return 1; }
}

# ---- jobs ----------------------------------------------------------------------------------------
# A job from words key=value: what is not said has the value here; empty values are left out.
write_training() { # file [key=value...]
    local -A o=([model]=llama [init]=Pretrained [precision]=FP32 [method]=Full [dropout]=0 [replicas]=1 [ranks]=1
        [targets]=q_proj,v_proj [data]=text.txt [length]=16 [batch]=4 [steps]=50 [save]=25 [evaluate]=10
        [recompute]=None [schedule]=Cosine [rate]=0.001 [seed]=7 [clip]=1 [objective]=CausalLM [held]= [pair]=InBatchNegatives)
    local word
    for word in "${@:2}"; do
        [ -n "${o[${word%%=*}]+known}" ] || { echo "unknown: $word" >&2; return 1; }
        o[${word%%=*}]=${word#*=}
    done
    cat >"$1" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: prove}
	spec:
	  replicas: ${o[replicas]}
	  device: {perReplica: ${o[ranks]}}
	  storage:
	  - {name: data, claimName: data, mountPath: /data, readOnly: true}
	  - {name: run, claimName: run, mountPath: /run-data}
	  model: {source: /data/${o[model]}, init: ${o[init]}}
	  precision: ${o[precision]}
	  checkpoint: {path: /run-data/ckpt, everySteps: ${o[save]}, everySeconds: 0}
	  train:
	    objective: ${o[objective]}
	    method: ${o[method]}
	    data: {train: /data/${o[data]}${o[held]:+, validation: /data/${o[held]}, test: /data/${o[held]}}}
	    sequenceLength: ${o[length]}
	    batchSequences: ${o[batch]}
	    steps: ${o[steps]}
	    seed: ${o[seed]}
	    recompute: ${o[recompute]}
	    evaluateEverySteps: ${o[evaluate]}
	    optimizer: {learningRate: ${o[rate]}, schedule: ${o[schedule]}, warmupSteps: 5, clipNorm: ${o[clip]}}
	    tensorboard: /run-data/board
	    output: /run-data/out
	E
    [ "${o[method]}" != LoRA ] ||
        echo "    lora: {rank: 4, alpha: 8, dropout: ${o[dropout]}, targets: [${o[targets]}]}" >>"$1"
    [ "${o[objective]}" != PairMatching ] || echo "    pair: {loss: ${o[pair]}}" >>"$1"
}
write_serving() { # file model precision
    cat >"$1" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: prove}
	spec:
	  storage:
	  - {name: data, claimName: data, mountPath: /data, readOnly: true}
	  model: {source: /data/$2}
	  precision: $3
	  serve: {modelName: m}
	E
}

explain() { # what: the end of what the last run wrote
    echo "FAILED   $1"
    tail -n 40 "$work/log" "$work"/tmp/llmjob-*/agent-*.log 2>/dev/null | sed 's/^/  | /' || true # there may be no agents' logs
}
start() { # build storage [flags...]: the job $work/job.yaml
    rm -rf "$work"/tmp/* "$work/peaks" "$work/pids"
    PROVE_RANK=$1/llmjob-rank TMPDIR=$work/tmp timeout -k 20 "${PROVE_SECONDS:-14400}" "$1/llmjob" run "$work/job.yaml" \
        --storage "$2" --plain "${@:3}" >"$work/log" 2>&1 &
    running=$!
}
# The job's exit status. What it made stays in $work/run.
ended() {
    local status=0
    wait "$running" || status=$?
    running=""
    return $status
}
serving() { # url of what was started, once it takes requests
    local i
    for ((i = 0; i < 600; i++)); do
        sed -n 's|.* serving at \(http://[^ ]*/v1\)$|\1|p' "$work/log" | grep . && return
        kill -0 "$running" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}
free_port() { "$python" -IS -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# Resident MiB of a process and all below it.
resident() { # pid
    local pid all="" next=$1
    while [ -n "$next" ]; do
        all+=" $next"
        next=$(for pid in $next; do cat /proc/"$pid"/task/*/children 2>/dev/null || true; done)
    done
    for pid in $all; do sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$pid/status"; done | awk '{ s += $1 } END { printf "%.0f\n", s / 1024 }'
}
