#!/bin/bash
# logits.sh [SHAPE...]: logits of GPT-2 124M's shape and of BERT-base's, with random weights, against those of transformers (logits.py,
# logits.c). A python with torch and transformers comes from tests/golden/requirements.txt, once a machine, or is PYTHON. A minute.
set -euo pipefail
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=1
"$("$here/../golden/python")" "$here/logits.py" "$(realpath "${O:-$here/../../build}")/tests/prove/logits" "$work" "$@" || passed=0
echo "$passed passed, $((1 - passed)) failed, 0 skipped"
[ $passed = 1 ]
