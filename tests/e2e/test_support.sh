#!/bin/bash
# Goal: manifests/samples/support.yaml keeps its word: chats are answered out of Debian's policy and cite it, each quote is in its
# file, what is not there is said not to be; documents are a vector store to the real `openai` client; files that come, change and go are
# found as they are while it serves. Method: `llmjob run` serves the sample with real models and a few of the sections;
# support_client.py asks. How much is found, and what fine-tuning adds, is what tests/prove/support.sh measures.
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
out=$work/out

prepare() {
	python=$(PYTHON= tests/golden/python openai tests/e2e/requirements.txt)
	mkdir -p "$work/bin" "$work/data"
	cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
	tests/e2e/material "$work/all" support
	mv "$work/all/models" "$work/data/"
	mkdir "$work/data/policy"
	for number in 2.5 3.3 4.4 4.9 5.6.11 7.3 10.9; do cp "$work/all/policy/$number.txt" "$work/data/policy/"; done
	echo "no text" >"$work/data/policy/picture.png"
}
running() {
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
client() { # argument...: its last line is its own sum, which is taken over
	local line status=0
	timeout 600 "$python" tests/e2e/support_client.py "$@" >"$work/client" 2>&1 || status=$?
	grep -vE '^[0-9]+ passed, ' "$work/client" || true
	line=$(grep -E '^[0-9]+ passed, ' "$work/client" || echo "0 passed, 1 failed")
	read -r good _ bad _ <<<"$line"
	passed=$((passed + good)) failed=$((failed + bad))
	[ $status = 0 ] || [ "$bad" -gt 0 ] || failed=$((failed + 1))
}
control() { tr '\0' '\n' <"/proc/$1/cmdline" | grep -A 1 -x -- --listen | tail -n 1; }

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
prepare
sed -E 's/^( *)results:.*/\1results: 2\n\1scanSeconds: 1\n\1chunkTokens: 96\n\1overlapTokens: 16/' manifests/samples/support.yaml >"$work/job.yaml"
begin "$out" env TMPDIR="$work" "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$work/data" --plain --port 0
check "it is served when its documents are indexed" poll 240 "an address" serving "$out"
url=$(serving "$out")
client everything "$url" "http://$(control "$(running llmjob-agent)")/metrics" "$work/data/policy"
check "what is passed over is named in the log" grep -q 'document passed over file=picture.png' "$work"/*/agent-0.log
status=0
kill -TERM $run
timeout 60 tail --pid=$run -f /dev/null || kill -9 $run
wait $run || status=$?
check "it ends, drained" equal $status 71
check "nothing is left running" poll 60 "the end of all processes" none_running
finish
