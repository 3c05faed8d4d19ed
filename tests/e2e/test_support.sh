#!/bin/bash
# Goal: manifests/samples/support.yaml keeps its word: chats are answered out of Debian's policy and cite it, each quote is in its
# file, what is not there is said not to be; documents are a vector store to the real `openai` client; files that come, change and go are
# found as they are while it serves. Method: `llmjob run` serves the sample with real models and a few of the sections;
# support_client.py asks. How much is found, and what fine-tuning adds, is what tests/prove/support.sh measures.
. "$(dirname "$0")/lib.sh"
alone

prepare() {
	python=$(PYTHON= tests/golden/python openai tests/e2e/requirements.txt)
	own_programs
	mkdir "$work/data"
	tests/e2e/material "$work/all" support
	mv "$work/all/models" "$work/data/"
	mkdir "$work/data/policy"
	for number in 2.5 3.3 4.4 4.9 5.6.11 7.3 10.9; do cp "$work/all/policy/$number.txt" "$work/data/policy/"; done
	echo "no text" >"$work/data/policy/picture.png"
}
client() { counted "$python" tests/e2e/support_client.py "$@"; }

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
