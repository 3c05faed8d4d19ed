#!/bin/bash
# crowd.sh [overload [SECONDS] | disconnects [COUNT [SEED]]]: a served model and more clients than it can answer, or than stay (crowd.py).
#
# overload: SmolLM2, four answers at once and sixteen in flight. At ten times what it can do the accepted have their first token within 1.5
# times of what it takes at capacity, the others are refused within 50 ms, memory stays, and one client of another API key is not held up. The
# machine should do nothing else. disconnects: a tiny model; of 10,000 clients who go away in every phase nothing is left: no descriptor,
# no memory, no place of the queue, no sequence and no page of the rank.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"

serve() { # model precision [more of spec.serve]
    write_serving "$work/job.yaml" "$1" "$2"
    sed -i 's/serve: {modelName: m}/serve: {modelName: m, maxSequences: 4, maxQueue: 16, '"${3-}"'apiKeySecret: keys}/' "$work/job.yaml"
    printf 'crowd\nother\n' >"$work/keys"
    start "$A" "data=$work/data" --rank-program "$work/rank" --keep --port 0 --api-key-file "$work/keys"
    url=$(serving)
    rank=$(cat "$work/pids")
    agent=$(awk '{ print $4 }' "/proc/$(awk '{ print $4 }' "/proc/$rank/stat")/stat")
}
crowd() { if "$python" "$top/tests/prove/crowd.py" "$@"; then pass; else explain "$1"; fail; fi; }
ends() { # the rank's last words
    kill "$running"
    ended || true
    grep -hs 'served steps=' "$work"/tmp/llmjob-*/agent-*.log | tail -n 1 || true
}

overload() {
    serve smollm2.gguf BF16 'contextLength: 256, ' # FILLS of crowd.py
    crowd overload "$url" "$agent" "$rank" 16 "${1:-30}"
    ends
}
disconnects() {
    local pages left
    serve llama FP32
    crowd disconnects "$url" "$agent" "$rank" "${1:-10000}" "${2:-1}"
    ends >"$work/said"
    cat "$work/said"
    pages=$(sed -n 's/.* pages=\([0-9]*\) .*/\1/p' "$work/said") left=$(sed -n 's/.* pages_left=\([0-9]*\).*/\1/p' "$work/said")
    if [ -n "$pages" ] && [ "$pages" = "$left" ]; then pass; else explain "of ${pages:-?} pages ${left:-?} are left"; fail; fi
}

begin
add_texts
add_tiny
add_smollm2
case ${1:-both} in
both) overload && disconnects ;;
overload | disconnects) "$@" ;;
*) echo "$0: overload or disconnects" && exit 2 ;;
esac
finished=1
