#!/bin/bash
# page.sh: the page of a served model in a real browser, on this machine.
#
# Goal: who opens the address of a served model talks to it, by keyboard or on a phone, sees what is wrong when something is, and
# nothing that he or the model writes becomes anything but text. Method: `llmjob run` serves SmolLM2, without a key and with one;
# page.py has Chromium (Debian's chromium-headless-shell, or CHROMIUM) do what a person would, by playwright (page.txt, once a
# machine, or PYTHON), and ends the agent beneath it. SCREENSHOTS: a folder for pictures of it. Half a minute on two cores.
. "$(dirname "$0")/../e2e/lib.sh"
work=$(mktemp -d)
out=$work/out
running() { # [program]
	{ find /proc -maxdepth 2 -name exe -lname "$work/bin/${1:-*}" 2>/dev/null || true; } | cut -d/ -f3
}
none_running() { [ -z "$(running)" ]; }
explain() { tail -n 40 "$out" "$work"/*/agent-*.log 2>/dev/null; }
clean_up() {
	local pids
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
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
	check "the model is served" poll 60 "an address" serving "$out"
	url=$(serving "$out")
}
# Counts and prints as `check` does; its last line is its own sum, which is taken over.
visit() { # part argument...
	local good bad status=0
	timeout 300 "$python" tests/prove/page.py "$chromium" "$@" >"$work/visit" 2>&1 || status=$?
	grep -vE '^[0-9]+ passed, ' "$work/visit" || true
	read -r good _ bad _ <<<"$(grep -E '^[0-9]+ passed, ' "$work/visit" || echo "0 passed, 1 failed")"
	passed=$((passed + good)) failed=$((failed + bad))
	[ $status = 0 ] || [ "$bad" -gt 0 ] || failed=$((failed + 1))
}
end_it() {
	kill -TERM $run
	wait $run || true
	check "nothing is left running" poll 60 "the end of all processes" none_running
}

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
need_browser
python=$(tests/golden/python page tests/prove/page.txt)
mkdir -p "$work/bin"
cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
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
finish
