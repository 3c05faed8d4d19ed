#!/bin/bash
# ensemble.sh [steps]: what several trainings say together is better than what each says: three tiny Llamas of as many seeds learn the
# same part of the King James Bible, each is served alone and all three as one (spec.serve.ensemble), by Logits and by Probabilities;
# of verses that none has seen the mean loss of a token is what the API's logprobs say. Both averages must be below the best of the
# three. Under a minute on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
steps=${1:-400} members=3
. "$(dirname "$0")/lib.sh"

train() { # seed
    rm -rf "$work/run" && mkdir "$work/run"
    write_training "$work/job.yaml" init=Random seed="$1" length=32 batch=16 steps="$steps" rate=0.01 save=0 evaluate=0
    start "$A" "data=$work/data,run=$work/run"
    ended || { explain "seed $1"; fail; exit 1; }
    mv "$work/run/out" "$work/data/seed-$1"
}
held_out() { # prints the mean loss of what the job serves
    local url part
    start "$A" "data=$work/data" --port 0
    url=$(serving) || { explain "serving"; return 1; }
    for part in "$work"/held.*; do
        jq -Rsc '{model: "m", prompt: split("\n")[:-1], max_tokens: 0, echo: true, logprobs: 0}' "$part" |
            curl -sS --fail-with-body --max-time 120 "$url/completions" -H 'content-type: application/json' -d @-
    done | jq -s '[.[].choices[].logprobs.token_logprobs[1:][]] | -add / length'
    kill $running
    ended || true
}
alone() { # seed
    write_serving "$work/job.yaml" "seed-$1" FP32
    held_out
}
together() { # average
    local seed
    write_serving "$work/job.yaml" seed-1 FP32
    sed -i '$d' "$work/job.yaml"
    cat >>"$work/job.yaml" <<-LINES
	  serve:
	    modelName: m
	    ensemble:
	      average: $1
	      members:
	LINES
    for ((seed = 1; seed <= members; seed++)); do
        echo "      - {name: seed-$seed, source: /data/seed-$seed}"
    done >>"$work/job.yaml"
    held_out
}

begin
"$top/tests/e2e/kjv" "$work/kjv"
head -c 300000 "$work/kjv" >"$work/data/text.txt"
head -c 400000 "$work/kjv" | tail -c 90000 | cut -c 1-60 | awk 'length > 40' | sed -n '2,257p' | split -l 64 - "$work/held."
add_tiny
losses=""
for ((seed = 1; seed <= members; seed++)); do
    train $seed
    losses+="$(alone $seed) "
done
logits=$(together Logits) probabilities=$(together Probabilities)
echo "loss of a token of $(cat "$work"/held.* | wc -l) verses, after $steps steps: alone $losses; as one by logits $logits, by probabilities $probabilities"
below() { jq -en --argjson is "${1:-9}" '[$ARGS.positional[] | tonumber] | $is < min' --args $losses >/dev/null; }
if below "$logits"; then pass; else fail; fi
if below "$probabilities"; then pass; else fail; fi
finished=1
