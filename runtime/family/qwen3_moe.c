/*
 * qwen3_moe: Qwen3 with a mixture of experts in every layer; the canonical names of experts are
 * its. Layers with one feed-forward among the others (decoder_sparse_step, mlp_only_layers) are
 * refused (keys.c). GGUF files have the experts of a layer as one tensor. Source: transformers'
 * Qwen3MoeConfig and modeling_qwen3_moe.
 */
#include "runtime/family/llama.h"

#include "runtime/family/values.h"

static int json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    int rc;
    if ((rc = values_require(config, path, "attention_bias", false, e)) ||
        (rc = values_require(config, path, "use_sliding_window", false, e)) ||
        (rc = llama_json_read(config, path, c, e)) || (rc = llama_read_experts(config, path, c, e)))
        return rc;
    c->norm_topk = json_bool(config, "norm_topk_prob", false);
    return values_sizes(config, path,
        (const struct values_size[]){{"moe_intermediate_size", 768, &c->expert_ffn_dim}}, 1, e);
}

static void json_write(const struct model_config *c, struct jsonw *w)
{
    llama_json_write(c, w);
    jsonw_bool(w, "attention_bias", false);
    llama_write_switch(c, w);
    jsonw_int(w, "num_experts", c->experts);
    jsonw_int(w, "num_experts_per_tok", c->experts_per_token);
    jsonw_int(w, "moe_intermediate_size", c->expert_ffn_dim);
    jsonw_bool(w, "norm_topk_prob", c->norm_topk);
    jsonw_int(w, "decoder_sparse_step", 1);
    jsonw_open(w, "mlp_only_layers", '[');
    jsonw_close(w);
    llama_write_balance(c, w);
}

const struct family family_qwen3_moe = {
    .architecture = "qwen3_moe",
    .gguf_architecture = "qwen3moe",
    .model_class = "Qwen3MoeForCausalLM",
    .fixed = {.architecture = "qwen3_moe",
        .qk_norm = true,
        .kv_heads = 4, /* where config.json does not say */
        .context = 32768,
        .experts = 128,
        .experts_per_token = 8},
    .free_heads = true,
    .experts = true,
    .json_read = json_read,
    .json_write = json_write,
};
