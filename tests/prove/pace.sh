#!/bin/bash
# pace.sh [-n PAIRS] BUILD_A BUILD_B: whether a build is as fast as another.
#
# Goal: B trains and serves SmolLM2-135M at no less than 98 % of A's speed. Method: A and B take turns; a run's speed is
# the median over its steps of the tokens per second that the program itself reports: starting and saving are not in
# it; of a served model it is the tokens of an answer by the time after its first one, and of a prompt by the time to
# the first. The ratio is the median of the pairs' own. Below 98 % after PAIRS (5), as many pairs are added twice before
# it is called slower. On a machine that does other things, too, it says nothing.
. "$(dirname "$0")/lib.sh"

pairs=5 rounds=3 least=0.98
[ "${1-}" != -n ] || { pairs=$2; shift 2; }
[ $# -eq 2 ] && [ "$pairs" -ge 5 ] || { sed -n '2s/^# //p' "$0"; exit 2; }
A=$(realpath "$1") B=$(realpath "$2")

median() { sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
column() { awk -v i="$1" '{ print $i }' "$2"; }
# A file of pairs "a b", a measurement a line: medians of both and the median ratio.
summary() { # file
    echo "$(column 1 "$1" | median) $(column 2 "$1" | median) $(awk '{ print $2 / $1 }' "$1" | median)"
}
slower() { awk -v ratio="$1" -v least=$least 'BEGIN { exit !(ratio < least) }'; }

# Both leave what they measured in `speed`, in no subshell: what runs is then known to lib.sh.
train() { # build: tokens per second
    rm -rf "$work/run"
    start "$1" "data=$work/data,run=$work/run"
    ended || { explain "$name"; return 1; }
    speed=$(facts rates "$work/run/board" 4)
}
ask() { # url prompt tokens: tokens of prompt and answer, seconds
    local answer
    answer=$(jq -nc --arg p "$2" --argjson n "$3" '{model: "m", prompt: $p, max_tokens: $n, temperature: 0}' |
        curl -sS --fail --max-time 300 -w ' %{time_total}\n' -H 'content-type: application/json' -d @- "$1/completions")
    echo "$(jq -r '"\(.usage.prompt_tokens) \(.usage.completion_tokens)"' <<<"${answer% *}") ${answer##* }"
}
# Prompts differ in their first words: nothing that was computed for one serves another.
measure() { # url: a line "prefill decode" each time, in tokens per second
    local i long one many
    for i in 1 2 3 4 5; do
        long="$i $(head -c 3000 "$work/data/text.txt")"
        read -r -a one < <(ask "$1" "$long" 1)
        awk -v n="${one[0]}" -v s="${one[2]}" 'BEGIN { print n / s }' >>"$work/prefill"
        read -r -a one < <(ask "$1" "$i. In the beginning" 1)
        read -r -a many < <(ask "$1" "$i. In the beginning" 129)
        [ "${many[1]}" -ge 65 ] || { echo "an answer of ${many[1]} tokens is too short"; return 1; }
        awk -v n=$((many[1] - one[1])) -v s="${many[2]}" -v t="${one[2]}" 'BEGIN { print n / (s - t) }' >>"$work/decode"
    done
}
serve() { # build: tokens per second of prompt and of answer
    local url status=0
    rm -f "$work/prefill" "$work/decode"
    start "$1" "data=$work/data" --port 0
    url=$(serving) && measure "$url" || { explain "$name"; return 1; }
    kill -TERM "$running"
    ended || status=$?
    [ $status = 71 ] || { explain "$name: ended with $status"; return 1; }
    speed="$(median <"$work/prefill") $(median <"$work/decode")"
}
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
    local i round a
    name=$(sed -E 's/(precision|method)=//g' <<<"$*")
    write_training "$work/job.yaml" model=smollm2.gguf "$@" length=128 steps=20 save=1000 evaluate=0
    : >"$work/pairs"
    for ((round = 0; round < rounds; round++)); do
        for ((i = 0; i < pairs; i++)); do
            train "$A" && a=$speed && train "$B" || { fail; return 0; }
            echo "$a $speed" >>"$work/pairs"
        done
        needs_more "$work/pairs" || break
    done
    verdict "train $name" "$work/pairs"
}
serves() { # precision
    local i round a
    name="serve $1"
    write_serving "$work/job.yaml" smollm2.gguf "$1"
    : >"$work/pairs.prefill" && : >"$work/pairs.decode"
    for ((round = 0; round < rounds; round++)); do
        for ((i = 0; i < pairs; i++)); do
            serve "$A" && a=$speed && serve "$B" || { fail; return 0; }
            echo "${a% *} ${speed% *}" >>"$work/pairs.prefill"
            echo "${a#* } ${speed#* }" >>"$work/pairs.decode"
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
    trains $words ranks=2
done
serves BF16
finished=1
