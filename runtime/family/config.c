/*
 * family_config: a model's description from a GGUF file's keys or a config.json, and back as a
 * config.json that transformers reads. Pure but for model_config_read. A key that would change what
 * the model computes, and that is not known here, is refused with its name. Dropout is no part of
 * the description: nothing is dropped here, and what is written says so.
 * Sources: transformers' LlamaConfig, Qwen2Config, GPT2Config; llama.cpp's
 * gguf-py/gguf/constants.py.
 */
#include "runtime/family/family.h"

#include "runtime/family/keys.h"

#include <math.h>

#define CONFIG_FILE_LIMIT (1 << 20)
#define FAMILY_NAMES      "llama, qwen2, gpt2"

static const struct family {
    const char *architecture, *model_class;
    struct model_config fixed; /* what the name alone says */
} families[] = {
    {"llama", "LlamaForCausalLM", {.architecture = "llama"}},
    {"qwen2", "Qwen2ForCausalLM", {.architecture = "qwen2", .qkv_bias = true}},
    {"gpt2", "GPT2LMHeadModel",
        {.architecture = "gpt2",
            .norm = NORM_LAYER,
            .activation = ACTIVATION_GELU,
            .positions = POSITIONS_LEARNED,
            .qkv_bias = true,
            .o_bias = true,
            .ffn_bias = true,
            .scaled_init = true}},
};

static const struct family *family_named(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strlen(families[i].architecture) == len && !memcmp(families[i].architecture, name, len))
            return &families[i];
    return NULL;
}

int family_config_expressible(const struct model_config *c, struct err *e)
{
    const struct family *f = family_named(c->architecture, strlen(c->architecture));
    const struct model_config *x = f ? &f->fixed : NULL;
    bool llama = f && !strcmp(f->architecture, "llama"), free_sizes;

    if (!x)
        return err_set(e, ERR_DATA, "architecture \"%s\" is not supported", c->architecture);
    free_sizes = x->positions == POSITIONS_ROTARY;
    if (c->norm != x->norm || c->activation != x->activation || c->positions != x->positions ||
        (llama ? c->o_bias != c->qkv_bias
               : c->qkv_bias != x->qkv_bias || c->o_bias != x->o_bias ||
                    c->ffn_bias != x->ffn_bias))
        return err_set(
            e, ERR_DATA, "no %s model has these norms, positions and biases", c->architecture);
    if (!free_sizes && (c->kv_heads != c->heads || c->heads * c->head_dim != c->dim))
        return err_set(e, ERR_DATA, "%lld heads of %lld do not make up the hidden size %lld",
            (long long)c->heads, (long long)c->head_dim, (long long)c->dim);
    return 0;
}

static int check(const struct model_config *c, const char *path, struct err *e)
{
    return model_config_check(c, e) || family_config_expressible(c, e) ? err_wrap(e, "%s", path)
                                                                       : 0;
}

/* -- GGUF -- */

static const struct gguf_tensor *gguf_named(const struct gguf *g, const char *name)
{
    for (int i = 0; i < gguf_tensor_count(g); i++)
        if (!strcmp(gguf_tensor_at(g, i)->name, name))
            return gguf_tensor_at(g, i);
    return NULL;
}

/* An absent key leaves *out as it is. */
static int optional_int(const struct gguf *g, const char *key, int64_t *out, struct err *e)
{
    return gguf_has(g, key) ? gguf_int(g, key, -1, INT32_MAX, out, e) : 0;
}

static int optional_id(const struct gguf *g, const char *key, int32_t *out, struct err *e)
{
    int64_t v = -1;
    int rc = optional_int(g, key, &v, e);
    if (!rc)
        *out = (int32_t)v;
    return rc;
}

/* False: there is no room for it. */
static bool add_eos(struct model_config *c, int32_t id)
{
    if (id < 0 || model_config_ends(c, id))
        return true;
    if (c->eos_id < 0)
        c->eos_id = id;
    else if (c->more_eos_count < MODEL_EOS_LIMIT - 1)
        c->more_eos[c->more_eos_count++] = id;
    else
        return false;
    return true;
}

/* "llama.embedding_length" */
static const char *architecture_key(const struct model_config *c, const char *name, char out[96])
{
    snprintf(out, 96, "%s.%s", c->architecture, name);
    return out;
}

static int gguf_sizes(const struct gguf *g, struct model_config *c, struct err *e)
{
    const struct {
        const char *key;
        int64_t *out;
    } required[] = {
        {"embedding_length", &c->dim},
        {"block_count", &c->layers},
        {"attention.head_count", &c->heads},
        {"feed_forward_length", &c->ffn_dim},
        {"context_length", &c->context},
    };
    char key[96];
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof required / sizeof *required; i++)
        rc = gguf_int(
            g, architecture_key(c, required[i].key, key), 1, INT32_MAX, required[i].out, e);
    if (rc)
        return rc;
    c->kv_heads = c->heads;
    c->head_dim = c->dim / c->heads;
    rc = optional_int(g, architecture_key(c, "attention.head_count_kv", key), &c->kv_heads, e);
    if (!rc)
        rc = optional_int(g, architecture_key(c, "attention.key_length", key), &c->head_dim, e);
    int64_t value_dim = c->head_dim, rotary = c->head_dim;
    if (!rc)
        rc = optional_int(g, architecture_key(c, "attention.value_length", key), &value_dim, e);
    if (!rc && c->positions == POSITIONS_ROTARY)
        rc = optional_int(g, architecture_key(c, "rope.dimension_count", key), &rotary, e);
    if (!rc && (value_dim != c->head_dim || rotary != c->head_dim))
        rc = err_set(e, ERR_DATA,
            "%s: heads whose values or rotary part differ in size are not supported", gguf_path(g));
    return rc;
}

static int gguf_rotary(const struct gguf *g, struct model_config *c, struct err *e)
{
    double theta = 10000;
    struct gguf_str scaling;
    char key[96];
    int rc =
        gguf_has(g, architecture_key(c, "rope.freq_base", key)) ? gguf_num(g, key, &theta, e) : 0;
    if (rc)
        return rc;
    if (gguf_has(g, architecture_key(c, "rope.scaling.type", key))) {
        rc = gguf_string(g, key, &scaling, e);
        if (rc)
            return rc;
        if (scaling.len != 4 || memcmp(scaling.s, "none", 4))
            return err_set(e, ERR_DATA, "%s: rotary scaling \"%.*s\" is not supported",
                gguf_path(g), (int)(scaling.len < 32 ? scaling.len : 32), scaling.s);
    }
    c->rope_theta = (float)theta;
    return 0;
}

static int gguf_numbers(const struct gguf *g, struct model_config *c, struct err *e)
{
    double eps;
    char key[96];
    const char *name =
        c->norm == NORM_LAYER ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    int rc = gguf_num(g, architecture_key(c, name, key), &eps, e);
    if (rc)
        return rc;
    c->norm_eps = (float)eps;
    return c->positions == POSITIONS_ROTARY ? gguf_rotary(g, c, e) : 0;
}

/* The end of a text, of a turn, and of a message. */
static int gguf_eos(const struct gguf *g, struct model_config *c, struct err *e)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id"};
    c->eos_id = -1;
    for (int i = 0; i < 3; i++) {
        int32_t id;
        int rc = optional_id(g, keys[i], &id, e);
        if (rc)
            return rc;
        add_eos(c, id);
    }
    return 0;
}

int family_config_gguf(const struct gguf *g, struct model_config *out, struct err *e)
{
    struct gguf_str architecture;
    int rc = gguf_string(g, "general.architecture", &architecture, e);
    if (rc)
        return rc;
    const struct family *f = family_named(architecture.s, architecture.len);
    if (!f)
        return err_set(e, ERR_DATA, "%s: architecture \"%.*s\"; what is read: " FAMILY_NAMES,
            gguf_path(g), (int)(architecture.len < 64 ? architecture.len : 64), architecture.s);
    struct model_config c = f->fixed;
    const struct gguf_tensor *embedding = gguf_named(g, "token_embd.weight");
    if (!embedding)
        return err_set(e, ERR_DATA, "%s: tensor token_embd.weight is missing", gguf_path(g));
    c.vocab = embedding->shape[0];
    c.tied_embeddings = !gguf_named(g, "output.weight");
    if (!strcmp(c.architecture, "llama")) { /* no key says so, only the tensors */
        c.qkv_bias = c.o_bias = gguf_named(g, "blk.0.attn_q.bias");
        c.ffn_bias = gguf_named(g, "blk.0.ffn_up.bias");
    }
    rc = gguf_sizes(g, &c, e);
    if (!rc)
        rc = gguf_numbers(g, &c, e);
    if (!rc)
        rc = optional_id(g, "tokenizer.ggml.bos_token_id", &c.bos_id, e);
    if (!rc)
        rc = gguf_eos(g, &c, e);
    if (!rc)
        rc = optional_id(g, "tokenizer.ggml.padding_token_id", &c.pad_id, e);
    if (rc)
        return rc;
    rc = check(&c, gguf_path(g), e);
    if (!rc)
        rc = family_keys_gguf(g, &c, e);
    if (rc)
        return rc;
    *out = c;
    return 0;
}

/* -- config.json -- */

static int json_size(const struct json *config, const char *path, const char *key, int64_t def,
    int64_t *out, struct err *e)
{
    const struct json *v = json_get(config, key);
    if ((!v || json_is_null(v)) && def > 0) {
        *out = def;
        return 0;
    }
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d >= 1 && d <= INT32_MAX) || d != floor(d))
        return err_set(e, ERR_DATA, "%s: %s is no positive whole number", path, key);
    *out = (int64_t)d;
    return 0;
}

static int32_t id_value(const struct json *v)
{
    double d = json_number_value(v);
    return json_is_number(v) && d >= 0 && d <= INT32_MAX ? (int32_t)d : -1;
}

int family_eos_json(
    const struct json *config, const char *path, struct model_config *out, struct err *e)
{
    const struct json *v = json_get(config, "eos_token_id");
    struct model_config c = *out;
    c.eos_id = json_is_array(v) ? -1 : id_value(v);
    c.more_eos_count = 0;
    json_each (item, json_is_array(v) ? v : NULL) {
        int32_t id = id_value(item);
        if (id < 0)
            return err_set(e, ERR_DATA, "%s: eos_token_id: not a list of token ids", path);
        if (!add_eos(&c, id))
            return err_set(
                e, ERR_DATA, "%s: eos_token_id: more than %d tokens", path, MODEL_EOS_LIMIT);
    }
    *out = c;
    return 0;
}

/* A key whose value must be this one, or absent. */
static int require_bool(
    const struct json *config, const char *path, const char *key, bool value, struct err *e)
{
    return json_bool(config, key, value) == value
        ? 0
        : err_set(e, ERR_DATA, "%s: %s = %s is not supported", path, key, value ? "false" : "true");
}

static int read_rotary(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const struct json *rope = json_get(config, "rope_parameters");
    const struct json *scaling = json_get(config, "rope_scaling");
    const char *type = json_str(rope, "rope_type", "default");
    if (json_is_object(scaling))
        type = json_str(scaling, "rope_type", json_str(scaling, "type", "unnamed"));
    if (strcmp(type, "default"))
        return err_set(e, ERR_DATA, "%s: rotary scaling \"%.32s\" is not supported", path, type);
    c->rope_theta = (float)json_num(rope, "rope_theta", json_num(config, "rope_theta", 10000));
    return 0;
}

/* Llama's keys, and Qwen2's. */
static int read_llama(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const char *activation = json_str(config, "hidden_act", "silu");
    int rc = read_rotary(config, path, c, e);
    if (!rc && strcmp(activation, "silu"))
        rc = err_set(e, ERR_DATA, "%s: hidden_act \"%.32s\" is not supported", path, activation);
    if (!rc)
        rc = require_bool(config, path, "use_sliding_window", false, e);
    if (!rc)
        rc = json_size(config, path, "vocab_size", 0, &c->vocab, e);
    if (!rc)
        rc = json_size(config, path, "hidden_size", 0, &c->dim, e);
    if (!rc)
        rc = json_size(config, path, "num_hidden_layers", 0, &c->layers, e);
    if (!rc)
        rc = json_size(config, path, "num_attention_heads", 0, &c->heads, e);
    if (!rc)
        rc = json_size(config, path, "num_key_value_heads", c->heads, &c->kv_heads, e);
    if (!rc)
        rc = json_size(config, path, "head_dim", c->dim / c->heads, &c->head_dim, e);
    if (!rc)
        rc = json_size(config, path, "intermediate_size", 0, &c->ffn_dim, e);
    if (!rc)
        rc = json_size(config, path, "max_position_embeddings", 2048, &c->context, e);
    if (rc)
        return rc;
    if (!strcmp(c->architecture, "llama")) {
        c->qkv_bias = c->o_bias = json_bool(config, "attention_bias", false);
        c->ffn_bias = json_bool(config, "mlp_bias", false);
    }
    c->norm_eps = (float)json_num(config, "rms_norm_eps", 1e-6);
    c->tied_embeddings = json_bool(config, "tie_word_embeddings", false);
    return 0;
}

static int read_gpt2(
    const struct json *config, const char *path, struct model_config *c, struct err *e)
{
    const char *activation = json_str(config, "activation_function", "gelu_new");
    int rc = 0;
    if (strcmp(activation, "gelu_new") && strcmp(activation, "gelu_pytorch_tanh"))
        rc = err_set(
            e, ERR_DATA, "%s: activation_function \"%.32s\" is not supported", path, activation);
    if (!rc)
        rc = require_bool(config, path, "scale_attn_weights", true, e);
    if (!rc)
        rc = require_bool(config, path, "scale_attn_by_inverse_layer_idx", false, e);
    if (!rc)
        rc = require_bool(config, path, "add_cross_attention", false, e);
    if (!rc)
        rc = json_size(config, path, "vocab_size", 50257, &c->vocab, e);
    if (!rc)
        rc = json_size(config, path, "n_embd", 768, &c->dim, e);
    if (!rc)
        rc = json_size(config, path, "n_layer", 12, &c->layers, e);
    if (!rc)
        rc = json_size(config, path, "n_head", 12, &c->heads, e);
    if (!rc)
        rc = json_size(config, path, "n_inner", 4 * c->dim, &c->ffn_dim, e);
    if (!rc)
        rc = json_size(config, path, "n_positions", 1024, &c->context, e);
    if (rc)
        return rc;
    c->kv_heads = c->heads;
    c->head_dim = c->dim / c->heads;
    c->norm_eps = (float)json_num(config, "layer_norm_epsilon", 1e-5);
    c->tied_embeddings = json_bool(config, "tie_word_embeddings", true);
    return 0;
}

int family_config_json(
    const struct json *config, const char *path, struct model_config *out, struct err *e)
{
    if (!json_is_object(config))
        return err_set(e, ERR_DATA, "%s: not an object", path);
    const char *type = json_str(config, "model_type", "");
    const struct family *f = family_named(type, strlen(type));
    if (!f)
        return err_set(
            e, ERR_DATA, "%s: model_type \"%.32s\"; what is read: " FAMILY_NAMES, path, type);
    struct model_config c = f->fixed;
    int rc =
        !strcmp(type, "gpt2") ? read_gpt2(config, path, &c, e) : read_llama(config, path, &c, e);
    if (rc)
        return rc;
    c.bos_id = id_value(json_get(config, "bos_token_id"));
    c.pad_id = id_value(json_get(config, "pad_token_id"));
    rc = family_eos_json(config, path, &c, e);
    if (!rc)
        rc = check(&c, path, e);
    if (!rc)
        rc = family_keys_json(config, path, &c, e);
    if (!rc)
        *out = c;
    return rc;
}

int model_config_read(const char *path, struct model_config *out, struct err *e)
{
    json_auto struct json *config = NULL;
    int rc = json_read_file(path, CONFIG_FILE_LIMIT, &config, e);
    return rc ? rc : family_config_json(config, path, out, e);
}

static void write_id(struct jsonw *w, const char *key, int32_t id, bool nulls)
{
    if (id >= 0)
        jsonw_int(w, key, id);
    else if (nulls)
        jsonw_null(w, key);
}

void family_ids_write(const struct model_config *c, bool nulls, struct jsonw *w)
{
    write_id(w, "bos_token_id", c->bos_id, nulls);
    if (c->more_eos_count) {
        jsonw_open(w, "eos_token_id", '[');
        jsonw_int(w, NULL, c->eos_id);
        for (int i = 0; i < c->more_eos_count; i++)
            jsonw_int(w, NULL, c->more_eos[i]);
        jsonw_close(w);
    } else {
        write_id(w, "eos_token_id", c->eos_id, nulls);
    }
    write_id(w, "pad_token_id", c->pad_id, nulls);
}

/* The nearest double that prints short: 1e-05, not 9.999999747378752e-06. */
static double short_double(float f)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)f);
    double d = strtod(text, NULL);
    return (float)d == f ? d : (double)f;
}

static void write_llama(const struct model_config *c, struct jsonw *w)
{
    jsonw_int(w, "hidden_size", c->dim);
    jsonw_int(w, "intermediate_size", c->ffn_dim);
    jsonw_int(w, "num_hidden_layers", c->layers);
    jsonw_int(w, "num_attention_heads", c->heads);
    jsonw_int(w, "num_key_value_heads", c->kv_heads);
    jsonw_int(w, "head_dim", c->head_dim);
    jsonw_int(w, "max_position_embeddings", c->context);
    jsonw_str(w, "hidden_act", "silu");
    jsonw_num(w, "rms_norm_eps", short_double(c->norm_eps));
    jsonw_num(w, "rope_theta", short_double(c->rope_theta));
    jsonw_num(w, "attention_dropout", 0);
    if (!strcmp(c->architecture, "llama")) {
        jsonw_bool(w, "attention_bias", c->qkv_bias);
        jsonw_bool(w, "mlp_bias", c->ffn_bias);
    } else {
        jsonw_bool(w, "use_sliding_window", false);
    }
}

static void write_gpt2(const struct model_config *c, struct jsonw *w)
{
    jsonw_int(w, "n_embd", c->dim);
    jsonw_int(w, "n_inner", c->ffn_dim);
    jsonw_int(w, "n_layer", c->layers);
    jsonw_int(w, "n_head", c->heads);
    jsonw_int(w, "n_positions", c->context);
    jsonw_str(w, "activation_function", "gelu_new");
    jsonw_num(w, "layer_norm_epsilon", short_double(c->norm_eps));
    jsonw_num(w, "attn_pdrop", 0);
    jsonw_num(w, "embd_pdrop", 0);
    jsonw_num(w, "resid_pdrop", 0);
}

void family_config_write(const struct model_config *c, enum dtype store, struct jsonw *w)
{
    const struct family *f = family_named(c->architecture, strlen(c->architecture));

    jsonw_open(w, NULL, '{');
    jsonw_open(w, "architectures", '[');
    jsonw_str(w, NULL, f ? f->model_class : "");
    jsonw_close(w);
    jsonw_str(w, "model_type", c->architecture);
    jsonw_str(w, "torch_dtype", store == DTYPE_BF16 ? "bfloat16" : "float32");
    jsonw_int(w, "vocab_size", c->vocab);
    if (!strcmp(c->architecture, "gpt2"))
        write_gpt2(c, w);
    else
        write_llama(c, w);
    jsonw_bool(w, "tie_word_embeddings", c->tied_embeddings);
    family_ids_write(c, true, w);
    jsonw_close(w);
}
