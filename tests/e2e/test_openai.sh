#!/bin/bash
# Goal: programs written for OpenAI's API work against a served model: the real `openai` client
# gets answers, streams, usage and its own error classes; a full queue, large requests, a client
# that goes away and a server that is told to go behave as such a program expects; tools are called
# where the template takes them; adapters beside the model answer by their names, all at once as
# each alone. So do programs written for Anthropic's. Method: `llmjob run` serves the real model from
# its GGUF file where an answer's end is its own or its time counts; all else is asked of five of its 30 layers
# (cut_model.py), whose words are noise, also as a folder with another template. openai_client.py and anthropic_client.py
# ask. Adapters have random factors. The API key, which a cluster takes from a Secret, is given to an
# agent that is started as a pod would start it.
. "$(dirname "$0")/lib.sh"
alone

write_job() { # file secret
	cat >"$1" <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: chat}
		spec:
		  storage:
		  - {name: data, claimName: data, mountPath: $work, readOnly: true}
		  model: {source: $model}
		  serve:
		    modelName: smol
		    contextLength: 1024
		    maxQueue: 3
		    drainSeconds: 60
		    ${2:+apiKeySecret: $2}
	E
}
write_adapters() { # file: the job of write_job, its queue as long as nobody says, with two
	local q=self_attn.q_proj:576:576 v=self_attn.v_proj:192:576 o=self_attn.o_proj:576:576 down=mlp.down_proj:576:1536
	"$python" tests/e2e/random_adapter.py "$work/loud" 1 8 0.1 $layers $q $v $down
	"$python" tests/e2e/random_adapter.py "$work/quiet" 2 3 0.2 $layers $v $o
	write_job "$1"
	sed -i '/maxQueue:/d' "$1"
	cat >>"$1" <<-E
		    adapters:
		    - {name: org/loud, path: $work/loud}
		    - {name: quiet, path: $work/quiet}
	E
}
write_conversion() { # file output
	cat >"$1" <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: folder}
		spec:
		  storage:
		  - {name: data, claimName: data, mountPath: $work}
		  model: {source: $model}
		  convert: {format: HuggingFace, quantize: BF16, output: $2}
	E
}
prepare() {
	python=$(PYTHON= tests/golden/python openai tests/e2e/requirements.txt)
	own_programs
	model=$work/cut.gguf layers=5
	whole=$work/$(basename "$(tests/golden/fetch.sh smollm2)")
	cp --reflink=auto "$(tests/golden/fetch.sh smollm2)" "$whole"
	python3 tests/e2e/cut_model.py "$whole" "$model" 0 1 2 28 29
}
explain() { tail -n 40 "$out" "$work"/*/agent-*.log "$work/agent.log" 2>/dev/null; }
client() { counted "$python" "tests/e2e/${program:-openai}_client.py" "$@"; }
answers() { curl -sf --max-time 10 "$1/health"; }

start() { # job flags...
	begin "$out" env TMPDIR="$work" "$work/bin/llmjob" run "$1" --plain --port 0 "${@:2}"
	check "the model is served" poll 60 "an address" serving "$out"
	url=$(serving "$out")
	agent=$(running llmjob-agent)
	metrics=http://$(control "$agent")/metrics
}
stop() {
	kill -TERM $run
	wait $run || true
	check "nothing is left running" poll 60 "the end of all processes" none_running
}

prepare
write_job "$work/job.yaml"
start "$work/job.yaml"
echo "-- requests and answers"
client api "$url"
echo "-- the same of Anthropic's client"
program=anthropic client api "$url" "$metrics"
stop

echo "-- answers with an end of their own"
model=$whole write_job "$work/whole.yaml"
start "$work/whole.yaml"
client ends "$url"
echo "-- a full queue"
client queue "$url" "$metrics" 3
echo "-- large requests"
rank=$(running llmjob-rank)
client large "$url" "$rank"
check "by the same rank" equal "$(running llmjob-rank)" "$rank"
echo "-- clients that go away"
client cancel "$url" "$metrics"
echo "-- SIGTERM to the agent, as kubelet sends it"
client drain "$url" "$metrics" "$agent"
check "the agent ends" poll 60 "its end" [ ! -e "/proc/$agent" ]
agent_again() { answers "$url" && [ "$(running llmjob-agent)" != "$agent" ]; }
check "the next one serves again" poll 60 "a new agent" agent_again
echo "-- SIGTERM to llmjob run"
client drain "$url" "http://$(control "$(running llmjob-agent)")/metrics" $run
status=0
timeout 120 tail --pid=$run -f /dev/null || kill -9 $run
wait $run || status=$?
check "it ends, drained" equal $status 71
check "nothing is left running" poll 60 "the end of all processes" none_running

echo "-- an API key"
write_job "$work/keyed.yaml" chat-key
check "a Secret's name alone is refused here" refuses "spec.serve.apiKeySecret" \
	timeout 60 "$work/bin/llmjob" run "$work/keyed.yaml" --plain
echo sk-right >"$work/key"
sed -i '/apiKeySecret/d' "$work/keyed.yaml" # the file of keys is enough
start "$work/keyed.yaml" --api-key-file "$work/key"
client key "$url" sk-right
program=anthropic client key "$url" sk-right
check "the agent's own port wants its token" equal \
	"$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "${metrics%/metrics}/v1/job")" 401
stop

echo "-- adapters beside the same model"
write_adapters "$work/adapters.yaml"
start "$work/adapters.yaml"
client adapters "$url"
stop
too_little() { "$work/bin/llmjob" plan "$work/adapters.yaml" --memory 64Mi; }
check "what does not fit is refused with the figure" refuses "adapters: 2, of 0.7 MiB" too_little

echo "-- adapters that come and go while it serves"
write_adapters "$work/listing.yaml"
sed -i 's/^    adapters:/    adapterMemory: 2Mi\n&/' "$work/listing.yaml"
start "$work/listing.yaml"
rank=$(running llmjob-rank)
client listing "$url" "$work/listing.yaml" "$work/loud" "$work/quiet" "$work/absent"
check "by the same rank" equal "$(running llmjob-rank)" "$rank"
check "and the run tells what is wrong" grep -q "AdapterNotLoaded.*absent: .*$work/absent" "$out"
stop

echo "-- tools, of the same model with a template that takes them"
write_conversion "$work/folder.yaml" "$work/folder"
as_folder() { env TMPDIR="$work" timeout 120 "$work/bin/llmjob" run "$work/folder.yaml" --plain >"$out" 2>&1; }
check "the model becomes a folder" as_folder
cp tests/e2e/tools.jinja "$work/folder/chat_template.jinja"
model=$work/folder
write_adapters "$work/tools.yaml"
start "$work/tools.yaml"
client tools "$url"
client tools "$url" quiet
program=anthropic client tools "$url"
stop
finish
