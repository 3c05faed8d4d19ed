#!/bin/bash
# encoders.sh [ROUNDS]: what MiniLM embeds in a second, by servers of ours in FP32 and BF16, by sentence-transformers, and by ONNX
# Runtime in F32 and int8, two threads each, in turns; and how far the vectors are from each other (encoders.py). A python with
# torch and transformers comes from tests/golden/requirements.txt, with the others beside it from encoders.txt, once a machine; or
# PYTHON has them; the model is exported once a machine. The machine should do nothing else. A minute on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
need_beside encoders
begin
model=$("$top/tests/golden/fetch.sh" minilm)
exported=${LLMJOB_CACHE:-$HOME/.cache/llmjob}/onnx-minilm-$(sha256sum <"$top/tests/prove/encoders.txt" | cut -c 1-12)
cp -r --reflink=auto "$model" "$work/data/minilm"
servers=() pids=""
for precision in FP32 BF16; do
    write_serving "$work/job.yaml" minilm $precision
    mkdir "$work/tmp/$precision"
    TMPDIR=$work/tmp/$precision "$A/llmjob" run "$work/job.yaml" --storage "data=$work/data" --plain --port 0 >"$work/log" 2>&1 &
    running=$!
    servers+=("$precision=$(serving)")
    pids+=" $running"
done
running=$pids
if "$theirs" "$top/tests/prove/encoders.py" "${1:-9}" "$model" "$exported" "${servers[@]}"; then pass; else fail; fi
finished=1
