/*
 * qwen3: Llama with a norm of each head of q and k, heads of a size of their own, and no biases.
 * Rows of GGUF files are in canonical order. Source: transformers' Qwen3Config and modeling_qwen3.
 */
#include "runtime/family/llama.h"

#include "runtime/family/values.h"

static int json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    int rc = values_require(config, path, "attention_bias", false, e);
    if (!rc)
        rc = llama_json_read(config, path, c, e);
    return rc ? rc : llama_window_by_switch(config, path, c, e);
}

static void json_write(const struct model_config *c, struct jsonw *w)
{
    llama_json_write(c, w);
    jsonw_bool(w, "attention_bias", false);
    llama_write_switch(c, w);
}

const struct family family_qwen3 = {
    .architecture = "qwen3",
    .model_class = "Qwen3ForCausalLM",
    .text_class = "Qwen3ForSequenceClassification",
    .names = {[FAMILY_HF] = {[TENSOR_CLASSIFIER] = "score"}},
    .fixed = {.architecture = "qwen3",
        .qk_norm = true,
        .kv_heads = 32, /* where config.json does not say */
        .head_dim = 128,
        .context = 32768},
    .free_heads = true,
    .free_window = true,
    .json_read = json_read,
    .json_write = json_write,
};
