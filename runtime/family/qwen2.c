/*
 * qwen2: Llama with biases of q, k and v, always, and of nothing else. Rows of GGUF files are in
 * canonical order. Source: transformers' Qwen2Config and modeling_qwen2.
 */
#include "runtime/family/llama.h"

static int json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    int rc = llama_json_read(config, path, c, e);
    return rc ? rc : llama_window_by_switch(config, path, c, e);
}

static void json_write(const struct model_config *c, struct jsonw *w)
{
    llama_json_write(c, w);
    llama_write_switch(c, w);
}

const struct family family_qwen2 = {
    .architecture = "qwen2",
    .model_class = "Qwen2ForCausalLM",
    .text_class = "Qwen2ForSequenceClassification",
    .names = {[FAMILY_HF] = {[TENSOR_CLASSIFIER] = "score"}},
    .fixed = {.architecture = "qwen2", .qkv_bias = true},
    .free_heads = true,
    .free_window = true,
    .json_read = json_read,
    .json_write = json_write,
};
