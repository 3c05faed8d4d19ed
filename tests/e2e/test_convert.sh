#!/bin/bash
# Goal: manifests/samples/convert.yaml keeps its word on a real model: a Hugging Face folder becomes a GGUF file in 4 to 6 bits
# and in 8, the table says what that costs, and it is little; one without rounding answers as the folder does. Method: `llmjob
# run` with SmolLM2-135M and the King James text, few windows of it; the folder is made by a conversion, too. What is served
# is asked for the likeliest text. MiniLM becomes files, too, which embed a text as its folder does.
. "$(dirname "$0")/lib.sh"
alone
data=$work/data

prepare() {
	own_programs
	need_material
	head -c 100000 "$data/kjv.txt" >"$work/part" && mv "$work/part" "$data/kjv.txt"
	write_job dense models/SmolLM2-135M-Instruct.Q4_1.gguf \
		'convert: {format: HuggingFace, quantize: BF16, output: /data/out/kjv}'
	write_job exact out/kjv 'convert: {format: GGUF, output: /data/out/exact}'
	write_job measured out/kjv-q8/model.gguf \
		'evaluate: {data: /data/kjv.txt, sequenceLength: 64, samples: 4, output: /data/out/measured}' \
		$'precision: FP32\n  replicas: 2'
	sed -E 's/^( *sequenceLength:).*/\1 64/; s/^( *sequences:).*/\1 4/' manifests/samples/convert.yaml >"$work/kjv-q4.yaml"
	sed -E 's/kjv-q4/kjv-q8/; s/Q4_K_M/Q8_0/' "$work/kjv-q4.yaml" >"$work/kjv-q8.yaml"
	for model in kjv exact/model.gguf; do
		write_job "serve-${model%%/*}" "out/$model" 'serve: {modelName: m, contextLength: 128}'
	done
	cp -r --reflink=auto "$(tests/golden/fetch.sh minilm)" "$data/minilm"
	write_job bert-f32 minilm 'convert: {format: GGUF, quantize: F32, output: /data/out/f32}'
	write_job bert-q8 minilm 'convert: {format: GGUF, quantize: Q8_0, output: /data/out/q8}'
	write_job embed-folder minilm 'serve: {modelName: m}' 'precision: FP32'
	write_job embed-f32 out/f32/model.gguf 'serve: {modelName: m}' 'precision: FP32'
	write_job embed-q8 out/q8/model.gguf 'serve: {modelName: m}' 'precision: FP32'
}
write_job() { # name source task [more]
	cat >"$work/$1.yaml" <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: $1}
		spec:
		  storage: [{name: data, claimName: llmjob-data, mountPath: /data}]
		  model: {source: /data/$2}
		  $3
		  ${4:-}
	E
}
llmjob() { # name [flags...]
	env "TMPDIR=$work" timeout 600 "$work/bin/llmjob" run "$work/$1.yaml" --storage "data=$data" --plain "${@:2}"
}
runs() { llmjob "$1" >"$out" 2>&1; }
# What the model goes on with, at temperature 0.
answer() { # name
	ask "$1" completions '{"model": "m", "prompt": "In the beginning God", "max_tokens": 32, "temperature": 0}' | jq -r '.choices[0].text'
}
embedding() { ask "$1" embeddings '{"model": "m", "input": "In the beginning God created the heaven and the earth."}' | jq -c '.data[0].embedding'; }
ask() { # name path request
	begin "$out" llmjob "$1" --port 0
	poll 60 "an address" serving "$out" >&2
	curl -sS --fail-with-body --max-time 60 "$(serving "$out")/v1/$2" -H 'content-type: application/json' -d "$3"
	kill -TERM $(pgrep -P $run) 2>/dev/null || true
	wait $run || true
}
figure() { jq "$2" "$data/out/$1/report.json"; }
more() { jq -n "$(figure "$1" .output.perplexity) / $(figure "$1" .source.perplexity) - 1"; }

prepare
check "a GGUF file becomes a folder" runs dense
check "it is what transformers reads" jq -e '.architectures == ["LlamaForCausalLM"] and .torch_dtype == "bfloat16"' \
	"$data/out/kjv/config.json"
check "the sample makes a file in 4 to 6 bits of it" runs kjv-q4
sed -n '/perplexity/,$p' "$out"
check "its table is told" grep -qE '^output +[0-9.]+ +[0-9.]+ +[0-9.]+$' "$out"
check "perplexity grows by 4 % at most" jq -en "$(more kjv-q4) < 0.04"
check "less than half of the bytes" jq -en "$(figure kjv-q4 .output.bytes) < $(figure kjv-q4 .source.bytes) * 0.45"
check "another in 8 bits" runs kjv-q8
sed -n '/perplexity/,$p' "$out"
check "perplexity grows by 0.5 % at most" jq -en "$(more kjv-q8) < 0.005"
check "half of the bytes" jq -en "$(figure kjv-q8 .output.bytes) < $(figure kjv-q8 .source.bytes) * 0.54"
check "an evaluation of it by two replicas" runs measured
check "gives the same perplexity" equal "$(figure measured .perplexity)" "$(figure kjv-q8 .output.perplexity)"
check "one as it is" runs exact
folder=$(answer serve-kjv) file=$(answer serve-exact)
echo "answers:$file"
check "folder and file give the same text" equal "$file" "$folder"
check "which is one" test ${#file} -gt 20
check "MiniLM becomes a file" runs bert-f32
check "and one in 8 bits" runs bert-q8
minilm=$(embedding embed-folder) file=$(embedding embed-f32) blocks=$(embedding embed-q8)
cosine() { jq -n "[$1, $2] | transpose | map(.[0] * .[1]) | add"; }
check "file and folder embed a text alike" jq -en "[$minilm, $file] | transpose | all(.[0] - .[1] | fabs < 1e-6)"
echo "cosine in 8 bits: $(cosine "$minilm" "$blocks")"
check "blocks of 8 bits nearly so" jq -en "$(cosine "$minilm" "$blocks") | . > 0.999 and . < 1.001"
check "nothing is left beside the outputs" equal "$(find "$data/out" -mindepth 1 -maxdepth 1 | wc -l)" 7
finish
