/*
 * gpt2: layer norms, biases everywhere, learned positions, GELU. Its q, k and v are one matrix, and
 * Hugging Face's Conv1D stores what a layer multiplies by as (in, out). Causal masks that files
 * carry are no weights. Sources: transformers' GPT2Config and modeling_gpt2; llama.cpp's GPT2Model.
 */
#include "runtime/family/family.h"

#include "runtime/family/values.h"

static int read_sizes(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    int rc = values_sizes(config, path,
        (const struct values_size[]){
            {"vocab_size", 50257, &c->vocab},
            {"n_embd", 768, &c->dim},
            {"n_layer", 12, &c->layers},
            {"n_head", 12, &c->heads},
        },
        4, e);
    if (rc)
        return rc;
    return values_sizes(config, path,
        (const struct values_size[]){
            {"n_inner", 4 * c->dim, &c->ffn_dim},
            {"n_positions", 1024, &c->context},
        },
        2, e);
}

static int json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const char *activation = json_str(config, "activation_function", "gelu_new");
    if (strcmp(activation, "gelu_new") && strcmp(activation, "gelu_pytorch_tanh"))
        return err_set(
            e, ERR_DATA, "%s: activation_function \"%.32s\" is not supported", path, activation);
    int rc;
    if ((rc = values_require(config, path, "scale_attn_weights", true, e)) ||
        (rc = values_require(config, path, "scale_attn_by_inverse_layer_idx", false, e)) ||
        (rc = values_require(config, path, "add_cross_attention", false, e)) ||
        (rc = read_sizes(config, path, c, e)))
        return rc;
    c->kv_heads = c->heads;
    c->head_dim = c->dim / c->heads;
    c->norm_eps = (float)json_num(config, "layer_norm_epsilon", 1e-5);
    c->tied_embeddings = json_bool(config, "tie_word_embeddings", true);
    c->dropout = (struct model_dropout){.embed = values_share(config, "embd_pdrop", 0.1),
        .residual = values_share(config, "resid_pdrop", 0.1),
        .attention = values_share(config, "attn_pdrop", 0.1)};
    return 0;
}

static void json_write(const struct model_config *c, struct jsonw *w)
{
    jsonw_int(w, "n_embd", c->dim);
    jsonw_int(w, "n_inner", c->ffn_dim);
    jsonw_int(w, "n_layer", c->layers);
    jsonw_int(w, "n_head", c->heads);
    jsonw_int(w, "n_positions", c->context);
    jsonw_str(w, "activation_function", "gelu_new");
    jsonw_num(w, "layer_norm_epsilon", values_short(c->norm_eps));
    jsonw_num(w, "attn_pdrop", values_short(c->dropout.attention));
    jsonw_num(w, "embd_pdrop", values_short(c->dropout.embed));
    jsonw_num(w, "resid_pdrop", values_short(c->dropout.residual));
}

static const char *const masks[] = {".attn.bias", ".attn.masked_bias", NULL};

const struct family family_gpt2 = {
    .architecture = "gpt2",
    .model_class = "GPT2LMHeadModel",
    .fixed = {.architecture = "gpt2",
        .norm = NORM_LAYER,
        .activation = ACTIVATION_GELU,
        .positions = POSITIONS_LEARNED,
        .qkv_bias = true,
        .o_bias = true,
        .ffn_bias = true,
        .scaled_init = true},
    .json_read = json_read,
    .json_write = json_write,
    .names =
        {
            [FAMILY_HF] =
                {
                    [TENSOR_EMBED] = "transformer.wte",
                    [TENSOR_POSITIONS] = "transformer.wpe",
                    [TENSOR_NORM_ATTENTION] = "ln_1",
                    [TENSOR_Q] = "attn.c_attn",
                    [TENSOR_K] = "attn.c_attn",
                    [TENSOR_V] = "attn.c_attn",
                    [TENSOR_O] = "attn.c_proj",
                    [TENSOR_NORM_FFN] = "ln_2",
                    [TENSOR_UP] = "mlp.c_fc",
                    [TENSOR_DOWN] = "mlp.c_proj",
                    [TENSOR_NORM_FINAL] = "transformer.ln_f",
                },
            [FAMILY_GGUF] =
                {
                    [TENSOR_Q] = "attn_qkv",
                    [TENSOR_K] = "attn_qkv",
                    [TENSOR_V] = "attn_qkv",
                },
        },
    .hf_layers = "transformer.h",
    .hf_optional = "transformer.",
    .hf_transposed = true,
    .superfluous = masks,
};
