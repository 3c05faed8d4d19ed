#!/bin/sh
# Goal: every model that tests read is in the cache before they run, for they have no time to wait
# for it. Method: fetch.sh with patience; it says what could not be had.
cd "$(dirname "$0")" || exit 1
export FETCH_RETRIES="${FETCH_RETRIES:-8}"
failed=0
for model in smollm2 minilm mails movies tokenizer-qwen3 tokenizer-llama3 tokenizer-llama3-1 tokenizer-gemma3 \
	tokenizer-deepseek-v3 tokenizer-gpt2 tokenizer-mon sentencepiece policy openai-node node; do
	./fetch.sh $model >/dev/null || failed=1
done
exit $failed
