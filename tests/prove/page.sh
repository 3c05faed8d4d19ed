#!/bin/bash
# page.sh [FOLDER]: the pages of a served model in a real browser, on this machine.
#
# Goal: who opens the address of a served model talks to it, by keyboard or on a phone, sees what is wrong when something is, and
# nothing that he or the model writes becomes anything but text; an answer out of documents shows what it cites, in its words; who
# opens /monitor sees what is watched. Method: `llmjob run` serves SmolLM2, without a key and with one, then a few sections of
# Debian's policy as manifests/samples/support.yaml does, then a classifier of mails (trained as monitor.sh does, or FOLDER has its
# out/mails, which KEEP=FOLDER monitor.sh leaves) while a stream with a burst comes in; page.py has Chromium (Debian's chromium-headless-shell, or CHROMIUM) do what a person would, by playwright (page.txt, once a
# machine, or PYTHON), and ends the agent beneath it. SCREENSHOTS: a folder for pictures of it. Two minutes on two cores, of which one is the
# training's.
. "$(dirname "$0")/../e2e/lib.sh"
alone
browser() { command -v chromium-headless-shell || command -v chromium || command -v chromium-browser; }
need_browser() {
	chromium=${CHROMIUM:-$(browser)} && return
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "no Chromium, and not root on Debian to install one"
	apt-get -qq -o DPkg::Lock::Timeout=600 update
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends \
		chromium-headless-shell >/dev/null
	chromium=$(browser)
}
write_job() { # secret
	cat >"$work/job.yaml" <<-E
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: page}
		spec:
		  storage:
		  - {name: data, claimName: data, mountPath: $work, readOnly: true}
		  model: {source: $model}
		  serve: {modelName: smol, contextLength: 2048${1:+, apiKeySecret: $1}}
	E
}
serve() { # [flags...]
	begin "$out" env TMPDIR="$work" "$work/bin/llmjob" run "$work/job.yaml" --plain --port 0 "$@"
	check "the model is served" poll 240 "an address" serving "$out"
	url=$(serving "$out")
}
visit() { counted "$python" tests/prove/page.py "$chromium" "$@"; } # part argument...
end_it() {
	kill -TERM $run
	wait $run || true
	check "nothing is left running" poll 60 "the end of all processes" none_running
}

need_browser
python=$(tests/golden/python page tests/prove/page.txt)
own_programs
model=$work/$(basename "$(tests/golden/fetch.sh smollm2)")
cp --reflink=auto "$(tests/golden/fetch.sh smollm2)" "$model"
write_job

serve
for part in talk keys text look; do
	echo "-- $part"
	visit $part "$url"
done
echo "-- an agent that ends"
visit gone "$url" "$(running llmjob-agent)"
end_it
echo "-- a key"
echo sk-right >"$work/key"
write_job key
serve --api-key-file "$work/key"
visit key "$url" sk-right
end_it
echo "-- sources"
tests/e2e/material "$work/all" support
mkdir "$work/some"
for number in 2.5 3.3 4.4 4.9 5.6.11 5.6.12 7.3 10.9; do cp "$work/all/policy/$number.txt" "$work/some/"; done
rm -r "$work/all/policy"
mv "$work/some" "$work/all/policy"
sed -E 's/^( *)results:.*/\1results: 2\n\1chunkTokens: 96\n\1overlapTokens: 16/' manifests/samples/support.yaml >"$work/job.yaml"
serve --storage "data=$work/all"
visit sources "$url" "$work/all/policy"
end_it
echo "-- what is watched"
mkdir -p "$work/data/out"
if [ -n "${1:-}" ]; then cp -r "$1/mails" "$work/data/out/"; else check "a classifier is trained" learn_mails "$work" "$work/data"; fi
tests/e2e/mails stream "$(tests/golden/fetch.sh mails)" "$work/lines" $mails_learnt 200
sed -E "/^      (file|state):/d; s/^( *)modelName:.*/&\n\1contextLength: 48\n\1apiKeySecret: key/" manifests/samples/monitor.yaml >"$work/job.yaml"
serve --storage "data=$work/data" --api-key-file "$work/key"
visit watch "$url" "$work/lines" sk-right
end_it
finish
