#!/bin/bash
# grammar.sh [SCHEMAS [SEED]]: does every answer that a grammar allows satisfy its JSON schema? Of 200 random schemas that are taken
# (hypothesis-jsonschema), 20 texts each are drawn without a model (walks.c) and validated by jsonschema. The python with these
# comes from tests/prove/grammar.txt, once a machine, or is PYTHON. A minute on two cores.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
O=$(realpath "${O:-$top/build}")
python=$("$top/tests/golden/python" grammar "$top/tests/prove/grammar.txt")
seed=${2:-${LLMJOB_SEED:-$(date +%s)}}
echo "seed $seed"
if "$python" "$top/tests/prove/grammar.py" "$O/tests/prove/walks" "${1:-200}" 20 "$seed"; then
    echo "1 passed, 0 failed, 0 skipped"
else
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
