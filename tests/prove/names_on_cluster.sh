#!/bin/bash
# names_on_cluster.sh [TRAIN DEV TEST [EPOCHS RATE]]: manifests/samples/token-classification.yaml on the local cluster.
#
# Goal: the published MiniLM, fine-tuned on two pods and scaled to three while it trains, says after each epoch and at the
# end how well it finds names. Method: the sample as it stands (3000 600 600 verses of the silver corpus, 5 epochs, rate
# 0.00002), or with fewer verses; status is read as a user reads it, the report from the job's storage.
. "$(dirname "$0")/../e2e/lib.sh"
verses=("${1:-3000}" "${2:-600}" "${3:-600}") epochs=${4:-5} rate=${5:-0.00002}
need_llmjob
need_namespace
tests/e2e/entities/corpus "$data/ner" "${verses[@]}"
tests/e2e/material "$data" names
work=$(mktemp -d)
trap 'rm -rf "$work"; at_exit' EXIT
sed -E "s/^( *epochs:).*/\1 $epochs/; s/^( *learningRate:).*/\1 $rate/" manifests/samples/token-classification.yaml >"$work/job.yaml"

f1() { kn get llmjob ner -o jsonpath='{.status.progress.validationF1}'; }
ranks_are() { [ "$1" = 3 ]; }
kn apply -f "$work/job.yaml" >/dev/null
check "steps are taken" step_reached 180 ner 3
kn scale llmjob ner --replicas=3 >/dev/null
check "three ranks train" watch 120 "3 ranks" ranks_are get llmjob ner -o jsonpath='{.status.layout.ranks}{"\n"}'
kn get llmjob ner -o jsonpath='{.status.progress.validationF1}{"\n"}' --watch >"$work/f1" 2>/dev/null &
watching=$!
check "it completes" wait_for 3600 llmjob/ner condition=Complete
kill $watching 2>/dev/null || true
echo "F1 on the dev sentences, epoch by epoch: $(grep . "$work/f1" | uniq | tr '\n' ' ')"
check "every sentence of every step was learnt once" \
	awk -v batch=16 -v steps=$((verses[0] * epochs / 16)) -f tests/e2e/samples.awk "$data"/ckpt/ner/samples/*.log
check "status says how well it found names" jq -en "$(f1) > 0.3"
check "and so does the log, by type" grep -qE ' (PER|LOC|GRP) ' <(kn logs ner-0 --tail=200)
kn logs ner-0 --tail=200 | grep -E ' (PER|LOC|GRP|(micro|macro|weighted) avg) ' | tail -n 6
check "the report is written" jq -e '.test.entities.lenient["micro avg"]."f1-score" > 0.3' "$data/out/ner/report.json"
finish
