/*
 * mixtral: Mistral with a mixture of experts in every layer, each as large as Mistral's one
 * feed-forward; the weights of those chosen always add up to 1. A GGUF file calls it a llama. Noise
 * of the router in training (router_jitter_noise) is refused (keys.c). Source: transformers'
 * MixtralConfig and modeling_mixtral.
 */
#include "runtime/family/llama.h"

#include "runtime/family/values.h"

static int json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const struct json *window = json_get(config, "sliding_window");
    int rc;
    if ((rc = values_require(config, path, "attention_bias", false, e)) ||
        (rc = llama_json_read(config, path, c, e)) || (rc = llama_read_experts(config, path, c, e)))
        return rc;
    c->expert_ffn_dim = c->ffn_dim;
    if (!window || json_is_null(window))
        return 0;
    return values_sizes(
        config, path, (const struct values_size[]){{"sliding_window", 0, &c->window}}, 1, e);
}

static void json_write(const struct model_config *c, struct jsonw *w)
{
    llama_json_write(c, w);
    if (c->window)
        jsonw_int(w, "sliding_window", c->window);
    else
        jsonw_null(w, "sliding_window");
    jsonw_int(w, "num_local_experts", c->experts);
    jsonw_int(w, "num_experts_per_tok", c->experts_per_token);
    llama_write_balance(c, w);
}

const struct family family_mixtral = {
    .architecture = "mixtral",
    .gguf_architecture = "llama",
    .model_class = "MixtralForCausalLM",
    .fixed = {.architecture = "mixtral",
        .kv_heads = 8, /* where config.json does not say */
        .context = 131072,
        .experts = 8,
        .experts_per_token = 2,
        .norm_topk = true},
    .free_heads = true,
    .free_window = true,
    .experts = true,
    .json_read = json_read,
    .json_write = json_write,
    .gguf_interleaved = true,
    .names[FAMILY_HF] = {[TENSOR_ROUTER] = "block_sparse_moe.gate",
        [TENSOR_EXPERT_GATE] = "block_sparse_moe.experts.*.w1",
        [TENSOR_EXPERT_UP] = "block_sparse_moe.experts.*.w3",
        [TENSOR_EXPERT_DOWN] = "block_sparse_moe.experts.*.w2"},
    .hf_layers = "model.layers",
};
