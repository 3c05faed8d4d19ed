#!/bin/bash
# monitor.sh [FOLDER]: a trained classifier watches mails, on this machine.
#
# Goal: a burst of unwanted mails fires the alert once, within a window, and it resolves once, within a window; in the quiet before and
# behind nothing is told; a webhook that fails at first, and wants a secret, hears of both; and what is told does not depend on how the mails come, nor on
# what ends in between. Method: MiniLM learns to tell unwanted mails from others as in test_sequence_classification.sh (or FOLDER has
# out/mails, of an earlier run of this script with KEEP=FOLDER); 600 other mails of the SpamAssassin corpus are replayed in the order
# of their dates, 10 s apart, with a planted burst (tests/e2e/mails): posted to /v1/monitor; then written to a file that is followed
# and rotated while they are read, the agent being killed. monitor.py says what came of it, beside alarms on the bare share of the
# last texts. Three minutes on two cores, of which one is the training's.
. "$(dirname "$0")/../e2e/lib.sh"
work=$(mktemp -d)
data=$work/data out=$work/out lines=$work/stream.jsonl count=${COUNT:-600}
running() { # [program]
	{ find /proc -maxdepth 2 -name exe -lname "$work/bin/${1:-*}" 2>/dev/null || true; } | cut -d/ -f3
}
none_running() { [ -z "$(running)" ]; }
explain() { tail -n 40 "$out" "$work"/*/agent-*.log 2>/dev/null; }
clean_up() {
	local pids
	[ -z "${receiver:-}" ] || kill "$receiver" 2>/dev/null || true
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
receive() { # file failures
	: >"$1"
	tests/e2e/receiver "$1" "$2" "Bearer $(cat "$work/secret/token")" &
	receiver=$!
	poll 60 "a receiver" test -s "$1"
}
# The sample, its webhook the receiver's, without what it follows unless that is said.
serve() { # received [file]
	sed -E "/^      (file|state):/d; s/^( *)modelName:.*/&\n\1contextLength: 48/; s|^( *)minItems:.*|&\n\1webhook: $(head -n 1 "$1")\n\1webhookKey: token|
		s|^( *)classify:|&\n\1  webhookSecret: pager${2:+\n\1  file: /data/$2\n\1  state: /data/state}|" manifests/samples/monitor.yaml >"$work/watch.yaml"
	begin "$out" env TMPDIR="$work" "$work/bin/llmjob" run "$work/watch.yaml" --storage "data=$data" --webhook-secret "$work/secret" --plain --port 0
	check "the classifier is served" poll 120 "an address" serving "$out"
	url=$(serving "$out")
}
end_it() {
	kill -TERM $run
	wait $run || true
	kill "$receiver"
	wait "$receiver" || true
	receiver=""
	check "nothing is left running" poll 60 "the end of all processes" none_running
}
told() { [ "$(wc -l <"$1")" -ge 3 ]; } # its address, firing, resolved
state() { curl -sS --max-time 20 "$url/v1/monitor"; }
metric() { curl -sS --max-time 20 "$url/v1/monitor" | jq -c '.alerts[0].webhook'; }
read_all() { state | jq -e ".texts == $count"; }
read_some() { state | jq -e ".texts >= $1"; }
same_times() { equal "$(jq -c '.alerts[0] | [.status, .startsAt, .endsAt]' "$1")" "$(jq -c '.alerts[0] | [.status, .startsAt, .endsAt]' "$2")"; }

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
mkdir -p "$work/bin" "$work/secret" "$data/models" "$data/out"
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$work/secret/token"
cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
if [ -n "${1:-}" ]; then cp -r "$1/mails" "$data/out/"; else check "a classifier is trained" learn_mails "$work" "$data"; fi
[ -z "${KEEP:-}" ] || cp -r "$data/out/mails" "$KEEP/"
tests/e2e/mails stream "$(tests/golden/fetch.sh mails)" "$lines" $mails_learnt "$count"

echo "-- posted"
receive "$work/posted" 2
serve "$work/posted"
began=$EPOCHREALTIME
check "every line is answered" curl -sS --fail-with-body --max-time 300 "$url/v1/monitor" --data-binary "@$lines" -o "$work/answers"
echo "$(jq -n "($EPOCHREALTIME - $began) * 10 | round / 10") s for $count mails"
check "a webhook that fails twice hears of both in the end" poll 60 "two bodies" told "$work/posted"
check "which is counted" equal "$(metric)" '{"waiting":0,"delivered":2,"retried":2,"dropped":0}'
check "the burst fires once and resolves once, each within a window; nothing else does" \
	python3 tests/prove/monitor.py "$lines" "$work/answers" <(tail -n +2 "$work/posted")
python3 tests/prove/monitor.py "$lines" "$work/answers" <(tail -n +2 "$work/posted") || true
end_it

echo "-- followed"
half=$((count / 2))
head -n $((half - 7)) "$lines" >"$data/mails.jsonl"
receive "$work/followed" 0
serve "$work/followed" mails.jsonl
check "what is there is read" poll 120 "half of it" read_some 32
kill -9 $(running llmjob-agent)
check "an agent comes after one that was killed" poll 120 "the other half" eval 'url=$(serving "$out") && read_some $((half - 39))'
sed -n "$((half - 6)),${half}p" "$lines" >>"$data/mails.jsonl"
mv "$data/mails.jsonl" "$data/mails.jsonl.1"
tail -n +$((half + 1)) "$lines" >"$data/mails.jsonl"
check "all is read, over a rotation" poll 120 "both bodies" told "$work/followed"
check "and the same is told, of the same times" same_times <(tail -n +2 "$work/followed") <(tail -n +2 "$work/posted")
end_it
finish
