#!/bin/bash
# pace.sh [-n PAIRS] BUILD_A BUILD_B: whether a build is as fast as another.
#
# Goal: B trains and serves SmolLM2-135M at no less than 98 % of A's speed. Method: A and B run at the same time, on a
# processor each, and change places: what else the machine does, and how fast it is at the moment, both feel alike. A
# run's speed is the median over its steps of the tokens per second that the program itself reports: starting and saving
# are not in it; of a served model it is the tokens of an answer by the time after its first one, and of a prompt by the
# time to the first. A pair is the geometric mean of its two places; the ratio is the median of PAIRS (3). Below 98 %,
# as many pairs are added twice before it is called slower.
. "$(dirname "$0")/lib.sh"

pairs=3 rounds=3 least=0.98
[ "${1-}" != -n ] || { pairs=$2; shift 2; }
[ $# -eq 2 ] && [ "$pairs" -ge 1 ] && [ "$(nproc)" -ge 2 ] || { sed -n '2s/^# //p' "$0"; exit 2; }
A=$(realpath "$1") B=$(realpath "$2")

median() { sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
column() { awk -v i="$1" '{ print $i }' "$2"; }
# A file of pairs "a b", a measurement a line: medians of both and the median ratio.
summary() { # file
    echo "$(column 1 "$1" | median) $(column 2 "$1" | median) $(awk '{ print $2 / $1 }' "$1" | median)"
}
slower() { awk -v ratio="$1" -v least=$least 'BEGIN { exit !(ratio < least) }'; }

# Starts the job of $work/job.yaml on one processor; what it makes and says is in $work/NAME.
begin_on() { # processor build name storage [flags...]
    local folder=$work/$3
    rm -rf "$folder" && mkdir -p "$folder/tmp"
    TMPDIR=$folder/tmp taskset -c "$1" timeout -k 20 1200 "$2/llmjob" run "$work/job.yaml" \
        --storage "$4" --plain "${@:5}" >"$folder/log" 2>&1 &
    pid=$!
    running+=" $pid"
}
failed_in() { # name
    echo "FAILED   $name, $1"
    tail -n 40 "$work/$1/log" | sed 's/^/  | /'
    return 1
}
# Leaves "A B" in `speed`, in no subshell: what runs is then known to lib.sh.
train() { # processor of A, of B
    local a b
    begin_on "$1" "$A" a "data=$work/data,run=$work/a/run" && a=$pid
    begin_on "$2" "$B" b "data=$work/data,run=$work/b/run" && b=$pid
    wait "$a" || failed_in a || return 1
    wait "$b" || failed_in b || return 1
    running=""
    speed="$(facts rates "$work/a/run/board" 2) $(facts rates "$work/b/run/board" 2)"
}
ask() { # url prompt tokens: tokens of prompt and answer, seconds
    local answer
    answer=$(jq -nc --arg p "$2" --argjson n "$3" '{model: "m", prompt: $p, max_tokens: $n, temperature: 0}' |
        curl -sS --fail --max-time 300 -w ' %{time_total}\n' -H 'content-type: application/json' -d @- "$1/completions")
    echo "$(jq -r '"\(.usage.prompt_tokens) \(.usage.completion_tokens)"' <<<"${answer% *}") ${answer##* }"
}
serving_at() { # name: its url, once it takes requests
    local i
    for ((i = 0; i < 600; i++)); do
        sed -n 's|.* serving at \(http://[^ ]*/v1\)$|\1|p' "$work/$1/log" | grep . && return
        sleep 0.1
    done
    failed_in "$1"
}
# Prompts differ in their first words: nothing that was computed for one serves another.
measure() { # name url: $work/NAME/prefill and decode, a line each time, in tokens per second
    local i long one many
    for i in 1 2 3; do
        long="$i $(head -c 3000 "$work/data/text.txt")"
        read -r -a one < <(ask "$2" "$long" 1)
        awk -v n="${one[0]}" -v s="${one[2]}" 'BEGIN { print n / s }' >>"$work/$1/prefill"
        read -r -a one < <(ask "$2" "$i. In the beginning" 1)
        read -r -a many < <(ask "$2" "$i. In the beginning" 129)
        [ "${many[1]}" -ge 65 ] || { echo "an answer of ${many[1]} tokens is too short"; return 1; }
        awk -v n=$((many[1] - one[1])) -v s="${many[2]}" -v t="${one[2]}" 'BEGIN { print n / (s - t) }' \
            >>"$work/$1/decode"
    done
}
# Leaves "A B" of prompts in `prefill` and of answers in `decode`.
serve() { # processor of A, of B
    local a b one two url_a url_b
    begin_on "$1" "$A" a "data=$work/data" --port 0 && a=$pid
    begin_on "$2" "$B" b "data=$work/data" --port 0 && b=$pid
    url_a=$(serving_at a) && url_b=$(serving_at b) || return 1
    measure a "$url_a" & one=$!
    measure b "$url_b" & two=$!
    wait "$one" && wait "$two" || return 1
    kill -TERM "$a" "$b"
    wait "$a" "$b" || true
    running=""
    prefill="$(median <"$work/a/prefill") $(median <"$work/b/prefill")"
    decode="$(median <"$work/a/decode") $(median <"$work/b/decode")"
}
# Two places make a pair: the geometric means of "A B" and "A B".
mean() { awk -v a="$1" -v b="$2" 'BEGIN { split(a, x); split(b, y); print sqrt(x[1] * y[1]), sqrt(x[2] * y[2]) }'; }
verdict() { # name file: whether more pairs could change it
    local a b ratio word=ok
    read -r a b ratio < <(summary "$2")
    slower "$ratio" && word=FAIL
    printf '%-4s %-34s A %8.1f | B %8.1f tokens/s  ratio %.3f  %d pairs\n' \
        $word "$1" "$a" "$b" "$ratio" "$(wc -l <"$2")"
    if [ $word = ok ]; then pass; else fail; fi
}
needs_more() { # file...
    local file
    for file in "$@"; do
        slower "$(summary "$file" | cut -d ' ' -f 3)" && return
    done
    return 1
}
trains() { # words
    local i round first
    name="train $(sed -E 's/(precision|method)=//g' <<<"$*")"
    write_training "$work/job.yaml" model=smollm2.gguf "$@" length=128 steps=10 save=1000 evaluate=0
    : >"$work/pairs"
    for ((round = 0; round < rounds; round++)); do
        for ((i = 0; i < pairs; i++)); do
            train 0 1 && first=$speed && train 1 0 || { fail; return 0; }
            mean "$first" "$speed" >>"$work/pairs"
        done
        needs_more "$work/pairs" || break
    done
    verdict "$name" "$work/pairs"
}
serves() { # precision
    local i round first_prefill first_decode
    name="serve $1"
    write_serving "$work/job.yaml" smollm2.gguf "$1"
    : >"$work/pairs.prefill" && : >"$work/pairs.decode"
    for ((round = 0; round < rounds; round++)); do
        for ((i = 0; i < pairs; i++)); do
            serve 0 1 && first_prefill=$prefill first_decode=$decode && serve 1 0 || { fail; return 0; }
            mean "$first_prefill" "$prefill" >>"$work/pairs.prefill"
            mean "$first_decode" "$decode" >>"$work/pairs.decode"
        done
        needs_more "$work/pairs.prefill" "$work/pairs.decode" || break
    done
    verdict "$name prefill" "$work/pairs.prefill"
    verdict "$name decode" "$work/pairs.decode"
}
can_fail() { # 3 % less in most pairs is found, 1 % is not
    printf '100 97\n100 97\n100 103\n100 97\n100 96\n' >"$work/pairs"
    if needs_more "$work/pairs"; then pass; else fail; fi
    printf '100 99\n100 99\n100 90\n100 99\n100 103\n' >"$work/pairs"
    if needs_more "$work/pairs"; then fail; else pass; fi
}

begin
add_texts
add_smollm2
can_fail
for words in "precision=BF16 method=LoRA" "precision=BF16 method=Full" "precision=FP32 method=LoRA"; do
    trains $words ranks=1
done
trains precision=BF16 method=LoRA ranks=2
serves BF16
finished=1
