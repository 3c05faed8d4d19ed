#!/bin/bash
# bits.sh [-q] [-c PATTERN] BUILD_A BUILD_B: whether two builds compute the same to the bit.
#
# Goal: whatever the sources look like, what users get stays the same: the losses of every step (all bits that
# TensorBoard's points have), the samples of every step, checkpoints, exported folders and the answers of a served
# model, byte for byte; a checkpoint of A is resumed by B to the very end that A reaches; and no rank of B takes more
# memory. Method: each case runs one job with A's programs, then with B's, by `llmjob run`, and compares what both left.
# The first cases must be found to differ. -q leaves out most worlds of the tiny models and the training of smollm2;
# -c takes only the cases whose printed names match the shell pattern, as in -c '*smollm2*'.
#
# A line a case: `same` or `DIFFERS` and what, with the peaks of resident memory of each rank.
. "$(dirname "$0")/lib.sh"

usage() { sed -n '2s/^# //p' "$0"; exit 2; }
quick="" only="*" cases=0
while getopts qc: option; do
    case $option in
    q) quick=1 ;;
    c) only=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 2 ] || usage
A=$(realpath "$1") B=$(realpath "$2")
slack_kib=4096 slack_percent=2

wanted() { # whether the case `name` is; then nothing is left of the former
    [[ $name == $only ]] || return 1
    cases=$((cases + 1))
    rm -rf "$work"/{A,B,run,answers,resident}
}
# ---- running -------------------------------------------------------------------------------------
# What a run left goes to $work/SIDE: board as text, so that its times and the host's name are gone.
train() { # side build
    start "$2" "data=$work/data,run=$work/run" --rank-program "$work/rank"
    ended || { explain "$name, $1"; return 1; }
    facts points "$work/run/board" >"$work/run/points"
    rm -rf "$work/run/board"
    sort -n "$work/peaks" >"$work/run/peaks"
    mv "$work/run" "$work/$1"
}
# Everything that a case compares was made, or it compares nothing.
whole() { # side steps
    [ "$(grep -c ' loss/train ' "$work/$1/points")" = "$2" ] &&
        [ -n "$(find "$work/$1/ckpt" -path '*/step-*/rank-*.safetensors')" ] &&
        [ -s "$work/$1/ckpt/samples/1-0.log" ] && [ -s "$work/$1/out/model.safetensors" ]
}
# ---- comparing -----------------------------------------------------------------------------------
# Names of checkpoints' files hold hashes of their contents; manifests hold no times, metrics.jsonl does. What A does not know is in B's
# manifests alone, and with it their own digest.
manifest() { # file A's
    jq -S --slurpfile a "$2" 'def known($of): with_entries(select(.key | in($of)));
        del(.xxh3) | known($a[0]) | .identity |= known($a[0].identity)' "$1"
}
checkpoint() {
    local path
    diff -rq -x samples -x tokens -x .llmjob-owner -x lock -x metrics.jsonl -x manifest.json "$work/A/ckpt" "$work/B/ckpt" || return
    for path in "$work"/A/ckpt/step-*/manifest.json; do
        diff <(manifest "$path" "$path") <(manifest "$work/B${path#"$work/A"}" "$path") >"$work/diff" ||
            { head -n 5 "$work/diff"; return 1; }
    done
}
samples() { diff -rq "$work/A/ckpt/samples" "$work/B/ckpt/samples"; }
output() { diff -rq "$work/A/out" "$work/B/out"; }
losses() { diff "$work/A/points" "$work/B/points" >"$work/diff" || { head -n 5 "$work/diff"; false; }; }
answers() { diff "$work/A/answers" "$work/B/answers" >"$work/diff" || { head -n 5 "$work/diff"; false; }; }
memory() {
    [ -s "$work/A/peaks" ] && [ "$(wc -l <"$work/A/peaks")" = "$(wc -l <"$work/B/peaks")" ] &&
        paste "$work/A/peaks" "$work/B/peaks" | awk -v slack=$slack_kib -v percent=$slack_percent \
            '$2 > $1 * (1 + percent / 100) + slack { print $1 " KiB, then " $2; bad = 1 } END { exit bad }'
}
differences() { # what...: those that differ; what they say goes to $work/said
    local what
    : >"$work/said"
    for what in "$@"; do "$what" >>"$work/said" 2>&1 || printf ' %s' "$what"; done
}
peaks() { awk '{ printf "%s%.1f", (NR > 1) ? " " : "", $1 / 1024 }' "$1"; }
report() { # what...
    local differ
    differ=$(differences "$@")
    if [ -z "$differ" ]; then
        pass
        printf 'same     %-58s A %s | B %s MiB\n' "$name" "$(peaks "$work/A/peaks")" "$(peaks "$work/B/peaks")"
    else
        fail
        printf 'DIFFERS  %s:%s\n' "$name" "$differ"
        sed "s|$work/||g; s/^/  | /" "$work/said" | head -n 20
    fi
}
short() { sed -E 's/(model|precision|method)=//g' <<<"$*"; }
# ---- cases ---------------------------------------------------------------------------------------
case_of() { # words: a training
    local steps=50
    name=$(short "$@")
    wanted || return 0
    write_training "$work/job.yaml" "$@"
    train A "$A" && train B "$B" || { fail; return 0; }
    whole A $steps && whole B $steps || { explain "$name: it did not leave all that is compared"; fail; return 0; }
    report losses samples checkpoint output memory
}
must_differ() { # what command: after the command changed something of B
    local differ
    differ=$(differences losses samples checkpoint output memory)
    if [ "$differ" = "$1" ]; then
        pass
        echo "differs, as it must: $name:$differ"
    else
        fail
        echo "FAILED   $name: found to differ:${differ:- nothing}; wanted:$1"
    fi
}
can_fail() {
    name="A with another seed"
    write_training "$work/job.yaml" model=llama
    train A "$A" || { fail; return 0; }
    write_training "$work/job.yaml" model=llama seed=8
    train B "$A" || { fail; return 0; }
    must_differ " losses samples checkpoint output"

    name="a bit of the exported weights"
    rm -rf "$work/B" && cp -r "$work/A" "$work/B"
    printf '\001' | dd of="$work/B/out/model.safetensors" bs=1 conv=notrunc status=none \
        seek=$(($(stat -c %s "$work/B/out/model.safetensors") - 1))
    must_differ " output"

    name="the last bit of one loss"
    rm -rf "$work/B" && cp -r "$work/A" "$work/B"
    awk '$1 == 50 && $2 == "loss/train" { last = substr($3, 8); $3 = substr($3, 1, 7) (last == "0" ? "1" : "0") } 1' \
        "$work/A/points" >"$work/B/points"
    must_differ " losses"

    name="more memory"
    awk '{ print int($1 * 1.02) + 4098 }' "$work/A/peaks" >"$work/B/peaks"
    cp "$work/A/points" "$work/B/points"
    must_differ " memory"
}
# A checkpoint of A at step 25, continued by B, against A's own end.
resumes() { # words
    name="resumed: $(short "$@")"
    wanted || return 0
    write_training "$work/job.yaml" "$@"
    train A "$A" || { fail; return 0; }
    whole A 50 || { explain "$name: it did not leave all that is compared"; fail; return 0; }
    mkdir "$work/run" && cp -r "$work/A/ckpt" "$work/run"
    rm -r "$work/run/ckpt/step-00000050"
    train B "$B" || { fail; return 0; }
    # The world's number is another, and both worlds' points and samples follow one another.
    local side log
    for side in A B; do
        sed -i -E 's/"xxh3":"[0-9a-f]{16}","version"/"version"/; s/"incarnation":[0-9]+/"incarnation":0/' \
            "$work/$side"/ckpt/step-*/manifest.json
        rm -f "$work/$side/ckpt/incarnation"
        awk '$1 > 25' "$work/$side/points" >"$work/$side/later"
        mv "$work/$side/later" "$work/$side/points"
    done
    for log in "$work"/A/ckpt/samples/1-*.log; do
        sed -i '/^2[6-9] /,$!d' "$log"
        mv "$work/B/ckpt/samples/2-${log##*-}" "$work/B/ckpt/samples/1-${log##*-}" || true
    done
    whole A 25 && whole B 25 || { explain "$name: it did not leave all that is compared"; fail; return 0; }
    report losses samples checkpoint output memory
}
ask() { # url endpoint body
    curl -sS --fail-with-body --max-time 120 -H 'content-type: application/json' -d "$3" "$1/$2" |
        jq -c 'del(.id, .created)'
}
questions() { # url model
    local prompt i=0
    for prompt in "In the beginning" "And God said, Let there be" "1 2 3 4" "Now the sons of Noah were three;"; do
        i=$((i + 1))
        ask "$1" completions "$(jq -nc --arg p "$prompt" '{model: "m", prompt: $p, max_tokens: 64, temperature: 0}')"
        ask "$1" completions "$(jq -nc --arg p "$prompt" --argjson s $i \
            '{model: "m", prompt: $p, max_tokens: 64, temperature: 1, top_p: 0.9, seed: $s}')"
    done
    [[ $2 != smollm2.gguf ]] || ask "$1" chat/completions '{"model": "m", "max_tokens": 64, "temperature": 0,
        "messages": [{"role": "user", "content": "Who made the heaven?"}]}'
}
serve() { # side build model
    local url status=0
    start "$2" "data=$work/data" --rank-program "$work/rank" --port 0
    url=$(serving) && questions "$url" "$3" >"$work/answers" 2>&1 || { explain "$name, $1"; return 1; }
    awk '$1 == "VmHWM:" { print $2 }' "/proc/$(cat "$work/pids")/status" >"$work/resident"
    kill -TERM "$running"
    ended || status=$?
    [ $status = 71 ] || { explain "$name, $1: ended with $status"; return 1; } # drained
    mkdir "$work/$1"
    mv "$work/answers" "$work/$1/"
    mv "$work/resident" "$work/$1/peaks"
}
serves() { # model precision
    name="served: $1 $2"
    wanted || return 0
    write_serving "$work/job.yaml" "$@"
    serve A "$A" "$1" && serve B "$B" "$1" || { fail; return 0; }
    if grep -v completion_tokens "$work/A/answers" || [ "$(wc -l <"$work/A/answers")" -lt 8 ]; then
        explain "$name: not each question has an answer"
        fail
        return 0
    fi
    report answers memory
}

tiny_cases() {
    local models=(llama gpt2 qwen2) methods=(Full LoRA "LoRA dropout=0.1") worlds=(1 2 4)
    local recompute=(None Selective Full) m p t w precision
    for m in 0 1 2; do
        for p in 0 1; do
            for t in 0 1 2; do
                for w in 0 1 2; do # the quick ones are a Latin square: each method meets each world and recomputation
                    [ -z "$quick" ] || [ $w = $(((m + p + t) % 3)) ] || continue
                    [ $p = 0 ] && precision=FP32 || precision=BF16
                    case_of model=${models[m]} precision=$precision method=${methods[t]} ranks=${worlds[w]} \
                        recompute=${recompute[(m + 2 * t + w) % 3]}
                done
            done
        done
    done
    case_of model=llama precision=BF16 replicas=2 schedule=Linear
    [ -n "$quick" ] || case_of model=llama precision=FP32 replicas=2 ranks=2 method=LoRA schedule=Constant
    case_of model=llama init=Random data=lines.jsonl clip=0
}

objective_cases() {
    local words
    for words in "objective=MaskedLM model=bert-masked data=text.txt" \
        "objective=TokenClassification model=bert data=words.conll held=held-words.conll" \
        "objective=SequenceClassification model=bert-texts data=texts.jsonl held=held-texts.jsonl" \
        "objective=SequenceClassification model=bert-texts data=sets.jsonl held=held-sets.jsonl" \
        "objective=DPO data=answers.jsonl method=LoRA" \
        "objective=PairMatching model=bert data=pairs.jsonl held=held-pairs.jsonl" \
        "objective=PairMatching model=bert data=alike.jsonl held=held-alike.jsonl pair=Cosine"; do
        case_of $words length=48 ranks=2
        [ -n "$quick" ] || case_of $words length=48 ranks=1 precision=BF16
    done
}

smollm2_cases() {
    local words ranks
    for words in "precision=FP32 method=LoRA" "precision=BF16 method=LoRA dropout=0.05" "precision=BF16 method=Full"; do
        for ranks in 1 2; do
            case_of model=smollm2.gguf $words ranks=$ranks length=32 batch=2 save=50 evaluate=25
        done
    done
    [ ! -d "$work/A/out" ] || mv "$work/A/out" "$work/data/trained" # weights in a Hugging Face folder
}

begin
add_texts
add_tiny
add_objectives
[ -n "$quick" ] && echo "quick: one world of each" || echo "all cases"
started=$SECONDS
can_fail
tiny_cases
objective_cases
resumes model=llama precision=BF16 method=LoRA dropout=0.1 ranks=2
resumes objective=TokenClassification model=bert data=words.conll held=held-words.conll length=48
serves llama FP32
serves gpt2 BF16
if [ -z "$quick" ]; then
    resumes model=gpt2 precision=FP32
    serves llama BF16
    serves gpt2 FP32
    serves qwen2 FP32
    serves qwen2 BF16
    add_smollm2
    smollm2_cases
    for precision in FP32 BF16; do
        serves smollm2.gguf $precision
        [ ! -d "$work/data/trained" ] || serves trained $precision
    done
fi
[ $cases -gt 0 ] || { echo "no case matches $only"; exit 1; }
echo "all of it took $((SECONDS - started)) s"
finished=1
