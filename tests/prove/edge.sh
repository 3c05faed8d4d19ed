#!/bin/bash
# edge.sh: a model is served where there is little memory.
#
# Goal: SmolLM2-135M in blocks of four bits answers from 256 MiB, agent, rank, code and page cache together, also when more is asked at
# once than it has pages for; and where memory is too little, it says so with the figures, before it loads anything. Method: `llmjob run`
# in a memory cgroup of that size: Q4_0 with the usual cache, and manifests/samples/serve-small.yaml as it stands; sixteen clients with long
# prompts; the group's own count of what it had at most and of what was killed; then half of that memory. Needs root and a cgroup that
# can be made.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/group.sh"
limit=256

in_little() { # limit: a build whose llmjob runs in a group of so many MiB
    rm -rf "$work/little"
    mkdir "$work/little"
    make_group "$1" || { echo "SKIP: no memory cgroup can be made here" && skipped=1 finished=1 && exit 77; }
    printf '#!/bin/bash\necho $$ >"%s/cgroup.procs" && exec "%s/llmjob" "$@"\n' "$group" "$A" >"$work/little/llmjob"
    chmod +x "$work/little/llmjob"
    ln -s "$A/llmjob-agent" "$A/llmjob-rank" "$work/little"
}
serve() { start "$work/little" "data=$work/data" --keep --port 0; }
verdict() { # what-failed command...
    if "${@:2}"; then pass; else explain "$1" && fail; fi
}
ask() { # model clients requests tokens words
    "$python" -IS "$top/tests/prove/clients.py" "$url" "$@" | tee "$work/asked"
    grep -q ' 0 failed' "$work/asked"
}
said() { sed -n "s/.*$1=\([0-9]*\).*/\1/p" "$work"/tmp/llmjob-*/agent-*.log | tail -n 1; }
answers() { # model
    in_little $limit
    serve
    url=$(serving) || { explain "serving $1 in $limit MiB" && fail && exit 1; }
    verdict "two clients of $1" ask "$1" 2 1 16 8
    verdict "sixteen clients of $1" ask "$1" 16 1 16 300
    echo "$1: $(said 'keys and values tokens') tokens in the cache, resident $(resident "$running") MiB, the group $(group_peak) of $limit MiB at most"
    kill "$running" || true
    ended || true
    verdict "something was killed for memory" [ "$(killed)" = 0 ]
    remove_group
}
refuses() {
    in_little $((limit / 2))
    serve
    verdict "half of that serves" [ -z "$(serving)" ]
    ended || true
    grep -hs "this rank needs" "$work/log" "$work"/tmp/llmjob-*/agent-*.log | tail -n 1 >"$work/asked" || true
    cat "$work/asked"
    verdict "no figures" grep -qE "needs [0-9]+ MiB \(weights [0-9]+, cache [0-9]+, .*may use $((limit / 2)) MiB" "$work/asked"
    remove_group
}
clean_up() { remove_group; }

begin
add_smollm2
convert_model smollm2.gguf q4_0 'quantize: Q4_0'
write_serving "$work/job.yaml" q4_0/model.gguf BF16
sed -i 's/^spec:/&\n  restart: {maxRestarts: 0}/; s/serve: {/&contextLength: 2048, /' "$work/job.yaml"
answers m
refuses
mkdir -p "$work/data/models"
mv "$work/data/smollm2.gguf" "$work/data/models/SmolLM2-135M-Instruct.Q4_1.gguf"
cp "$top/manifests/samples/serve-small.yaml" "$work/job.yaml"
grep -q "memory: ${limit}Mi" "$work/job.yaml"
answers small
finished=1
