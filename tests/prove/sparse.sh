#!/bin/bash
# sparse.sh [STEPS [LENGTH [BATCH [RATE [WEIGHT]]]]]: what 2:4 sparsity costs SmolLM2-135M on the King James text, by the perplexity of
# held-out verses: dense; dense and trained for as long; pruned by a calibration text (spec.convert.prune), and retrained with the
# zeros it then has (spec.train.sparsity: Source), the dense model as its teacher where WEIGHT is not 0. Retrained, it must be
# within 3 % of the dense model. Two trainings: minutes on many cores, an hour and more on two. SKIP_DENSE=1 trains the dense
# model for six steps only.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
steps=${1-400} length=${2-128} batch=${3-8} rate=${4-0.0003} weight=${5-0.5}

train() { # name model steps [line...]: its first and last perplexities
    write_training "$work/job.yaml" model="$2" data=kjv.txt length=$length batch=$batch steps="$3" save=0 evaluate=0 rate=$rate
    for line in "${@:4}"; do echo "    $line" >>"$work/job.yaml"; done
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run"
    ended || { explain "$1"; fail; return 1; }
    sed -nE 's/.*validation loss ([0-9.]+).*/\1/p' "$work/log" |
        awk -v name="$1" '{ x[NR] = exp($1) } END { printf "%s %.4f %.4f\n", name, x[1], x[NR] }' | tee -a "$work/figures"
}
prune() {
    cat >"$work/job.yaml" <<-E
	apiVersion: llmjob.dev/v1alpha1
	kind: LLMJob
	metadata: {name: prove}
	spec:
	  storage: [{name: data, claimName: data, mountPath: /data}]
	  model: {source: /data/smollm2.gguf}
	  convert: {format: HuggingFace, calibration: /data/kjv.txt, prune: {pattern: "2:4"}, output: /data/pruned}
	E
    start "$A" "data=$work/data"
    ended || { explain "pruning"; fail; return 1; }
}
figure() { awk -v name="$1" -v column="$2" '$1 == name { print $column }' "$work/figures"; }
more() { jq -n "100 * ($(figure 2:4 3) / $1 - 1)"; } # of the retrained model's perplexity, in per cent

begin
add_smollm2
"$top/tests/e2e/kjv" "$work/data/kjv.txt"
echo "$steps steps of $batch sequences of $length tokens, rate $rate, teacher's weight $weight; perplexity before the first and after the last"
train dense smollm2.gguf "$([ -n "${SKIP_DENSE-}" ] && echo 6 || echo "$steps")"
prune
teacher=()
[ "$weight" = 0 ] || teacher=("distill: {teacher: /data/smollm2.gguf, temperature: 1, weight: $weight}")
train 2:4 pruned "$steps" 'sparsity: {pattern: Source}' "${teacher[@]}"
printf 'retrained: %+.2f %% of dense, %+.2f %% of dense trained for as long\n' "$(more "$(figure dense 2)")" "$(more "$(figure dense 3)")"
if jq -en "$(more "$(figure dense 2)") <= 3" >/dev/null; then pass; else fail; fi
finished=1
