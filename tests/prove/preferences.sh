#!/bin/bash
# preferences.sh [steps]: manifests/samples/dpo.yaml keeps its word: the published SmolLM2 learns to prefer right answers, and does
# so with pairs that it has not seen. Of these rewards/accuracies must be above chance by a tenth, and the loss below log 2, with
# which every training begins. The real model and WordNet's glosses (tests/e2e/preferences), fewer steps than the sample, on one
# rank. Minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
steps=${1:-10}
. "$(dirname "$0")/lib.sh"

train() { # steps
    sed -E "s/^( *steps:).*/\1 $1/; s/^( *replicas:).*/\1 1/; s/^( *schedule:).*/\1 Constant/" \
        "$top/manifests/samples/dpo.yaml" >"$work/job.yaml"
    start "$A" "data=$work/data"
    ended || { explain "$1 steps"; fail; exit 1; }
}
told() { facts last "$work/data/tb/preferences" "$1/validation"; }
above() { jq -en "$1 > $2" >/dev/null; }

begin
"$top/tests/e2e/material" "$work/data" preferences
train "$steps"
accuracy=$(told rewards/accuracies) loss=$(told loss)
echo "pairs not learnt from, after $steps steps of 8: accuracy $accuracy (chance: 0.5), loss $loss (at first: 0.6931)"
if above "${accuracy:-0}" 0.6; then pass; else fail; fi
if above 0.69 "${loss:-1}"; then pass; else fail; fi
if [ -s "$work/data/out/preferences/adapter/adapter_model.safetensors" ]; then pass; else fail; fi
finished=1
