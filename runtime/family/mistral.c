/*
 * mistral: Llama without biases, whose attention may see a window of the last tokens. A GGUF file
 * calls it a llama, and its rows of q and k are interleaved likewise. Source: transformers'
 * MistralConfig and modeling_mistral.
 */
#include "runtime/family/llama.h"

#include "runtime/family/values.h"

/* A config.json that does not mention the window has transformers' default; null is none. */
static int json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const struct json *window = json_get(config, "sliding_window");
    int rc = values_require(config, path, "attention_bias", false, e);
    if (rc || (rc = llama_json_read(config, path, c, e)) || (window && json_is_null(window)))
        return rc;
    return values_sizes(
        config, path, (const struct values_size[]){{"sliding_window", 4096, &c->window}}, 1, e);
}

static void json_write(const struct model_config *c, struct jsonw *w)
{
    llama_json_write(c, w);
    if (c->window)
        jsonw_int(w, "sliding_window", c->window);
    else
        jsonw_null(w, "sliding_window");
}

const struct family family_mistral = {
    .architecture = "mistral",
    .gguf_architecture = "llama",
    .model_class = "MistralForCausalLM",
    .text_class = "MistralForSequenceClassification",
    .names = {[FAMILY_HF] = {[TENSOR_CLASSIFIER] = "score"}},
    .fixed = {.architecture = "mistral",
        .kv_heads = 8, /* where config.json does not say */
        .context = 131072},
    .free_heads = true,
    .free_window = true,
    .json_read = json_read,
    .json_write = json_write,
    .gguf_interleaved = true,
};
