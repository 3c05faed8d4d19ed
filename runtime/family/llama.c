/*
 * llama: the family whose names are the canonical ones. In GGUF files the rows of q and k are
 * interleaved, and only the tensors tell which biases there are. Sources: transformers' LlamaConfig
 * and modeling_llama; llama.cpp's LlamaModel.permute.
 */
#include "runtime/family/llama.h"

#include "runtime/family/rotary.h"
#include "runtime/family/values.h"

#include <math.h>

static int read_sizes(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    int rc = values_sizes(config, path,
        (const struct values_size[]){
            {"vocab_size", 0, &c->vocab},
            {"hidden_size", 0, &c->dim},
            {"num_hidden_layers", 0, &c->layers},
            {"num_attention_heads", 0, &c->heads},
        },
        4, e);
    if (rc)
        return rc;
    return values_sizes(config, path,
        (const struct values_size[]){
            {"num_key_value_heads", c->kv_heads ? c->kv_heads : c->heads, &c->kv_heads},
            {"head_dim", c->head_dim ? c->head_dim : c->dim / c->heads, &c->head_dim},
            {"intermediate_size", 0, &c->ffn_dim},
            {"max_position_embeddings", c->context ? c->context : 2048, &c->context},
        },
        4, e);
}

/* As transformers counts labels: by id2label, else num_labels, else two. */
static int read_labels(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const char *class = json_string_value(json_first(json_get(config, "architectures")));
    const char *texts = family_of(c)->text_class;
    const struct json *names = json_get(config, "id2label");
    if (!class || !texts || strcmp(class, texts))
        return 0;
    c->last = true;
    c->several = !strcmp(json_str(config, "problem_type", ""), "multi_label_classification");
    if (!json_is_object(names))
        return values_sizes(
            config, path, (const struct values_size[]){{"num_labels", 2, &c->labels}}, 1, e);
    c->labels = json_count(names);
    return c->labels ? 0 : err_set(e, ERR_DATA, "%s: id2label names no label", path);
}

int llama_json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const char *activation = json_str(config, "hidden_act", "silu");
    int rc = rotary_json_read(config, path, c, e);
    if (rc)
        return rc;
    if (strcmp(activation, "silu"))
        return err_set(e, ERR_DATA, "%s: hidden_act \"%.32s\" is not supported", path, activation);
    if ((rc = read_sizes(config, path, c, e)) || (rc = read_labels(config, path, c, e)))
        return rc;
    c->norm_eps = (float)json_num(config, "rms_norm_eps", 1e-6);
    c->tied_embeddings = json_bool(config, "tie_word_embeddings", false);
    c->dropout.attention = values_share(config, "attention_dropout", 0);
    return 0;
}

/* Layers below max_window_layers see all, but where layer_types says of each what it does. */
int llama_window_by_switch(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const struct json *first = json_first(json_get(config, "layer_types"));
    const char *kind = json_string_value(first);
    const struct json *window = json_get(config, "sliding_window");
    double below = json_num(config, "max_window_layers", 28);
    if (!json_bool(config, "use_sliding_window", false) || (window && json_is_null(window)))
        return 0;
    if (first ? !kind || strcmp(kind, "sliding_attention") != 0 : below >= (double)c->layers)
        return 0;
    if (!first && below > 0)
        return err_set(e, ERR_DATA,
            "%s: max_window_layers = %g of %lld layers: layers with and without a window are not "
            "supported",
            path, below, (long long)c->layers);
    return values_sizes(
        config, path, (const struct values_size[]){{"sliding_window", 4096, &c->window}}, 1, e);
}

int llama_read_experts(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const char *name = json_get(config, "num_experts") ? "num_experts" : "num_local_experts";
    double coef = json_num(config, "router_aux_loss_coef", (double)FAMILY_BALANCE_LOSS_COEF);
    int rc = values_sizes(config, path,
        (const struct values_size[]){
            {name, c->experts, &c->experts},
            {"num_experts_per_tok", c->experts_per_token, &c->experts_per_token},
        },
        2, e);
    c->balance_loss_coef = (float)coef;
    return rc;
}

/* transformers takes no whole number there. */
void llama_write_balance(const struct model_config *c, struct jsonw *w)
{
    char text[32];
    double coef = values_short(c->balance_loss_coef);
    if (coef == floor(coef)) {
        snprintf(text, sizeof text, "%.1f", coef);
        jsonw_raw(w, "router_aux_loss_coef", text);
    } else {
        jsonw_num(w, "router_aux_loss_coef", coef);
    }
}

void llama_write_switch(const struct model_config *c, struct jsonw *w)
{
    jsonw_bool(w, "use_sliding_window", c->window);
    if (!c->window)
        return;
    jsonw_int(w, "sliding_window", c->window);
    jsonw_int(w, "max_window_layers", 0);
}

static int json_read(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    int rc = values_require(config, path, "use_sliding_window", false, e);
    if (rc)
        return rc;
    c->qkv_bias = c->o_bias = json_bool(config, "attention_bias", false);
    c->ffn_bias = json_bool(config, "mlp_bias", false);
    return llama_json_read(config, path, c, e);
}

static int gguf_read(const struct gguf *g, struct model_config *c, struct err *e)
{
    (void)e;
    c->qkv_bias = c->o_bias = values_gguf_tensor(g, "blk.0.attn_q.bias");
    c->ffn_bias = values_gguf_tensor(g, "blk.0.ffn_up.bias");
    return 0;
}

void llama_json_write(const struct model_config *c, struct jsonw *w)
{
    jsonw_int(w, "hidden_size", c->dim);
    jsonw_int(w, "intermediate_size", c->ffn_dim);
    jsonw_int(w, "num_hidden_layers", c->layers);
    jsonw_int(w, "num_attention_heads", c->heads);
    jsonw_int(w, "num_key_value_heads", c->kv_heads);
    jsonw_int(w, "head_dim", c->head_dim);
    jsonw_int(w, "max_position_embeddings", c->context);
    jsonw_str(w, "hidden_act", "silu");
    jsonw_num(w, "rms_norm_eps", values_short(c->norm_eps));
    rotary_json_write(c, w);
    jsonw_num(w, "attention_dropout", values_short(c->dropout.attention));
}

static void json_write(const struct model_config *c, struct jsonw *w)
{
    llama_json_write(c, w);
    jsonw_bool(w, "attention_bias", c->qkv_bias);
    jsonw_bool(w, "mlp_bias", c->ffn_bias);
}

const struct family family_llama = {
    .architecture = "llama",
    .model_class = "LlamaForCausalLM",
    .text_class = "LlamaForSequenceClassification",
    .names = {[FAMILY_HF] = {[TENSOR_CLASSIFIER] = "score"}},
    .fixed = {.architecture = "llama"},
    .free_biases = true,
    .free_heads = true,
    .json_read = json_read,
    .json_write = json_write,
    .gguf_read = gguf_read,
    .gguf_interleaved = true,
};
