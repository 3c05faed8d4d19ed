#!/bin/bash
# llamacpp.sh: does llama.cpp read our GGUF files as we do? SmolLM2-135M becomes a Hugging Face folder, and that a file in F32, in
# Q8_0 and in Q4_K_M; both programs go on with the same prompts at temperature 0. Texts are the same in F32, to the last
# letter; with blocks, where llama.cpp rounds what they are multiplied by to 8 bits, their first words are. MiniLM becomes such
# files, too, and both embed texts: numbers are 0.001 apart in F32, whose GELU llama.cpp takes by tanh, and cosines 0.999 in Q8_0. A python with
# llama.cpp comes from tests/prove/llamacpp.txt, once a machine, or is PYTHON. Minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
texts=('The capital of France is Paris.' 'MÜNCHEN ist eine Stadt; naïve café' "unbelievably tokenised, isn't it?" '1234567890 + 3.14 = $5'
    'In the beginning God created the heaven and the earth. And the earth was without form, and void.')
prompts=('In the beginning God' 'The capital of France is' $'<|im_start|>user\nWho made the heaven?<|im_end|>\n<|im_start|>assistant\n')

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
embedded() { # model least: both programs' vectors of the texts
    local url
    write_serving "$work/job.yaml" "$1/model.gguf" FP32
    start "$A" "data=$work/data" --port 0
    url=$(serving)
    printf '%s\n' "${texts[@]}" | jq -R . | tee "$work/texts" | jq -cs '{model: "m", input: .}' |
        curl -sS --fail-with-body --max-time 60 "$url/embeddings" -H 'content-type: application/json' -d @- |
        jq -c '.data[].embedding' >"$work/ours"
    kill "$running"
    ended || true
    "$theirs" "$top/tests/prove/llamacpp.py" -e "$work/data/$1/model.gguf" <"$work/texts" >"$work/theirs" 2>"$work/log"
    if jq -cn --slurpfile a "$work/ours" --slurpfile b "$work/theirs" --argjson texts ${#texts[@]} --argjson least "$2" '
        [range($texts) as $i | [$a[$i], $b[$i]] | transpose |
            {far: (map(.[0] - .[1] | fabs) | max), cosine: (map(.[0] * .[1]) | add)}] |
        {far: (map(.far) | max), cosine: (map(.cosine) | min)} |
        ., if (.far < 0.001 and $least == 1) or ($least < 1 and .cosine > $least) then empty else error("apart") end'; then
        pass
    else
        echo "FAILED: embeddings of $1"
        fail
    fi
}

begin
need_llamacpp
add_smollm2
convert_model smollm2.gguf folder 'format: HuggingFace, quantize: BF16'
for quantize in F32:1000 Q8_0:12 Q4_K_M:12; do
    name=${quantize%:*}
    convert_model folder "$name" "quantize: $name" || continue
    ours "$name/model.gguf" >"$work/ours"
    for prompt in "${prompts[@]}"; do jq -n --arg p "$prompt" '$p' -c; done |
        "$theirs" "$top/tests/prove/llamacpp.py" "$work/data/$name/model.gguf" >"$work/theirs" 2>"$work/log"
    compare "$name" "$work/ours" "$work/theirs" "${quantize#*:}"
done
cp -r --reflink=auto "$("$top/tests/golden/fetch.sh" minilm)" "$work/data/minilm"
for quantize in F32:1 Q8_0:0.999; do
    name=minilm-${quantize%:*}
    convert_model minilm "$name" "format: GGUF, quantize: ${quantize%:*}" || continue
    embedded "$name" "${quantize#*:}"
done
finished=1
