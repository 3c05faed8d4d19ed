#!/bin/bash
# Goal: programs that use OpenAI's package for Node work against served models: chats, streams, the package's own loop of tools,
# structured output, embeddings, its classes of errors, and requests that it aborts. Method: `llmjob run` serves tiny models whose
# words are noise and whose tokens are bytes; openai_client.mjs asks by the real `openai` package, which comes from npm with its
# hash. What a real model answers is what test_openai.sh looks at.
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
out=$work/out

prepare() {
	local has
	package=$(tests/golden/fetch.sh openai-node)
	node=$(command -v node || true)
	has=$([ -z "$node" ] || "$node" -p 'process.versions.node.split(".")[0]')
	[ "${has:-0}" -ge 22 ] || node=$(tests/golden/fetch.sh node)
	mkdir -p "$work/bin" "$work/data/talks"
	cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
	cp tests/golden/tiny-llama/model.safetensors "$work/data/talks/"
	jq '.max_position_embeddings = 2048' tests/golden/tiny-llama/config.json >"$work/data/talks/config.json"
	byte_tokenizer >"$work/data/talks/tokenizer.json"
	cp tests/e2e/tools.jinja "$work/data/talks/chat_template.jinja"
	cp -r tests/golden/tiny-bert-masked "$work/data/embeds"
}
explain() { tail -n 40 "$out" "$work"/*/agent-*.log 2>/dev/null; }
clean_up() {
	local pids
	pids=$(find /proc -maxdepth 2 -name exe -lname "$work/bin/*" 2>/dev/null | cut -d/ -f3 || true)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
client() { # part: its last line is its own sum, which is taken over
	local line status=0
	timeout 300 "$node" tests/e2e/openai_client.mjs "$1" "$package" "$url" >"$work/client" 2>&1 || status=$?
	grep -vE '^[0-9]+ passed, ' "$work/client" || true
	line=$(grep -E '^[0-9]+ passed, ' "$work/client" || echo "0 passed, 1 failed")
	read -r good _ bad _ <<<"$line"
	passed=$((passed + good)) failed=$((failed + bad))
	[ $status = 0 ] || [ "$bad" -gt 0 ] || failed=$((failed + 1))
}
ask() { # model part
	cat >"$work/job.yaml" <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: node}
		spec:
		  storage: [{name: data, claimName: data, mountPath: /data, readOnly: true}]
		  model: {source: /data/$1}
		  precision: FP32
		  serve: {modelName: tiny}
	E
	begin "$out" env TMPDIR="$work" "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$work/data" --plain --port 0
	check "the model that $1 is served" poll 60 "an address" serving "$out"
	url=$(serving "$out")
	client "$2"
	kill -TERM $run
	wait $run || true
}

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
prepare
ask talks talk
ask embeds embed
finish
