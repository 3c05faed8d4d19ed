#!/bin/bash
# communication.sh [-s STEPS] [-h LOCAL] [FORM...]: a small Llama learns the King James text by two replicas, with the same seed: each
# step's gradient summed up in FP32, in BF16 and in Int8. After 500 steps from nothing the loss of held-out verses is within 1 % of
# FP32's. Then it learns for 500 steps more, by each step's gradient in FP32, and with 16 (LOCAL) local steps between outer ones, whose
# changes cross in FP32 (Local) and in Int8 (LocalInt8): within 3 %. Of the bytes that a rank sends in a step as much less as there should
# be. FORM is one of these. Five minutes of one core's time.
A=$(realpath "${O:-$(dirname "$0")/../../build}") B=$A
. "$(dirname "$0")/lib.sh"
steps=500 local=16
while getopts s:h: o; do
    case $o in
    s) steps=$OPTARG ;;
    h) local=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- BF16 Int8 Local LocalInt8

train() { # name communication [key=value...]: its last validation loss and the bytes of a step to $work/loss.name
    write_training "$work/job.yaml" data=kjv.txt length=64 batch=8 steps="$steps" save=0 evaluate=0 replicas=2 "${@:3}"
    echo "    communication: {$2}" >>"$work/job.yaml"
    rm -rf "$work/run"
    mkdir "$work/run"
    start "$A" "data=$work/data,run=$work/run"
    ended || { explain "$1"; fail; return 1; }
    jq -rs '[.[] | select(.validationLoss)][-1].validationLoss, ([.[] | select(.step > 1 and .sentBytes) | .sentBytes] | add / length)' \
        "$work/run/ckpt/metrics.jsonl" | paste -sd ' ' >"$work/loss.$1"
    [ "$(wc -w <"$work/loss.$1")" = 2 ] || { explain "$1: no validation loss"; fail; return 1; }
}
fresh() { train "$1" "$2" model=small init="Random, config: /data/config.json" rate=0.003; }
more() { train "$1" "$2" model=learnt rate=0.001 seed=8; }
compare() { # name other [off least]: at most so far off, at least so many times less
    awk -v p="$1" -v n="$steps" -v most="$3" -v least="$4" '{ x[NR] = $1; sent[NR] = $2 } END {
        less = sent[1] / sent[2]
        off = x[2] / x[1] - 1
        printf "%d steps: validation loss %.4f in FP32, %.4f with %s (%+.2f %%); %.0f bytes a step, %.2f times less\n",
            n, x[1], x[2], p, 100 * off, sent[2], less
        exit off > most || less < least
    }' "$work/loss.$2" "$work/loss.$1" && pass || fail
}

begin
"$top/tests/e2e/kjv" "$work/data/kjv.txt"
cp -r "$top/tests/golden/tiny-llama" "$work/data/small" # lends its tokenizer, which follows
jq -n '{architectures: ["LlamaForCausalLM"], model_type: "llama", vocab_size: 256, hidden_size: 160, intermediate_size: 448,
    num_hidden_layers: 4, num_attention_heads: 5, num_key_value_heads: 5, max_position_embeddings: 256, rms_norm_eps: 1e-5,
    rope_theta: 10000, hidden_act: "silu", tie_word_embeddings: true, bos_token_id: 0, eos_token_id: 0}' >"$work/data/config.json"
head -c 200000 "$work/data/kjv.txt" | iconv -c -t ASCII >"$work/learnt"
facts tokenizer "$work/learnt" 256 "$work/data/small/tokenizer.json"
fresh FP32 "gradients: FP32" || exit 1
mv "$work/run/out" "$work/data/learnt"
for form in "$@"; do
    case $form in
    BF16) fresh BF16 "gradients: BF16" && compare BF16 FP32 0.01 1.99 ;;
    Int8) fresh Int8 "gradients: Int8" && compare Int8 FP32 0.01 3.9 ;;
    Local*)
        [ -s "$work/loss.more" ] || more more "gradients: FP32" || exit 1
        [ "$form" = Local ] && gradients=FP32 less=0.95 || gradients=Int8 less=3.6
        more "$form" "gradients: $gradients, localSteps: $local" &&
            compare "$form" more 0.03 "$(jq -n "$less * $local")"
        ;;
    esac
done
finished=1
