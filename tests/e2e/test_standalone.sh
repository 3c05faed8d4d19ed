#!/bin/bash
# Goal: `llmjob run` keeps on one machine what it promises: the same job file, without a cluster and
# without root; scaled by editing the file, whole after a rank's death, resumed after Ctrl-C, and
# nothing is left running. Method: one training of manifests/samples/finetune.yaml (real model, real
# text, fewer and smaller steps), disturbed as a person or a fault would, and ended by another
# `llmjob run`. The ranks' sample logs of both are audited by samples.awk.
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
data=$work/data out=$work/out logs=$work/data/ckpt/kjv/samples
steps=16 batch=6

# As nobody where this test is root: what works then needs no rights.
user=(env "TMPDIR=$work" "HOME=$work")
[ "$(id -u)" != 0 ] || user=(setpriv --reuid=65534 --regid=65534 --clear-groups "${user[@]}")

prepare() {
	mkdir -p "$work/bin"
	cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
	need_material
	head -c 400000 "$data/kjv.txt" >"$work/part" && mv "$work/part" "$data/kjv.txt"
	sed -E "s/^( *replicas:).*/\1 1/; s/^( *steps:).*/\1 $steps/; s/^( *everySteps:).*/\1 3/
		s/^( *sequenceLength:).*/\1 32/" manifests/samples/finetune.yaml >"$work/job.yaml"
	[ "$(id -u)" != 0 ] || chown -R 65534:65534 "$work"
}
# Processes that run a program of this test: nobody else's are at these paths.
running() { # [program]
	{ find /proc -maxdepth 2 -name exe -lname "$work/bin/${1:-*}" 2>/dev/null || true; } |
		cut -d/ -f3
}
none_running() { [ -z "$(running)" ]; }
rank_of() { # replica: the child of that replica's agent
	local pid parent
	for pid in $(running llmjob-rank); do
		parent=$(awk '/^PPid:/ {print $2}' "/proc/$pid/status" 2>/dev/null) || continue
		if tr '\0' ' ' <"/proc/$parent/cmdline" | grep -q -- "--replica $1 "; then
			echo "$pid"
		fi
	done
}
explain() {
	tail -n 40 "$out" "$work"/llmjob-*/agent-*.log 2>/dev/null
}
clean_up() {
	local pids
	pids=$(running)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	rm -rf "$work"
}

start() { # the job in the background; its pid is $run
	"${user[@]}" "$work/bin/llmjob" run "$work/job.yaml" --storage "data=$data" --plain \
		>>"$out" 2>&1 &
	run=$!
}
ended() { # seconds: waits for its end; its exit status is $status
	status=0
	timeout "$1" tail --pid=$run -f /dev/null || kill -9 $run
	wait $run || status=$?
}
edit_replicas() { # as editors do: a whole new file in the old one's place
	sed -E "s/^( *replicas:).*/\1 $1/" "$work/job.yaml" >"$work/job.new"
	mv "$work/job.new" "$work/job.yaml"
}
world() { # the newest incarnation
	find "$logs" -name '*.log' -printf '%f\n' 2>/dev/null | sort -n | tail -n 1 | cut -d- -f1
}
step() { # that the newest world has taken, 0 for none
	tail -qn 1 "$logs/$(world)"-0.log 2>/dev/null | awk '{n = $1} END {print n + 0}'
}
past() { [ "$(step)" -ge "$1" ]; }
ranks_past() { # world ranks: it has that many ranks, and each has taken a step
	local now
	now=$(world)
	[ "$now" -gt "$1" ] && [ "$(find "$logs" -name "$now-*.log" -size +0 | wc -l)" = "$2" ]
}
state_of() { jq -r ".$1" "$data/ckpt/kjv/step-$(printf %08d "$2")/manifest.json" || true; }
# The header of a safetensors file lists tensors; the file ends where the last of them does.
whole_safetensors() { # file
	local size
	size=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
	head -c $((size + 8)) "$1" | tail -c "$size" |
		jq -e --argjson rest $(($(stat -c %s "$1") - 8 - size)) \
			'del(.__metadata__) | length > 100 and (map(.data_offsets[1]) | max) == $rest'
}
folders() { find "$work" -maxdepth 1 -name 'llmjob-*' | wc -l; } # of runs, with their logs

trap 'verdict=0; (at_exit) || verdict=$?; clean_up; exit $verdict' EXIT
prepare
started=$SECONDS
start
check "one rank trains" poll 120 "step 2" past 2
agent=$(running llmjob-agent)

echo "-- replicas 1 -> 2 in the file"
old=$(world)
edit_replicas 2
check "two ranks train" poll 120 "a world of two" ranks_past "$old" 2
check "it is the next world" equal "$(world)" $((old + 1))
check "the first agent is the same" test -e "/proc/$agent/exe"

echo "-- SIGKILL of a rank"
old=$(world) agents=$(running llmjob-agent | sort)
check "replica 1 has one rank" equal "$(rank_of 1 | wc -l)" 1
kill -9 "$(rank_of 1)"
check "two ranks train again" poll 120 "a world after the rank's death" ranks_past "$old" 2
check "under the same agents" equal "$(running llmjob-agent | sort)" "$agents"
check "the cause and the rank are named" \
	poll 60 "the end of world $old" grep -qE "world $old ended .*: RankFailed of rank 1" "$out"

echo "-- the same file a second time"
refused_for() { # pid: of the run that has the folders
	local status=0 said
	said=$("${user[@]}" timeout 60 "$work/bin/llmjob" run "$work/job.yaml" \
		--storage "data=$data" --plain 2>&1) || status=$?
	[ $status = 64 ] && grep -qF "in use by process $1 on" <<<"$said" || {
		echo "status $status: $said"
		return 1
	}
}
check "it is refused, and the first is named" refused_for $run

echo "-- SIGKILL of llmjob run"
old=$(world)
kill -9 $run
wait $run || true
check "agents and ranks end with it" poll 60 "the end of all processes" none_running
start
check "the next run goes on" poll 120 "a world after llmjob's death" ranks_past "$old" 2

echo "-- Ctrl-C"
reached=$(step)
kill -INT $run
ended 120
check "it ends, drained" equal $status 71
check "nothing is left running" poll 60 "the end of all processes" none_running
saved=$(sed -n 's/^kjv is suspended at step \([0-9]*\);.*/\1/p' "$out")
check "no step was lost" [ "${saved:-0}" -ge "$reached" ]
check "it was not yet complete" [ "${saved:-$steps}" -lt $steps ]
check "its checkpoint is whole" equal "$(state_of step "${saved:-0}")" "$saved"

echo "-- the same file again"
old=$(world)
start
ended 400
check "it completes" equal $status 0
check "from where the first run ended" equal \
	"$(awk '{print $1; exit}' "$logs/$((old + 1))-0.log")" $((saved + 1))
check "every sample of every step was consumed once" \
	awk -v batch=$batch -v steps=$steps -f tests/e2e/samples.awk "$logs"/*.log
first=$(state_of firstValidationLoss $steps) last=$(state_of validationLoss $steps)
echo "validation loss $first -> $last"
check "the loss fell" jq -en "${last:-9} < ${first:-0} - 0.1"
for file in config.json generation_config.json tokenizer.json tokenizer_config.json; do
	check "the output has $file" jq -e 'type == "object" and length > 0' "$data/out/kjv/$file"
done
check "and the weights, whole" whole_safetensors "$data/out/kjv/model.safetensors"
check "TensorBoard has its events" \
	test -n "$(find "$data/tensorboard/kjv" -name 'events.*' -size +0)"
check "nothing is left running" poll 60 "the end of all processes" none_running

echo "-- its checkpoints"
checkpoint() { "${user[@]}" timeout 60 "$work/bin/llmjob" checkpoint "$@"; }
damaged() { # of a copy, in which a byte of the newest is changed: the file is named
	local copy=$work/copy file status=0 said
	cp -r "$data/ckpt/kjv" "$copy"
	file=$(find "$copy" -path "*/step-$(printf %08d $steps)/rank-*" | sort | head -n 1)
	printf '\377' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 1)) conv=notrunc status=none
	said=$(checkpoint verify "$copy" 2>&1) || status=$?
	[ $status = 66 ] && grep -qF "$file: its hash does not match" <<<"$said" || {
		echo "status $status: $said"
		return 1
	}
}
check "the newest is listed first, with what it is" \
	grep -qE "^ +$steps .* BF16 +complete +LoRA of .*SmolLM2.*gguf\$" <(checkpoint ls "$data/ckpt/kjv" | sed -n 2p)
check "all are whole" checkpoint verify "$data/ckpt/kjv"
check "damage is found and named" damaged
check "how it was laid out can be told beforehand" \
	grep -q '^\* dp2 ' <("${user[@]}" timeout 60 "$work/bin/llmjob" plan "$work/job.yaml" --storage "data=$data" --replicas 2 --memory 4Gi)
check "a run that went well leaves no folder behind" equal "$(folders)" 2
echo "all of it took $((SECONDS - started)) s"

echo "-- mistakes"
wrong() { # status text sed-expression
	local status=0 said
	sed -E "$3" "$work/job.yaml" >"$work/wrong.yaml"
	said=$("${user[@]}" timeout 60 "$work/bin/llmjob" run "$work/wrong.yaml" \
		--storage "data=$data" --plain 2>&1) || status=$?
	[ $status = "$1" ] && grep -qF -- "$2" <<<"$said" || {
		echo "status $status: $said"
		return 1
	}
}
check "a misspelt field is refused" wrong 64 spec.replica: 's/^( *)replicas:/\1replica:/'
check "a missing model ends it, named" \
	wrong 65 "$data/models/none.gguf" 's/SmolLM2.*gguf/none.gguf/'
check "another training's checkpoint is refused" \
	wrong 64 spec.checkpoint.path 's/^( *steps:).*/\1 99/'
check "nothing is left running" poll 60 "the end of all processes" none_running
finish
