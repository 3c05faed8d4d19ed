#!/bin/bash
# Goal: the four programs still do their work together, seen within seconds: a job file is checked, two ranks train, what
# they wrote is served. Method: `llmjob run` of tests/golden's tiny Llama with a token for each byte, from a folder of its
# own, behind manifests/samples/run.yaml; the ranks' sample logs are audited by samples.awk; then once more by manifests/samples/zero.yaml, whose ranks
# divide the optimizer's state, sharded.yaml and long-context.yaml, whose ranks share one model, or its sequences, to the same loss;
# by experts.yaml, whose ranks share the experts that its first lines describe; and by communication.yaml, whose ranks take local
# steps; evaluate-sharded.yaml, by four ranks that share the model and by one, finds the same loss, and serve-sharded.yaml says by four
# what one says; serve-adapters.yaml, of two adapters that are trained here, says with each what its merged model says, and
# serve-ensemble.yaml the mean of what the three say;
# serve-speculation.yaml says what the model says by itself, by tokens of which some were guessed, and so with a draft; embeddings.yaml
# and classify.yaml serve the tiny BERTs, and recommend.yaml one of them with four items, whose order by year and genres is worked out here. test_standalone.sh and test_openai.sh tell the whole stories.
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
steps=20 batch=4 merged=()

write_job() { # name replicas model: the task's lines on standard input
	cat <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: $1}
		spec:
		  replicas: $2
		  storage: [{name: data, claimName: data, mountPath: /data}]
		  model: {source: /data/$3}
	E
	cat
}
prepare() {
	mkdir -p "$work/bin" "$work/model"
	cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
	cp tests/golden/tiny-llama/*.* "$work/model/"
	cp -r tests/golden/tiny-bert-masked "$work/embeddings"
	cp -r tests/golden/tiny-bert-texts "$work/classify"
	byte_tokenizer >"$work/model/tokenizer.json"
	printf 'and there was evening, and there was morning\n%.0s' {1..400} >"$work/text.txt"
	write_job tiny 2 model >"$work/train.yaml" <<-E
		  precision: FP32
		  checkpoint: {path: /data/ckpt}
		  train:
		    data: {train: /data/text.txt}
		    sequenceLength: 16
		    batchSequences: $batch
		    steps: $steps
		    optimizer: {learningRate: 0.01}
		    output: /data/out
	E
	local sample
	sed -nE 's/^# +//; /^\{"architectures"/,/\}$/p' manifests/samples/experts.yaml |
		jq '.vocab_size = 256 | .num_hidden_layers = 2' >"$work/mixture.json"
	for sample in zero sharded long-context experts communication evaluate-sharded; do
		sed -E "s|/data/models/.*|/data/model|; s|/data/kjv.txt|/data/text.txt|; s/^( *precision:).*/\1 FP32/
			s/^( *sequenceLength:).*/\1 16/; s/^( *batchSequences:).*/\1 $batch/; s/^( *steps:).*/\1 $steps/
			s/^( *learningRate:).*/\1 0.01/; s/^( *warmupSteps:).*/\1 0/; s/^( *everySteps:).*/\1 0/; s/^( *virtualStages:).*/\1 1/" \
			manifests/samples/$sample.yaml >"$work/$sample.yaml"
	done
	sed -E 's/^( *(replicas|perReplica|tensor|pipeline):).*/\1 1/; s|out/perplexity|out/alone|' \
		"$work/evaluate-sharded.yaml" >"$work/evaluate-alone.yaml"
	write_job chat 1 out >"$work/serve.yaml" <<-E
		  precision: FP32
		  serve: {modelName: tiny}
	E
	local name
	for name in kjv dictionary; do # of unlike matrices and ranks
		write_job $name 1 model >"$work/train-$name.yaml" <<-E
			  precision: FP32
			  checkpoint: {path: /data/ckpt/$name}
			  train:
			    method: LoRA
			    lora: $([ $name = kjv ] && echo '{rank: 4, targets: [q_proj, v_proj]}' || echo '{rank: 6, targets: [all-linear]}')
			    data: {train: /data/text.txt}
			    sequenceLength: 16
			    batchSequences: $batch
			    steps: $steps
			    optimizer: {learningRate: 0.05}
			    output: /data/out/$name
		E
		write_job merged 1 out/$name >"$work/serve-$name.yaml" <<-E
			  precision: FP32
			  serve: {modelName: $name}
		E
	done
	sed -E 's|/data/models/.*|/data/model|; s/^( *contextLength:).*/\1 128/; s/^( *)(serve:.*)/\1precision: FP32\n\1\2/' \
		manifests/samples/serve-adapters.yaml >"$work/serve-adapters.yaml"
	sed -E 's|/data/models/.*|/data/out|; s/^( *modelName:).*/\1 tiny/; s/^( *contextLength:).*/\1 128/
		s/^( *)(replicas:.*)/\1\2\n\1precision: FP32/' manifests/samples/serve-speculation.yaml >"$work/serve-speculation.yaml"
	sed -E 's|/data/models/.*|/data/model|; s/^( *contextLength:).*/\1 128/; s/^( *)(serve:.*)/\1precision: FP32\n\1\2/' \
		manifests/samples/serve-ensemble.yaml >"$work/serve-ensemble.yaml"
	sed -E 's|^( *)method: NGram|\1method: Draft\n\1model: {source: /data/out}|; s/smol-ahead/smol-draft/' "$work/serve-speculation.yaml" >"$work/serve-draft.yaml"
	sed -E 's/^( *)storage:.*/\1device: {perReplica: 3}\n&/; s/^( *)allowMissing:.*/&\n\1ranks: 3/' \
		"$work/serve-ensemble.yaml" >"$work/serve-members.yaml"
	for sample in embeddings classify; do
		sed -E "s|^( *source:).*|\1 /data/$sample|; s/^( *modelName:).*/\1 tiny/" manifests/samples/$sample.yaml >"$work/$sample.yaml"
	done
	sed -E 's/^( *)replicas:.*/&\n\1device: {perReplica: 2}/; s/^( *)maxQueue:.*/\1ensemble: {members: [{name: a}, {name: b}], ranks: 2}/' \
		"$work/classify.yaml" >"$work/classify-members.yaml"
	sed -E 's|^( *source:).*|\1 /data/embeddings|; s/^( *modelName:).*/\1 tiny/; s|^( *items:).*|\1 /data/items.jsonl|' \
		manifests/samples/recommend.yaml >"$work/recommend.yaml"
	cat >"$work/items.jsonl" <<-E
		{"id": "a", "text": "anna", "year": 1980, "genres": ["x"], "liked": 3}
		{"id": "b", "text": "berlin", "year": 2000, "genres": ["x", "y"], "liked": 0}
		{"id": "c", "text": "the", "year": 1985, "genres": ["y"], "liked": 1}
		{"id": 4, "text": "in", "year": 1990, "genres": "x"}
	E
	sed -E 's|/data/models/.*|/data/out|; s/^( *modelName:).*/\1 tiny/; s/^( *contextLength:).*/\1 128/
		s/^( *)(replicas:.*)/\1\2\n\1device: {perReplica: 2}\n\1precision: FP32/; s/^( *)(tensor:.*)/\1\2\n\1pipeline: 2/' \
		manifests/samples/serve-sharded.yaml >"$work/serve-sharded.yaml"
}
running() {
	{ find /proc -maxdepth 2 -name exe -lname "$work/bin/*" 2>/dev/null || true; } | cut -d/ -f3
}
none_running() { [ -z "$(running)" ]; }
explain() { tail -n 40 "$work/said" "$work"/llmjob-*/agent-*.log 2>/dev/null; }
clean_up() {
	local pids
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
llmjob=(env "TMPDIR=$work" "$work/bin/llmjob")
of_manifest() { jq -r ".$1" "$work/${2:-ckpt}/step-$(printf %08d $steps)/manifest.json"; }
shared() { # sample text...: what rank 0 says of its world and plan; it may be over before the screen tells its layout
	local name text status=0
	name=$(awk 'match($0, /name: [-a-z0-9]+/) { print substr($0, RSTART + 6, RLENGTH - 6); exit }' "$work/$1.yaml")
	timeout 120 "${llmjob[@]}" run "$work/$1.yaml" --storage "data=$work" --plain --keep || status=1
	for text in "${@:2}"; do
		cat "$work/llmjob-$name"-*/agent-0.log | grep -F -- "$text" || { echo "lacks $text" && status=1; }
	done
	rm -rf "$work/llmjob-$name"-*
	return $status
}
fell() { jq -en "$(of_manifest validationLoss "$1") < $(of_manifest firstValidationLoss "$1") - 0.1"; }
near() { jq -en "($(of_manifest loss) / $(of_manifest loss "$1") - 1 | fabs) < $2"; }
same_report() {
	jq -es '.[0] as $a | .[1] as $b | ($a.loss / $b.loss - 1 | fabs) < 1e-5 and $a.tokens == $b.tokens' \
		"$work"/out/{perplexity,alone}/report.json
}
said() { # [model]
	curl -sS --fail-with-body --max-time 60 "$(serving "$work/said")/v1/completions" -H 'content-type: application/json' \
		-d "{\"model\": \"${1:-tiny}\", \"prompt\": \"and there was \", \"max_tokens\": ${2:-8}, \"temperature\": 0}" |
		jq -ce '[.choices[0].text, .usage]'
}
weighed() { # model: the logprobs of a text's bytes
	curl -sS --fail-with-body --max-time 60 "$(serving "$work/said")/v1/completions" -H 'content-type: application/json' -d \
		"{\"model\": \"$1\", \"prompt\": \"and there was evening\", \"max_tokens\": 0, \"echo\": true, \"logprobs\": 0}"
}
of() { weighed smol | jq -e ".llmjob == {members: $1, of: 3}"; }
is_mean() { # file: of one answer as three, then of each
	jq -es 'map(.choices[0].logprobs.token_logprobs[1:] | map(exp)) as [$all, $a, $b, $c] | .[0].llmjob == {members: 3, of: 3} and
		([range($all | length) | $all[.] - ($a[.] + $b[.] + $c[.]) / 3 | fabs] | length == 20 and max < 1e-5) and
		([range($all | length) | $a[.] - $b[.] | fabs] | max > 1e-2)' "$1"
}
names() { curl -sS --max-time 60 "$(serving "$work/said")/v1/models" | jq -r '[.data[].id] | join(" ")'; }
reads() { # path filter
	curl -sS --fail-with-body --max-time 60 "$(serving "$work/said")/v1/$1" -H 'content-type: application/json' \
		-d '{"model": "tiny", "input": ["the", "anna in berlin"]}' | jq -e "$2"
}
came_true() { grep -qE 'right_tokens=[1-9]' "$work/llmjob-$1"-*/agent-0.log; }
recommends() { # request: the ids, in order
	curl -sS --fail-with-body --max-time 60 "$(serving "$work/said")/v1/recommend" -H 'content-type: application/json' \
		-d "{\"model\": \"tiny\", $1}" | jq -r '[.results[] | select((.parts | add) - .score | fabs < 1e-5) | .id] | join(" ")'
}
answer() { said | jq -e '.[1].completion_tokens == 8'; }
served() { # job
	begin "$work/said" "${llmjob[@]}" run "$work/$1.yaml" --storage "data=$work" --plain --port 0
	poll 60 "an address" serving "$work/said"
}
stop() {
	status=0
	kill -TERM $run
	timeout 60 tail --pid=$run -f /dev/null || kill -9 $run
	wait $run || status=$?
}

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
prepare
"${llmjob[@]}" run manifests/samples/run.yaml >"$work/said" || true
check "any program runs on a gang, and what it prints is shown" equal "$(grep -oE '^\[[01]\] rank [01] of 2, local 0, .* says hello$' "$work/said" |
	sort | sed 's/, master.*:[0-9]*//')" $'[0] rank 0 of 2, local 0, says hello\n[1] rank 1 of 2, local 0, says hello'
check "the job is right" "${llmjob[@]}" validate "$work/train.yaml"
check "two ranks train it to its end" timeout 120 "${llmjob[@]}" run "$work/train.yaml" \
	--storage "data=$work" --plain
check "every sample of every step was consumed once" \
	awk -v batch=$batch -v steps=$steps -f tests/e2e/samples.awk "$work"/ckpt/samples/*.log
check "the loss fell" fell ckpt
check "two ranks that divide the optimizer's state train it" shared zero ranks=2 'data=2 tensor=1' zeroStage=1
check "to the same loss" near ckpt/kjv-full 1e-6
check "four ranks that share it train it" shared sharded ranks=4 'data=1 tensor=2 pipeline=2'
check "to the same loss" near ckpt/kjv-sharded 1e-5
check "two ranks that share a mixture's experts train it" shared experts ranks=2 'data=1 tensor=1' expert=2
check "its loss fell" fell ckpt/kjv-experts
check "four ranks that share its sequences train it" shared long-context ranks=4 context=4 zeroStage=1
check "to the same loss" near ckpt/kjv-long 1e-5
check "two ranks that seldom talk train it" shared communication ranks=2 'data=2 tensor=1'
check "the loss fell there, too" fell ckpt/kjv-far
check "four ranks that share a model evaluate it" shared evaluate-sharded ranks=4
check "one rank does" shared evaluate-alone ranks=1
check "and says the same" same_report
served serve
check "what they wrote is served" serving "$work/said"
check "and answers" answer
alone=$(said)
one_by_one=$(said tiny 90)
stop
check "it ends, drained" equal $status 71
served serve-sharded
check "four ranks that share it serve it" serving "$work/said"
check "and say the same" equal "$(said)" "$alone"
stop
check "they end, drained" equal $status 71
for name in kjv dictionary; do
	check "an adapter is trained" timeout 120 "${llmjob[@]}" run "$work/train-$name.yaml" --storage "data=$work" --plain
	served serve-$name
	merged[${#merged[@]}]=$(said $name)
	stop
done
served serve-adapters
check "both are served beside the model" serving "$work/said"
check "under their names" equal "$(names)" "smol kjv dictionary"
check "and say what their merged models say" equal "$(said kjv) $(said dictionary)" "${merged[*]}"
check "which the model does not" [ "$(said smol)" != "${merged[0]}" -a "${merged[0]}" != "${merged[1]}" ]
for name in smol kjv dictionary; do
	weighed $name
done >"$work/each"
stop
served serve-ensemble
check "all three are served as one" serving "$work/said"
{ weighed smol; cat "$work/each"; } >"$work/weighed"
check "which says the mean of what each says" is_mean "$work/weighed"
stop
served serve-members
{ weighed smol; cat "$work/each"; } >"$work/weighed"
check "and so do three ranks that have a member each" is_mean "$work/weighed"
stop
check "they end, drained" equal $status 71
rm -r "$work/out/dictionary/adapter"
served serve-members
check "and without one of them" of 2
stop
for name in speculation draft; do
	served serve-$name
	check "$name: what is guessed changes nothing" equal "$(said tiny 90)" "$one_by_one"
	stop
done
check "but comes true, of what stands before" came_true smol-ahead
check "and of a draft" came_true smol-draft
served embeddings
check "a model embeds texts" reads embeddings '[.data[].embedding | map(. * .) | add - 1 | fabs < 1e-5] == [true, true]'
stop
served classify
check "another labels them" reads classify '[.data[].probs | add - 1 | fabs < 1e-5] == [true, true]'
stop
served classify-members
check "and two ranks with one each of it and itself once more" reads classify \
	'.llmjob == {members: 2, of: 2} and ([.data[].probs | add - 1 | fabs < 1e-5] == [true, true])'
stop
served recommend
alike='"weights": {"text": 0, "liked": 0, "genres": 1, "year": 1}'
check "items are recommended by what they share with a history" equal "$(recommends "\"history\": [\"a\"], $alike")" "4 c b" # 1 + 0.5, 0 + 0.75, 0.5 + 0
check "whatever is liked, to who has none" equal "$(recommends '"history": [], "weights": {"text": 0}, "top_n": 2')" "a c"
check "and by their texts" equal "$(recommends '"history": [{"text": "berlin"}], "weights": {"liked": 0, "genres": 0, "year": 0}, "top_n": 1')" b
stop
check "it ends, drained" equal $status 71
check "nothing is left running" poll 60 "the end of all processes" none_running
finish
