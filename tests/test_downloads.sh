#!/bin/bash
# Goal: nothing that is fetched is taken for what it claims to be: each download has a version and a hash in the
# repository. Method: every line that fetches, wherever it stands, is of a kind that checks one, and what it checks
# against is whole. Debian's packages are signed; Go's modules are in a go.sum or have their sum in pins.sh.
cd "$(dirname "$0")/.." || exit 1
git rev-parse --git-dir >/dev/null 2>&1 || { echo "SKIP: not a git checkout"; exit 77; }
failed=0
says() { # text, what is wrong with it
	[ -z "$1" ] && return
	printf '%s\n%s\n' "$2:" "$1"
	failed=1
}
code() { # files that may fetch: no documents, no third party's lists
	git ls-files -- '*.sh' '*.mk' '*.py' '*.yaml' Makefile Dockerfile image tests kernels helm | sort -u |
		grep -vE '\.(md|json|in|txt|c|h|cc|hh|cu|cuh|sum|mod|go|safetensors|gguf)$|^tests/corpus/|^tests/test_downloads.sh$'
}
# A command and the lines that it goes on with.
commands() { code | xargs awk 'FNR == 1 {held = ""} {held = held $0} /\\$/ {sub(/\\$/, "", held); next} {print FILENAME ": " held; held = ""}'; }

all=$(commands)
says "$(grep -E 'pip"?( -[^ ]+)*( [^ ]+)* install ' <<<"$all" | grep -v -- --require-hashes)" "pip install without --require-hashes"
says "$(grep -E 'pip"?( -[^ ]+)* download ' <<<"$all" | grep -v '^tests/golden/fetch.sh: ' | grep -v -- --require-hashes)" "pip download that nobody checks"
says "$(grep -E '\b(npm (install|pack|ci)|npx) ' <<<"$all" | grep -v '^tests/golden/fetch.sh: ')" "npm that nobody checks"
says "$(grep -E '\b(curl|wget) .*https:' <<<"$all" | grep -v '127\.0\.0\.1')" "a download by hand"
says "$(grep -E '\$?\bgo"? (install|get|run) ' <<<"$all" | grep -v '^tests/cluster/binaries: .*GOBIN=')" "go without a sum"
says "$(grep -E '^[^:]*Dockerfile: *(FROM|ADD) ' <<<"$all" | grep -vE 'FROM (scratch|[^ ]+@sha256:[0-9a-f]{64})( |$)')" "a base image without digest"

# What the checks compare with.
models=$(grep -cE '^	kind=(pip|npm|deb) package=[^ ]+ version=[0-9.]+(-[0-9]+)?$' tests/golden/fetch.sh)
hashes=$(grep -cE '^	sha256=[0-9a-f]{64}$' tests/golden/fetch.sh)
[ "$models" -gt 0 ] && [ "$models" = "$hashes" ] || says "$models packages, $hashes hashes" "tests/golden/fetch.sh"
for list in $(git ls-files '*requirements.txt' 'tests/prove/*.txt'); do
	says "$(awk '/^[A-Za-z]/ {if (name && !hash) print name; name = $1; hash = 0} /--hash=sha256:[0-9a-f]+/ {hash = 1}
		END {if (name && !hash) print name}' "$list")" "$list: no hash"
done
grep -qE '^KWOK_SUM=h1:[A-Za-z0-9+/]{43}=$' tests/cluster/pins.sh || says kwok "tests/cluster/pins.sh: no sum"
for folder in $(git ls-files '*go.mod'); do
	[ -s "${folder%go.mod}go.sum" ] || says "$folder" "no go.sum"
done
[ $failed = 0 ] && echo "100%: Checks: 10, Failures: 0, Errors: 0"
exit $failed
