#!/bin/bash
# sparse.sh [STEPS [LENGTH [BATCH [RATE]]]]: what 2:4 sparsity costs SmolLM2-135M on the King James text, by the perplexity of held-out
# verses: dense; dense and trained for as long; pruned; pruned and retrained; pruned and retrained with the dense model as
# its teacher. Retrained, it must be within 3 % of the dense model. Three trainings; the issue is one of minutes on
# many cores and of an hour on two.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
steps=${1-200} length=${2-128} batch=${3-8} rate=${4-0.0001}

train() { # name [line...]: its first and last perplexities
    write_training "$work/job.yaml" model=smollm2.gguf data=kjv.txt length=$length batch=$batch steps=$steps save=0 evaluate=0 rate=$rate
    for line in "${@:2}"; do echo "    $line" >>"$work/job.yaml"; done
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run"
    ended || { explain "$1"; fail; return 1; }
    sed -nE 's/.*validation loss ([0-9.]+).*/\1/p' "$work/log" |
        awk -v name="$1" '{ x[NR] = exp($1) } END { printf "%s %.4f %.4f\n", name, x[1], x[NR] }' | tee -a "$work/figures"
}
figure() { awk -v name="$1" -v column="$2" '$1 == name { print $column }' "$work/figures"; }
within() { # name bound: of the dense model's
    local more
    more=$(jq -n "$(figure "$1" 3) / $(figure dense 2) - 1")
    printf '%s, retrained: %+.2f %% of dense, %+.2f %% of dense trained for as long\n' "$1" \
        "$(jq -n "100 * $more")" "$(jq -n "100 * ($(figure "$1" 3) / $(figure dense 3) - 1)")"
    if jq -en "$more <= $2" >/dev/null; then pass; else fail; fi
}

begin
add_smollm2
"$top/tests/e2e/kjv" "$work/data/kjv.txt"
echo "$steps steps of $batch sequences of $length tokens, rate $rate; perplexity before the first step and after the last"
train dense
train 2:4 'sparsity: {pattern: "2:4"}'
within 2:4 0.03
finished=1
