#!/bin/bash
# Goal: manifests/samples/embeddings.yaml, recommend.yaml and classify.yaml keep their word: models that read whole texts answer programs written for
# OpenAI, vLLM, Jina and Cohere: vectors equal to sentence-transformers', the same alone and in any company; texts compared and ranked;
# labels and entities; a film recommended by its text to who liked one like it, and by other features; what a model does not do is refused by name; a full queue and clients that go away. Method: `llmjob run` serves
# the real MiniLM from its folder and the tiny BERTs of tests/golden; embeddings_client.py asks by the real `openai` client. That a
# finished training is served alike is what test_sequence_classification.sh and test_matching.sh show.
. "$(dirname "$0")/lib.sh"
alone

prepare() {
	python=$(PYTHON= tests/golden/python openai tests/e2e/requirements.txt)
	own_programs
	mkdir -p "$work/data/models"
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
client() { counted "$python" tests/e2e/embeddings_client.py "$@"; }
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
