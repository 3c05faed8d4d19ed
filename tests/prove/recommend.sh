#!/bin/bash
# recommend.sh [PAIRS]: does what is served by spec.serve.recommend find what people liked next? MovieLens-100k, all 1,682 films as
# items, each user's last liked film left out (tests/e2e/movies last); recall@10 and 20 and NDCG@10 of the encoder alone, of popularity
# alone and of both, by a weight that is chosen on the films before the last ones. Of MiniLM as it is published, which is told, and
# of a small BERT that learns from PAIRS of films (76,800) which are liked soon after one another, which must find more than
# popularity. TUNED=FOLDER: a model that has learnt that already. Minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
pairs=${1:-76800}

add_movies() {
    "$top/tests/e2e/movies" last "$("$top/tests/golden/fetch.sh" movies)" "$work/data/movies" "$pairs" 120
    cp -r --reflink=auto "$("$top/tests/golden/fetch.sh" minilm)" "$work/data/minilm"
    jq '.num_hidden_layers = 2 | .hidden_size = 128 | .num_attention_heads = 4 | .intermediate_size = 256' \
        "$work/data/minilm/config.json" >"$work/data/small.json"
}
train_small() {
    cat >"$work/job.yaml" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: prove}
	spec:
	  storage: [{name: data, claimName: data, mountPath: /data}]
	  model: {source: /data/minilm, init: Random, config: /data/small.json}
	  precision: FP32
	  checkpoint: {path: /data/ckpt}
	  train:
	    objective: PairMatching
	    pair: {loss: InBatchNegatives, temperature: 0.05}
	    data: {train: /data/movies/train.jsonl, validation: /data/movies/dev.jsonl}
	    sequenceLength: 24
	    batchSequences: 128
	    epochs: 1
	    optimizer: {learningRate: 0.002, schedule: Linear, warmupSteps: 20}
	    output: /data/small
	E
    start "$A" "data=$work/data"
    ended || { explain "the training"; fail; return 1; }
    grep -E 'validation loss|^epoch' "$work/log"
}
measure() { # model
    cat >"$work/job.yaml" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: prove}
	spec:
	  storage: [{name: data, claimName: data, mountPath: /data, readOnly: true}]
	  model: {source: /data/$1}
	  precision: FP32
	  serve:
	    modelName: movies
	    recommend:
	      items: /data/movies/items.jsonl
	      halfLife: ${HALF_LIFE:-3}
	      features:
	      - {name: liked, use: LogValue, weight: 0.3}
	      - {name: genres, use: Shared, weight: 0.1}
	      - {name: year, use: Near, weight: 0.1}
	E
    start "$A" "data=$work/data" --port 0
    url=$(serving) || { explain "$1 is served"; fail; return 1; }
    status=0
    "$python" -IS "$top/tests/prove/recommend.py" "$url" movies "$work/data/movies" >"$work/said" 2>&1 || status=$?
    sed "s/^/$1: /" "$work/said"
    kill -TERM "$running"
    ended || true
}

begin
add_movies
if measure minilm && grep -q '^{' "$work/said"; then pass; else fail; fi
if [ -n "${TUNED:-}" ]; then cp -r --reflink=auto "$TUNED" "$work/data/small"; else train_small || exit 1; fi
if measure small && [ $status = 0 ]; then pass; else fail; fi
finished=1
