#!/bin/bash
# board.sh: what a training writes for TensorBoard is what TensorBoard reads: its own reader's histograms of the last step's weights
# count what numpy counts in the model that was written, those of the gradient come to its norm at each step, and the texts are there,
# as the model says them in transformers. A minute.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
begin
python=$("$top/tests/golden/python")
add_texts
add_tiny
check() { # name shape
    write_training "$work/job.yaml" model="$1" length=32 steps=40 rate=0.003
    cat >>"$work/job.yaml" <<-E
	    histogramEverySteps: 10
	    generate: {everySteps: 20, prompts: ["In the beginning", "And God said"], tokens: 12}
	E
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run"
    ended || { explain "$1"; fail; return 0; }
    "$python" "$top/tests/prove/board.py" "$work/run/board" "$work/run/out" && pass || fail
}
for model in llama gpt2 qwen2; do check $model; done
finished=1
