#!/bin/bash
# llamacpp.sh: does llama.cpp read our GGUF files as we do? SmolLM2-135M becomes a Hugging Face folder, and that a file in F32, in
# Q8_0 and in Q4_K_M; both programs go on with the same prompts at temperature 0. Texts are the same in F32, to the last
# letter; with blocks, where llama.cpp rounds what they are multiplied by to 8 bits, their first words are. A python with
# llama.cpp comes from tests/prove/llamacpp.txt, once a machine, or is PYTHON. Minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
requirements=$top/tests/prove/llamacpp.txt
theirs=${PYTHON:-${LLMJOB_CACHE:-$HOME/.cache/llmjob}/venv-llamacpp-$(sha256sum <"$requirements" | cut -c 1-12)/bin/python}
prompts=('In the beginning God' 'The capital of France is' $'<|im_start|>user\nWho made the heaven?<|im_end|>\n<|im_start|>assistant\n')

need_python() { # an environment that is there is whole
    local venv=${theirs%/bin/python}
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
convert() { # source output task
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
ours() { # model: a line a prompt, as JSON
    local url prompt
    write_serving "$work/job.yaml" "$1" FP32
    start "$A" "data=$work/data" --port 0
    url=$(serving)
    for prompt in "${prompts[@]}"; do
        curl -sS --fail-with-body --max-time 300 "$url/completions" -H 'content-type: application/json' \
            -d "$(jq -n --arg p "$prompt" '{model: "m", prompt: $p, max_tokens: 24, temperature: 0}')" | jq -c '.choices[0].text'
    done
    kill "$running"
    ended || true
}
compare() { # what ours theirs characters
    local i a b
    for i in "${!prompts[@]}"; do
        a=$(sed -n "$((i + 1))p" "$2" | jq -r .) b=$(sed -n "$((i + 1))p" "$3" | jq -r .)
        if [ -n "$a" ] && [ "${a:0:$4}" = "${b:0:$4}" ]; then pass; else
            printf 'FAILED: %s, prompt %d\n  ours:   %s\n  theirs: %s\n' "$1" "$i" "$a" "$b"
            fail
        fi
    done
}

begin
need_python
add_smollm2
convert smollm2.gguf folder 'format: HuggingFace, quantize: BF16'
for quantize in F32:1000 Q8_0:12 Q4_K_M:12; do
    name=${quantize%:*}
    convert folder "$name" "quantize: $name" || continue
    ours "$name/model.gguf" >"$work/ours"
    for prompt in "${prompts[@]}"; do jq -n --arg p "$prompt" '$p' -c; done |
        "$theirs" "$top/tests/prove/llamacpp.py" "$work/data/$name/model.gguf" >"$work/theirs" 2>"$work/log"
    compare "$name" "$work/ours" "$work/theirs" "${quantize#*:}"
done
finished=1
