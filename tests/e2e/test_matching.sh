#!/bin/bash
# Goal: manifests/samples/matching.yaml keeps its word: a published BERT learns from MovieLens which films are liked one after
# another, says how well it finds them, and leaves a report, TensorBoard's points and a folder that sentence-transformers reads.
# Method: `llmjob run` with the real MiniLM (tests/e2e/movies), by one film in place of three, fewer pairs and smaller steps, of
# one rank. Then embeddings.yaml serves what was learnt, and finds as many. What recall is compared with needs no model: popularity, the same list for everybody. Whether
# sentence-transformers finds the same is what tests/prove/match.sh shows.
. "$(dirname "$0")/lib.sh"
alone
data=$work/data
pairs=192 batch=8

prepare() {
	mkdir -p "$data/models"
	own_programs
	tests/e2e/movies "$(tests/golden/fetch.sh movies)" "$data/movies" $pairs 16 150 1
	tests/e2e/material "$data" movies
	sed -E "s/^( *replicas:).*/\1 1/; s/^( *epochs:).*/\1 1/; s/^( *sequenceLength:).*/\1 20/; s/^( *batchSequences:).*/\1 $batch/" \
		manifests/samples/matching.yaml >"$work/job.yaml"
}

# recall@10 by the server's vectors.
found() {
	local url=$1 side
	for side in a b; do
		jq -cs "map(.$side) | unique" "$data/movies/test.jsonl" >"$data/movies/$side"
		jq -c '{model: "movies", truncate_prompt_tokens: 20, input: .}' "$data/movies/$side" |
			curl -sS --fail-with-body --max-time 300 "$url/v1/embeddings" -H 'content-type: application/json' -d @- |
			jq -c '[.data[].embedding]' >"$data/movies/$side.vectors"
	done
	tests/e2e/movies found "$data/movies"
}

prepare
status=0
TMPDIR=$work timeout 600 "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$data" --plain >"$out" 2>&1 || status=$?
check "it completes" equal $status 0
check "every pair of every step was learnt once" \
	awk -v batch=$batch -v steps=$((pairs / batch)) -f tests/e2e/samples.awk "$data"/ckpt/movies/samples/*.log
echo "$(grep -E 'validation loss|^epoch' "$out" || true)"
check "the epoch says its train loss and what it comes to" \
	grep -qE '^epoch 1: train loss [0-9.]+  validation loss [0-9.]+  match [0-9.]+$' "$out"

report=$data/out/movies/report.json
score() { jq ".test.ranking[\"$1\"]" "$report"; }
baseline=$(tests/e2e/movies baseline "$data/movies")
recall=$(score recall@10) ndcg=$(score ndcg@10)
echo "test recall@10 $recall, ndcg@10 $ndcg, mrr@10 $(score mrr@10); by popularity: $baseline"
check "its candidates are the different films of the file" equal "$(score candidates)" "$(jq .candidates <<<"$baseline")"
check "more is found than by popularity" jq -en "$recall > ($baseline).recall"
check "and nearer to the top" jq -en "$ndcg > ($baseline).ndcg"
sed -E "s/^( *maxQueue:).*/\1 2/" manifests/samples/embeddings.yaml >"$work/serve.yaml"
begin "$work/served" env TMPDIR="$work" "$work/bin/llmjob" run "$work/serve.yaml" --storage "data=$data" --plain --port 0
check "what it learnt is served as it is" poll 60 "an address" serving "$work/served"
served=$(found "$(serving "$work/served")")
kill -TERM $run
wait $run || true
echo "recall@10 by what is served: $served"
check "which finds as many" jq -en "$served - $recall | fabs < 0.005" # there texts are the same when their tokens are
check "the run ends with the figure" grep -qF "test: recall@10 $(printf %.4f "$recall")" "$out"
check "the output is a bare BERT" jq -e '.architectures == ["BertModel"]' "$data/out/movies/config.json"
check "with what sentence-transformers goes by" equal "$(jq -c '[.[].type | split(".")[-1]]' "$data/out/movies/modules.json")" \
	'["Transformer","Pooling","Normalize"]'
check "which takes means" jq -e '.pooling_mode_mean_tokens and .word_embedding_dimension == 384' "$data/out/movies/1_Pooling/config.json"
check "and its tokenizer" test -s "$data/out/movies/tokenizer.json"
check "TensorBoard has the ranking" grep -qa 'ndcg@10/test' "$(find "$data/tensorboard/movies" -name 'events.*' | head -n 1)"
finish
