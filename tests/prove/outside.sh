#!/bin/bash
# outside.sh [EXAMPLES [SEED]]: do suites that others wrote pass against a server of ours?
#
# schemathesis draws EXAMPLES requests (10) a path from our /openapi.json, valid ones and invalid ones: no answer is a server's error,
# each is of a status, a content type and a shape that the document has, invalid requests are refused, other methods are 405.
# That every request is taken that the document allows is not checked: what fields say together (top_logprobs without logprobs, a
# token id beyond the vocabulary, roles whose content a template refuses) no schema of ours says, and is a 400 that names the field.
#
# openai's own tests of its resources, from its source distribution, run against the paths that we have. outside.expected lists which of
# them ask for what we do not have, and which fail, with reasons; at least 90 % of the others pass.
#
# The model is a tiny Llama whose words are noise, with a template that takes tools. The pythons come from outside.txt, by hash, once
# a machine. Two minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
python=$("$top/tests/golden/python" outside "$top/tests/prove/outside.txt")
seed=${2:-${LLMJOB_SEED:-$(date +%s)}}

# The source distribution that outside.txt names, by hash, once a machine.
need_sources() {
    local version name
    version=$(sed -n 's/^openai==\([^ ]*\).*/\1/p' "$top/tests/prove/outside.txt")
    sources=${LLMJOB_CACHE:-$HOME/.cache/llmjob}/openai-$version
    (
        flock 9
        [ ! -d "$sources" ] || exit 0
        name=$(mktemp -d "$work/sdist.XXXX")
        awk '/^openai==/ { on = 1 } on { print } on && !/\\$/ { exit }' "$top/tests/prove/outside.txt" >"$name/one.txt"
        "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary openai --require-hashes \
            -r "$name/one.txt" -d "$name"
        tar xzf "$name"/openai-*.tar.gz -C "$name"
        mv "$name/openai-$version" "$sources"
    ) 9>"$sources.lock"
}
serve() { # name: url of the API
    write_serving "$work/job.yaml" llama FP32
    sed -i "s/modelName: m/modelName: $1/" "$work/job.yaml"
    start "$A" "data=$work/data" --port 0
    url=$(serving)
}
end_serving() {
    kill "$running"
    ended || true
}
test_resources() { # suite: its report is left in $work
    (cd "$sources" && TEST_API_BASE_URL=$url timeout 900 "$python" -m pytest -o addopts= -q --tb=no -p no:cacheprovider \
        --junitxml "$work/${1//\//+}.xml" "tests/api_resources/$1" >"$work/pytest" 2>&1) || true
    mv "$work/${1//\//+}.xml" "$work/reports/"
}

begin
need_sources
add_texts
add_tiny
cp "$top/tests/e2e/tools.jinja" "$work/data/llama/chat_template.jinja"
mkdir "$work/reports"

serve gpt-3.5-turbo-instruct
test_resources test_completions.py
end_serving
serve gpt-6-astra
test_resources chat/test_completions.py
test_resources test_models.py
if "$python" "$top/tests/prove/outside.py" "$top/tests/prove/outside.expected" "$work"/reports/*.xml; then pass; else fail; fi

echo "seed $seed"
if (cd "$work" && timeout 1200 "$python" -m schemathesis.cli run "${url%/v1}/openapi.json" --url "${url%/v1}" --max-examples "${1:-10}" \
    --phases fuzzing --generation-allow-x00 false --exclude-checks positive_data_acceptance --seed "$seed" --request-timeout 60 \
    --continue-on-failure --no-color >"$work/said" 2>&1); then pass; else fail; sed 's/^/  | /' "$work/said"; fi
grep -A 30 '= SUMMARY =' "$work/said" | grep -E 'Tested:|generated|ST[0-9]+' || fail
end_serving
finished=1
