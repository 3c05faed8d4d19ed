#!/bin/bash
# library.sh: what the support assistant finds in a larger and more varied folder: Debian's policy, two chapters of the Debian Reference and
# 600 entries of FOLDOC together (tests/e2e/material FOLDER library). Of the policy's questions, in which the other texts are in the way,
# and of what entries are under another of their names, recall by words alone, which is the baseline, by vectors alone and by both.
# A second start, whose embeddings were kept, embeds nothing. Five minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"

serve() {
    sed -E "s/^( *)readOnly: true/\1readOnly: false/; s|^( *)retrieval:|\1embeddingCache: /data/embeddings\n&|; s/^( *)contextLength:.*/\1contextLength: 1024/" \
        "$top/manifests/samples/support.yaml" >"$work/job.yaml"
    start "$A" "data=$work/data" --port 0
    until url=$(serving); do
        kill -0 "$running" 2>/dev/null || { explain "the server"; fail; exit 1; }
    done
    sed -n 's/.* documents are indexed .*/&/p' "$work"/tmp/llmjob-*/agent-*.log | tail -n 1 | tee "$work/indexed"
}
stop() {
    kill "$running"
    ended || true
}
# Recall of a file of questions, of which both rankings find at least as much among the first five as words alone.
finds() { # name
    "$python" -I "$top/tests/prove/support.py" recall "$url" "$work/data/$1.jsonl" | jq -c "{questions_of: \"$1\"} + ." | tee "$work/figures"
    if jq -es 'map({(.by): .["recall@5"]}) | add | .both >= .words' "$work/figures" >/dev/null; then pass; else echo "FAILED   $1: words alone find more"; fail; fi
}

begin
"$top/tests/e2e/material" "$work/data" library
serve
finds policy
finds foldoc
stop
serve
if grep -q ' embedded=0 ' "$work/indexed"; then pass; else echo "FAILED   a second start embeds"; fail; fi
stop
finished=1
