#!/bin/bash
# serve_sharded.sh [LAYOUT ...]: SmolLM2 served by ranks that share it, on this machine.
#
# Goal: one rank, two that share each layer, two that share the layers out, and four that do both give the same text, with an adapter and
# without, those of both at once; when any of the
# ranks is killed, each running request ends with one clear error, and the next is answered within 5 s. Method: `llmjob run` in FP32, by
# layouts that are TENSORxPIPELINE, pods of TENSOR ranks; two requests run, one of them streamed, when a rank gets SIGKILL; the clock
# runs from there. And a size of memory that one rank is refused and two accept, as planned and as a rank says it.
. "$(dirname "$0")/../e2e/lib.sh"
[ $# -gt 0 ] || set -- 1x1 2x1 1x2 2x2
work=$(mktemp -d)
out=$work/out
running() { # [program]
	{ find /proc -maxdepth 2 -name exe -lname "$work/bin/${1:-*}" 2>/dev/null || true; } | cut -d/ -f3 | sort -n
}
differ() { [ "$1" != "$2" ]; }
none_running() { [ -z "$(running)" ]; }
explain() { tail -n 40 "$out" "$work"/*/agent-*.log 2>/dev/null; }
clean_up() {
	local pids
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}
write_job() { # tensor pipeline
	sed -E "s/^( *replicas:) 2/\1 $2/; s/^( *)(tensor: )2/\1\2$1\n\1pipeline: $2\n  precision: FP32/
		s/^( *)(replicas:.*)/\1\2\n\1device: {perReplica: $1}/; s/^( *modelName:).*/\1 smol/
		s/^( *)(maxSequences:).*/\1\2 8\n\1adapters: [{name: loud, path: \/data\/adapter}]/" manifests/samples/serve-sharded.yaml
}
body() { # tokens stream [model]
	jq -n --argjson n "$1" --argjson stream "$2" --arg model "${3:-smol}" '{model: $model, temperature: 0, max_tokens: $n, stream: $stream,
		messages: [{role: "user", content: "Tell me about the sea."}]}'
}
ask() { # tokens stream [model]
	curl -sSN --max-time 60 "$url/v1/chat/completions" -H 'content-type: application/json' -d "$(body "$@")"
}
text() { ask 48 false "${1:-smol}" | jq -er '.choices[0].message.content'; }
# Answers of several that are asked at once: all the same.
together() {
	local i
	for i in 1 2 3 4; do text "$1" >"$work/text.$i" & asked[i]=$!; text loud >"$work/loud.$i" & asked[i + 4]=$!; done
	wait "${asked[@]}"
	cat "$work"/"$2".? | sort -u
}
answers() { ask 1 false | jq -e .choices; }
streams() { [ "$(grep -c '^data: ' "$work/stream")" -gt 5 ]; }
errors() { grep -c '"error"' "$1" || true; }
# Ends rank $1 while two requests run; how long until both know, and until the next is answered, in ms.
kill_rank() { # pid
	local begun told back first second
	ask 1500 true >"$work/stream" & first=$!
	ask 1500 false >"$work/whole" & second=$!
	poll 30 "a stream" streams
	begun=${EPOCHREALTIME/./}
	kill -9 "$1"
	wait $first $second || true
	told=${EPOCHREALTIME/./}
	poll 20 "an answer" answers
	back=${EPOCHREALTIME/./}
	told_ms=$(((told - begun) / 1000)) back_ms=$(((back - begun) / 1000))
}
one_error() { # file
	equal "$(errors "$1")" 1 && grep -F 'the model was stopped' "$1" && ! grep -F '[DONE]' "$1"
}
end_it() {
	kill -TERM $run
	wait $run || true
	poll 60 "the end of all processes" none_running
}

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
mkdir -p "$work/bin"
cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
tests/e2e/material "$work"
python3 tests/e2e/random_adapter.py "$work/adapter" 1 8 0.05 30 self_attn.q_proj:576:576 self_attn.k_proj:192:576 \
	self_attn.v_proj:192:576 self_attn.o_proj:576:576 mlp.gate_proj:1536:576 mlp.up_proj:1536:576 mlp.down_proj:576:1536
for layout in "$@"; do
	tensor=${layout%x*} pipeline=${layout#*x}
	write_job "$tensor" "$pipeline" >"$work/job.yaml"
	begin "$out" env TMPDIR="$work" "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$work" --plain --port 0
	check "$layout: it is served" poll 60 "an address" serving "$out"
	url=$(serving "$out")
	check "by as many ranks" equal "$(running llmjob-rank | wc -l)" $((tensor * pipeline))
	alone=${alone:-$(text)}
	check "with the text of one rank" equal "$(text)" "$alone"
	check "also of four at once" equal "$(together smol text)" "$alone"
	loud=${loud:-$(text loud)}
	check "with an adapter with that of one rank" equal "$(text loud)" "$loud"
	check "which is another" differ "$loud" "$alone"
	check "also of eight at once, four without it" equal "$(together smol loud)" "$loud"
	ranks=$(running llmjob-rank)
	for i in $(seq "$(wc -w <<<"$ranks")"); do
		kill_rank "$(running llmjob-rank | sed -n "${i}p")"
		check "a rank is killed: one error ends the stream" one_error "$work/stream"
		check "and one the other request" one_error "$work/whole"
		check "the next is answered within 5 s" [ "$back_ms" -lt 5000 ]
		echo "$layout: errors after $told_ms ms, answers after $back_ms ms"
	done
	check "with the same text" equal "$(text)" "$alone"
	check "it ends" end_it
done

plan() { "$work/bin/llmjob" plan "$work/job.yaml" --storage "data=$work" --memory "$1"; }
write_job 1 1 >"$work/job.yaml"
check "220 MiB are too little for one rank" refuses "this rank needs" plan 220Mi
write_job 2 1 >"$work/job.yaml"
check "and do for two" plan 220Mi
finish
