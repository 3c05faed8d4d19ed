#!/bin/bash
# Goal: manifests/samples/embeddings.yaml, recommend.yaml and classify.yaml keep their word: models that read whole texts answer programs written for
# OpenAI, vLLM, Jina and Cohere: vectors equal to sentence-transformers', the same alone and in any company; texts compared and ranked;
# labels and entities; a film recommended by its text to who liked one like it, and by other features; what a model does not do is refused by name; a full queue and clients that go away. Method: `llmjob run` serves
# the real MiniLM from its folder and the tiny BERTs of tests/golden; embeddings_client.py asks by the real `openai` client. That a
# finished training is served alike is what test_sequence_classification.sh and test_matching.sh show.
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
out=$work/out

prepare() {
	python=$(PYTHON= tests/golden/python openai tests/e2e/requirements.txt)
	mkdir -p "$work/bin" "$work/data/models"
	cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
	cp -r --reflink=auto "$(tests/golden/fetch.sh minilm)" "$work/data/models/minilm"
	cp -r tests/golden/tiny-bert{,-texts} "$work/data/models/"
	mkdir "$work/data/movies"
	cat >"$work/data/movies/items.jsonl" <<-E
		{"id": "50", "text": "Star Wars: Action Adventure Sci-Fi", "year": 1977, "genres": ["Action", "Sci-Fi"], "liked": 501}
		{"id": "172", "text": "Empire Strikes Back, The: Action Adventure Sci-Fi", "year": 1980, "genres": ["Action", "Sci-Fi"], "liked": 4}
		{"id": "8", "text": "Babe: Children's Comedy Drama", "year": 1995, "genres": ["Comedy"], "liked": 176}
		{"id": "98", "text": "Silence of the Lambs, The: Drama Thriller", "year": 1991, "genres": ["Thriller"], "liked": 344}
	E
}
running() {
	{ find /proc -maxdepth 2 -name exe -lname "$work/bin/${1:-*}" 2>/dev/null || true; } | cut -d/ -f3
}
none_running() { [ -z "$(running)" ]; }
explain() { tail -n 40 "$out" "$work"/*/agent-*.log 2>/dev/null; }
clean_up() {
	local pids
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
client() { # part argument...: its last line is its own sum, which is taken over
	local line status=0
	timeout 600 "$python" tests/e2e/embeddings_client.py "$@" >"$work/client" 2>&1 || status=$?
	grep -vE '^[0-9]+ passed, ' "$work/client" || true
	line=$(grep -E '^[0-9]+ passed, ' "$work/client" || echo "0 passed, 1 failed")
	read -r good _ bad _ <<<"$line"
	passed=$((passed + good)) failed=$((failed + bad))
	[ $status = 0 ] || [ "$bad" -gt 0 ] || failed=$((failed + 1))
}
control() { tr '\0' '\n' <"/proc/$1/cmdline" | grep -A 1 -x -- --listen | tail -n 1; }
serve() { # sample model maxQueue
	sed -E "s|^( *source:).*|\1 /data/models/$2|; s/^( *maxQueue:).*/\1 $3/" "manifests/samples/$1.yaml" >"$work/job.yaml"
	begin "$out" env TMPDIR="$work" "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$work/data" --plain --port 0
	check "$2 is served" poll 60 "an address" serving "$out"
	url=$(serving "$out")
}
stop() {
	status=0
	kill -TERM $run
	timeout 60 tail --pid=$run -f /dev/null || kill -9 $run
	wait $run || status=$?
	check "it ends, drained" equal $status 71
}

recommended() { # request: ids, in order
	curl -sS --max-time 60 "$url/v1/recommend" -H 'content-type: application/json' -d "{\"model\": \"movies\", $1}" |
		jq -r 'if .error then .error.message else [.results[] | select((.parts | add) - .score | fabs < 1e-5) | .id] | join(" ") end'
}

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
prepare
serve embeddings minilm 4
client api "$url" tests/golden/minilm_embeddings movies
client load "$url" "http://$(control "$(running llmjob-agent)")/metrics" 4
stop
serve recommend minilm 4
check "a film is recommended by its text" equal "$(recommended '"history": ["50"], "top_n": 1, "weights": {"liked": 0}')" 172
check "by what many like, to who liked nothing yet" equal "$(recommended '"history": [], "weights": {"text": 0}')" "50 98 8 172"
check "by a text, what was had among them" \
	equal "$(recommended '"history": ["98"], "query": "a small pig", "exclude_history": false, "weights": {"liked": 0, "genres": 0, "year": 0}')" "98 8 50 172"
check "an unknown film is refused by its place" equal "$(recommended '"history": ["50", 7]')" 'history[1]: there is no item "7"'
check "who recommends embeds, too" jq -e '.data[0].embedding | length == 384' <(
	curl -sS --max-time 60 "$url/v1/embeddings" -H 'content-type: application/json' -d '{"model": "movies", "input": "a"}')
stop
serve classify tiny-bert-texts 4
client classify "$url" mails
stop
serve classify tiny-bert 4
client tag "$url" mails
stop
check "nothing is left running" poll 60 "the end of all processes" none_running
finish
