#!/bin/bash
# unlike.sh [STEPS]: two replicas of one core each, of which one is stopped for two thirds of the time: a small Llama with random weights,
# by equal shares of the batch and by measured ones. A step by measured ones takes at most 0.72 of what it takes by equal ones (0.5
# is what there is to gain), losses stay within 1e-5, and each sequence of each step is learnt from once; what is told names the slow
# rank. The machine should do nothing else. 40 STEPS; half a minute on two cores.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
steps=${1-40}
batch=16 length=64
[ "$(nproc)" -ge 2 ] || { echo "SKIP: a single core"; exit 77; }

# Stands in a rank's place: that of replica i on core i alone, as its parent, the agent, says; the rank of replica 1 runs 10 ms of 30.
cores() {
    cat >"$work/slow.py" <<-E
	import os, signal, sys, time
	def signal_all(number):
	    for pid in open("/proc/%s/task/%s/children" % (sys.argv[1], sys.argv[1])).read().split():
	        if int(pid) != os.getpid(): os.kill(int(pid), number)
	try:
	    while True:
	        signal_all(signal.SIGSTOP); time.sleep(0.02)
	        signal_all(signal.SIGCONT); time.sleep(0.01)
	except OSError:
	    pass # it has ended
	E
    cat >"$work/pinned" <<-E
	#!/bin/sh
	replica=\$(tr '\\0' '\\n' <"/proc/\$PPID/cmdline" | sed -n '/^--replica\$/{n;p}')
	[ "\$replica" = 0 ] || "$python" -IS "$work/slow.py" \$\$ 3>&- 4>&- &
	exec taskset -c "\$replica" "$work/rank"
	E
    chmod +x "$work/pinned"
}
train() { # balance: seconds of a step, the median of the last half; losses to $work/losses.$1
    write_training "$work/job.yaml" model=llama init=Random data=text.txt length=$length batch=$batch steps="$steps" save=0 evaluate=0 replicas=2
    sed -i 's|init: Random}|init: Random, config: /data/small.json}|' "$work/job.yaml"
    echo "  parallelism: {balance: $1}" >>"$work/job.yaml"
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run" --rank-program "$work/pinned"
    ended || { explain "$1" >&2; return 1; }
    jq -r 'select(.loss) | "\(.step) \(.loss)"' "$work/run/ckpt/metrics.jsonl" >"$work/losses.$1"
    [ "$(wc -l <"$work/losses.$1")" = "$steps" ] || return 1
    jq -s "[.[] | select(.seconds and .step > $steps / 2) | .seconds] | sort | .[length / 2 | floor]" "$work/run/ckpt/metrics.jsonl"
}
samples() { # of each step of the last run: sequences by replica; exits 1 where one is left out or there twice
    cat "$work"/run/ckpt/samples/*.log | sort -n -k 1 -k 2 | awk -v batch=$batch -v steps="$steps" '
        $1 != step { if (step && next_ != step * batch) bad = 1; step = $1; next_ = (step - 1) * batch; seen++; line = "" }
        $2 != next_ || NF != $3 + 3 { bad = 1 }
        { next_ += $3; line = line " " $3 }
        END { print line; exit bad || seen != steps || next_ != steps * batch }'
}

begin
add_texts
add_tiny
jq '. + {hidden_size: 128, intermediate_size: 344, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32,
    max_position_embeddings: 128}' "$work/data/llama/config.json" >"$work/data/small.json"
cores
equal=$(train Equal) || { fail; exit 1; }
samples >"$work/shares" && [ "$(cat "$work/shares")" = " 8 8" ] && pass || { echo "equal shares: $(cat "$work/shares")"; fail; }
measured=$(train Measured) || { fail; exit 1; }
samples >"$work/shares" && pass || { echo "a sequence is missing or there twice"; fail; }
grep "by measured speed.*rank 1 on local" "$work/log" && pass || { explain "nothing is told of shares"; fail; }
awk -v a="$equal" -v b="$measured" -v shares="$(cat "$work/shares")" 'BEGIN {
    printf "a step takes %.3f s by equal shares, 8 8, and %.3f s by measured ones,%s: %.2f times as long\n", a, b, shares, b / a
    exit b > 0.72 * a }' && pass || fail
paste -d ' ' "$work/losses.Equal" "$work/losses.Measured" | awk '
    { off = $4 / $2 - 1; off = off < 0 ? -off : off; most = off > most ? off : most; if ($1 != $3) bad = 1 }
    END { printf "losses are at most %.2g apart, relatively\n", most; exit bad || most > 1e-5 }' && pass || fail
finished=1
