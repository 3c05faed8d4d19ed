# demo_standalone.sh: the half of the demo that needs neither root nor a cluster, for demo.sh, which
# sources it: the job files of manifests/samples by `llmjob run` on this machine alone. While the
# training runs it is disturbed as on a cluster: replicas edited, a rank killed, an agent killed,
# which is what a pod deleted by force is.

# Our own programs are copies in $work: nobody else's processes are at these paths.
program() { find /proc -maxdepth 2 -name exe -lname "$work/bin/$1" 2>/dev/null | cut -d/ -f3 || true; }
agent_of() { # replica
	local pid
	for pid in $(program llmjob-agent); do
		! tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q -- "--replica $1 " || echo "$pid"
	done
}
rank_of() { # replica
	local pid agent
	agent=$(agent_of "$1")
	for pid in $(program llmjob-rank); do
		! grep -q "^PPid:[[:space:]]$agent\$" "/proc/$pid/status" 2>/dev/null || echo "$pid"
	done
}
newest_world() {
	find "$samples" -name '*.log' -printf '%f\n' 2>/dev/null | sort -n | tail -n 1 | cut -d- -f1
}
step_of_world() { tail -qn 1 "$samples/$(newest_world)"-0.log 2>/dev/null | awk '{n = $1} END {print n + 0}'; }
steps_past() { [ "$(step_of_world)" -ge "$1" ]; }
world_past() { # world ranks: a later one of so many ranks, and each has taken a step
	local now
	now=$(newest_world)
	[ "${now:-0}" -gt "$1" ] && [ "$(find "$samples" -name "$now-*.log" -size +0 | wc -l)" = "$2" ]
}
trains_again() { # seconds world ranks: two steps further, in a later world
	await "$1" "$3 ranks after world $2" world_past "$2" "$3"
	await "$1" "two more steps" steps_past $(($(step_of_world) + 2))
}
# As lib.sh's poll, but it leaves the cores to what is shown.
await() { # seconds what command...
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		[ $SECONDS -lt $deadline ] || { echo "not in time: $what"; return 1; }
		sleep 0.3
	done
}
told() { printf '%(%T)T  %s\n' -1 "$*" >>"$work/told"; }

# Beside the screen. An editor puts a whole new file in the old one's place.
disturb_run() {
	local world
	await 300 "the first step" steps_past 1
	now_s >"$work/first"
	await 180 "step 5" steps_past 5
	told "replicas: 2 -> 3 in finetune.yaml"
	world=$(newest_world)
	sed 's/^\( *replicas:\).*/\1 3/' "$work/finetune.yaml" >"$work/edited.yaml"
	mv "$work/edited.yaml" "$work/finetune.yaml"
	trains_again 120 "$world" 3
	world=$(newest_world)
	told "kill -9 of the rank of replica 1"
	kill -9 "$(rank_of 1)"
	trains_again 120 "$world" 3
	told "kill -9 of the agent of replica 2, as a pod that is deleted by force"
	kill -9 "$(agent_of 2)"
}

train_standalone() {
	title "train here: llmjob run manifests/samples/finetune.yaml, two replicas"
	echo "While it runs: replicas 2 -> 3 in the file; kill -9 of a rank; kill -9 of an agent."
	mkdir "$work/bin"
	cp "$O"/llmjob "$O"/llmjob-{agent,rank} "$work/bin/"
	cp manifests/samples/finetune.yaml "$work/finetune.yaml"
	: >"$work/told"
	local disturber
	set -m # what it waits with ends with it
	disturb_run >"$work/disturb" 2>&1 &
	disturber=$!
	set +m
	if [ ! -t 1 ]; then tail -n +1 -f --pid=$disturber "$work/told" & fi
	hold env TMPDIR="$work" "$work/bin/llmjob" run "$work/finetune.yaml" --storage "data=$data"
	wait $disturber || { cat "$work/disturb"; exit 1; }
	[ ! -t 1 ] || { echo "What was done to it:" && sed 's/^/  /' "$work/told"; }
}

is_serving() { serving "$work/serve" >/dev/null || ! kill -0 "$run"; }
serve_standalone() {
	title "serve here: llmjob run manifests/samples/serve.yaml"
	local url
	begin "$work/serve" env TMPDIR="$work" "$work/bin/llmjob" run manifests/samples/serve.yaml --storage "data=$data" \
		--plain --port 0
	await 60 "the server" is_serving
	url=$(serving "$work/serve") || { cat "$work/serve"; exit 1; }
	echo "serving at $url/v1"
	ask "$url"
	now_s >"$work/answered"
	echo "(the answer, $(duration "$(cat "$work/answered")") after the start; the limit is 3 min)"
	resume_compiling
	kill -INT $run
	wait $run || [ $? = 71 ] # drained
}

before_and_after() {
	local manifest
	manifest=$(find "$data/ckpt/kjv" -name manifest.json | sort | tail -n 1)
	title "before and after"
	jq -r '"validation loss \(.firstValidationLoss) -> \(.validationLoss)"' "$manifest"
}

standalone() {
	build llmjob llmjob-agent llmjob-rank
	wait $material
	pause_compiling
	train_standalone
	serve_standalone
	before_and_after
}
