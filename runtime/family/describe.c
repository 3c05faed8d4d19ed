/*
 * family_describe: a model's description from a GGUF file's keys or a config.json, and back as a
 * config.json that transformers reads: what all families have alike; the rest each reads and writes
 * itself. Pure but for model_config_read. A key that would change what the model computes, and that
 * is not known here or there, is refused with its name (keys.h). Dropout is read and written as it
 * stands, of GGUF files, which do not tell it, none. Source: llama.cpp's gguf-py/gguf/constants.py.
 */
#include "runtime/family/family.h"

#include "runtime/family/keys.h"
#include "runtime/family/rotary.h"
#include "runtime/family/values.h"

#define CONFIG_LIMIT (1 << 20) /* bytes of a config.json */

int family_config_expressible(const struct model_config *c, struct err *e)
{
    const struct family *f = family_of(c);
    if (!f)
        return err_set(e, ERR_DATA, "architecture \"%s\" is not supported", c->architecture);
    const struct model_config *x = &f->fixed;
    bool biases = f->free_biases
        ? c->o_bias == c->qkv_bias
        : c->qkv_bias == x->qkv_bias && c->o_bias == x->o_bias && c->ffn_bias == x->ffn_bias;
    if (c->norm != x->norm || c->activation != x->activation || c->positions != x->positions ||
        !biases)
        return err_set(
            e, ERR_DATA, "no %s model has these norms, positions and biases", c->architecture);
    if (c->post_norm != x->post_norm || c->bidirectional != x->bidirectional ||
        c->embed_norm != x->embed_norm || (!f->free_types && c->types) ||
        (c->labels && c->last != !f->body_class) || (c->last && !f->text_class) ||
        (!f->body_class && c->pooled) || (!f->masked_class && c->masked))
        return err_set(e, ERR_DATA,
            "no %s model has this order of norms, attention, token types "
            "and labels",
            c->architecture);
    if (c->qk_norm != x->qk_norm || (!f->free_window && c->window) ||
        (c->positions != POSITIONS_ROTARY && c->rope_scaling.kind != OP_ROPE_PLAIN))
        return err_set(e, ERR_DATA, "no %s model has these norms of heads, window and scaling",
            c->architecture);
    if (!c->experts != !f->experts ||
        (x->norm_topk && (!c->norm_topk || c->expert_ffn_dim != c->ffn_dim)))
        return err_set(e, ERR_DATA, "no %s model has these experts", c->architecture);
    if (!f->free_heads && (c->kv_heads != c->heads || c->heads * c->head_dim != c->dim))
        return err_set(e, ERR_DATA, "%lld heads of %lld do not make up the hidden size %lld",
            (long long)c->heads, (long long)c->head_dim, (long long)c->dim);
    return 0;
}

static int check_read(const struct model_config *c, const char *path, struct err *e)
{
    if (model_config_check(c, e) || family_config_expressible(c, e))
        return err_wrap(e, "%s", path);
    return 0;
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

/* -- GGUF -- */

/* "llama.embedding_length" */
static const char *architecture_key(const struct model_config *c, const char *name, char out[96])
{
    snprintf(out, 96, "%s.%s", family_gguf_architecture(c), name);
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
    rc = values_gguf_int(g, architecture_key(c, "attention.head_count_kv", key), &c->kv_heads, e);
    if (!rc)
        rc = values_gguf_int(g, architecture_key(c, "attention.key_length", key), &c->head_dim, e);
    if (rc)
        return rc;
    int64_t value_dim = c->head_dim, rotary = c->head_dim;
    rc = values_gguf_int(g, architecture_key(c, "attention.value_length", key), &value_dim, e);
    if (!rc && c->positions == POSITIONS_ROTARY)
        rc = values_gguf_int(g, architecture_key(c, "rope.dimension_count", key), &rotary, e);
    if (rc || (value_dim == c->head_dim && rotary == c->head_dim))
        return rc;
    return err_set(e, ERR_DATA,
        "%s: heads whose values or rotary part differ in size are not supported", gguf_path(g));
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
    return c->positions == POSITIONS_ROTARY ? rotary_gguf_read(g, family_gguf_architecture(c), c, e)
                                            : 0;
}

/* The end of a text, of a turn, and of a message. */
static int gguf_eos(const struct gguf *g, struct model_config *c, struct err *e)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id"};
    c->eos_id = -1;
    for (int i = 0; i < 3; i++) {
        int32_t id;
        int rc = values_gguf_id(g, keys[i], &id, e);
        if (rc)
            return rc;
        add_eos(c, id);
    }
    return 0;
}

/* What reads whole texts goes on with none: there its bos is [CLS]. */
static int gguf_special(const struct gguf *g, struct model_config *c, struct err *e)
{
    int rc = 0;
    c->bos_id = c->eos_id = -1;
    if (!c->bidirectional)
        rc = values_gguf_id(g, "tokenizer.ggml.bos_token_id", &c->bos_id, e);
    if (!rc && !c->bidirectional)
        rc = gguf_eos(g, c, e);
    return rc ? rc : values_gguf_id(g, "tokenizer.ggml.padding_token_id", &c->pad_id, e);
}

/* A window counts where it is shorter than the context. Of llamas only Mistral's have one. */
static int gguf_window(const struct gguf *g, struct model_config *c, struct err *e)
{
    int64_t window = 0;
    char key[96];
    int rc = values_gguf_int(g, architecture_key(c, "attention.sliding_window", key), &window, e);
    if (rc || window < 1 || window >= c->context)
        return rc;
    if (family_of(c) == &family_llama && !c->qkv_bias && !c->o_bias && !c->ffn_bias)
        memcpy(c->architecture, "mistral", sizeof "mistral");
    if (!family_of(c)->free_window)
        return err_set(e, ERR_DATA,
            "%s: key %s would change what the model computes and is not supported", gguf_path(g),
            key);
    c->window = window;
    return 0;
}

/* A mixture of llamas is a Mixtral. Files say nothing of what follows from the family: weights of
   those chosen are divided by their sum (llama.cpp does so for both). */
static int gguf_experts(const struct gguf *g, struct model_config *c, struct err *e)
{
    char key[96];
    int rc = values_gguf_int(g, architecture_key(c, "expert_count", key), &c->experts, e);
    if (rc || !c->experts)
        return rc;
    if (family_of(c) == &family_llama)
        memcpy(c->architecture, "mixtral", sizeof "mixtral");
    if (!family_of(c)->experts)
        return err_set(e, ERR_DATA,
            "%s: key %s would change what the model computes and is not supported", gguf_path(g),
            key);
    c->norm_topk = true;
    c->balance_loss_coef = FAMILY_BALANCE_LOSS_COEF;
    c->expert_ffn_dim = c->ffn_dim;
    rc = gguf_int(
        g, architecture_key(c, "expert_used_count", key), 1, INT32_MAX, &c->experts_per_token, e);
    if (rc)
        return rc;
    return values_gguf_int(
        g, architecture_key(c, "expert_feed_forward_length", key), &c->expert_ffn_dim, e);
}

int family_config_gguf(const struct gguf *g, struct model_config *out, struct err *e)
{
    struct gguf_str architecture;
    char list[FAMILY_LIST_BYTES];
    int rc = gguf_string(g, "general.architecture", &architecture, e);
    if (rc)
        return rc;
    const struct family *f = family_of_gguf(architecture.s, architecture.len);
    if (!f)
        return err_set(e, ERR_DATA, "%s: architecture \"%.*s\"; what is read: %s", gguf_path(g),
            (int)(architecture.len < 64 ? architecture.len : 64), architecture.s,
            family_list(list));
    struct model_config c = f->fixed;
    const struct gguf_tensor *embedding = values_gguf_tensor(g, "token_embd.weight");
    if (!embedding)
        return err_set(e, ERR_DATA, "%s: tensor token_embd.weight is missing", gguf_path(g));
    c.vocab = embedding->shape[0];
    c.tied_embeddings = !values_gguf_tensor(g, "output.weight");
    if ((f->gguf_read && (rc = f->gguf_read(g, &c, e))) || (rc = gguf_sizes(g, &c, e)) ||
        (rc = gguf_numbers(g, &c, e)) || (rc = gguf_experts(g, &c, e)) ||
        (rc = gguf_window(g, &c, e)) || (rc = gguf_special(g, &c, e)) ||
        (rc = check_read(&c, gguf_path(g), e)) || (rc = family_keys_gguf(g, &c, e)))
        return rc;
    *out = c;
    return 0;
}

static void write_u32(
    const struct model_config *c, struct gguf_writer *w, const char *name, int64_t v)
{
    char key[96];
    gguf_write_u32(w, architecture_key(c, name, key), (uint32_t)v);
}

static void write_f32(
    const struct model_config *c, struct gguf_writer *w, const char *name, float v)
{
    char key[96];
    gguf_write_f32(w, architecture_key(c, name, key), v);
}

/* llama.cpp has labels of one text, above the pooler, in its bert alone, and nothing that tells
   tokens there. */
static int heads_expressible(const struct model_config *c, struct err *e)
{
    if (c->masked)
        return err_set(e, ERR_DATA,
            "a %s model with a head of masked tokens is written as a Hugging Face folder only: "
            "GGUF files have no place for the head",
            c->architecture);
    if (!c->labels)
        return 0;
    if (!c->bidirectional)
        return err_set(e, ERR_DATA, "a model with labels is written as a Hugging Face folder only");
    if (c->pooled && !c->several)
        return 0;
    return err_set(e, ERR_DATA,
        "a %s model with labels of %s is written as a Hugging Face folder only: GGUF files have a "
        "place for labels of which a text has one",
        c->architecture, c->several ? "which a text has several" : "tokens");
}

/* llama.cpp's graphs of these families know neither windows nor weights of experts that do not add
   up to 1; what frequencies are divided by only its llama's. */
int family_gguf_expressible(const struct model_config *c, struct err *e)
{
    const struct family *f = family_of(c);
    int rc = family_config_expressible(c, e);
    if (rc)
        return rc;
    if ((rc = heads_expressible(c, e)))
        return rc;
    if (c->window && c->window < c->context)
        return err_set(e, ERR_DATA,
            "a %s model whose attention sees the last %lld of %lld tokens (sliding_window) is "
            "written as a Hugging Face folder only: in GGUF files it would see all",
            f->architecture, (long long)c->window, (long long)c->context);
    if (c->experts && !c->norm_topk)
        return err_set(e, ERR_DATA,
            "a %s model with norm_topk_prob false is written as a Hugging Face folder only: GGUF "
            "files cannot say it",
            f->architecture);
    if (c->rope_scaling.kind == OP_ROPE_LLAMA3 && strcmp(family_gguf_architecture(c), "llama"))
        return err_set(e, ERR_DATA,
            "a %s model with a llama3 scaling of positions is written as a Hugging Face folder "
            "only: GGUF files cannot say it",
            f->architecture);
    return 0;
}

static void write_rotary(const struct model_config *c, struct gguf_writer *w)
{
    char key[96];
    write_u32(c, w, "attention.key_length", c->head_dim);
    write_u32(c, w, "attention.value_length", c->head_dim);
    write_u32(c, w, "rope.dimension_count", c->head_dim);
    write_f32(c, w, "rope.freq_base", c->rope_theta);
    if (c->rope_scaling.kind == OP_ROPE_LLAMA3)
        write_u32(c, w, "rope.scaling.original_context_length", c->rope_scaling.context);
    if (c->rope_scaling.kind != OP_ROPE_LINEAR)
        return;
    gguf_write_str(w, architecture_key(c, "rope.scaling.type", key), "linear", strlen("linear"));
    write_f32(c, w, "rope.scaling.factor", c->rope_scaling.factor);
}

static void write_experts(const struct model_config *c, struct gguf_writer *w)
{
    write_u32(c, w, "expert_count", c->experts);
    write_u32(c, w, "expert_used_count", c->experts_per_token);
    if (strcmp(family_gguf_architecture(c), "llama") != 0) /* there they are of ffn_dim */
        write_u32(c, w, "expert_feed_forward_length", c->expert_ffn_dim);
}

int family_gguf_write(const struct model_config *c, struct gguf_writer *w, struct err *e)
{
    const char *architecture = family_gguf_architecture(c);
    int rc = family_gguf_expressible(c, e);
    if (rc)
        return rc;
    gguf_write_str(w, "general.architecture", architecture, strlen(architecture));
    write_u32(c, w, "context_length", c->context);
    write_u32(c, w, "embedding_length", c->dim);
    write_u32(c, w, "block_count", c->layers);
    write_u32(c, w, "feed_forward_length", c->ffn_dim);
    write_u32(c, w, "attention.head_count", c->heads);
    write_u32(c, w, "attention.head_count_kv", c->kv_heads);
    write_f32(c, w,
        c->norm == NORM_LAYER ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
        c->norm_eps);
    if (c->experts)
        write_experts(c, w);
    if (c->bidirectional) {
        char key[96];
        gguf_write_bool(w, architecture_key(c, "attention.causal", key), false);
        gguf_write_u32(w, "tokenizer.ggml.token_type_count", (uint32_t)c->types);
    }
    if (c->positions != POSITIONS_ROTARY)
        return 0;
    write_rotary(c, w);
    write_u32(c, w, "vocab_size", c->vocab);
    return 0;
}

/* -- config.json -- */

int family_eos_json(
    const struct json *config, const char *path, struct model_config *out, struct err *e)
{
    const struct json *v = json_get(config, "eos_token_id");
    struct model_config c = *out;
    c.eos_id = json_is_array(v) ? -1 : values_id(v);
    c.more_eos_count = 0;
    json_each (item, json_is_array(v) ? v : NULL) {
        int32_t id = values_id(item);
        if (id < 0)
            return err_set(e, ERR_DATA, "%s: eos_token_id: not a list of token ids", path);
        if (!add_eos(&c, id))
            return err_set(
                e, ERR_DATA, "%s: eos_token_id: more than %d tokens", path, MODEL_EOS_LIMIT);
    }
    *out = c;
    return 0;
}

int family_config_json(
    const struct json *config, const char *path, struct model_config *out, struct err *e)
{
    if (!json_is_object(config))
        return err_set(e, ERR_DATA, "%s: not an object", path);
    const char *type = json_str(config, "model_type", "");
    const struct family *f = family_named(type, strlen(type));
    char list[FAMILY_LIST_BYTES];
    if (!f)
        return err_set(e, ERR_DATA, "%s: model_type \"%.32s\"; what is read: %s", path, type,
            family_list(list));
    struct model_config c = f->fixed;
    int rc = f->json_read(config, path, &c, e);
    if (rc)
        return rc;
    c.bos_id = values_id(json_get(config, "bos_token_id"));
    c.pad_id = values_id(json_get(config, "pad_token_id"));
    if ((rc = family_eos_json(config, path, &c, e)) || (rc = check_read(&c, path, e)) ||
        (rc = family_keys_json(config, path, &c, e)))
        return rc;
    *out = c;
    return 0;
}

int model_config_read(const char *path, struct model_config *out, struct err *e)
{
    json_auto struct json *config = NULL;
    int rc = json_read_file(path, CONFIG_LIMIT, &config, e);
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

static const char *label_name(const char *const *labels, int64_t i, char out[32])
{
    if (labels)
        return labels[i];
    snprintf(out, 32, "LABEL_%lld", (long long)i);
    return out;
}

static void write_labels(const struct model_config *c, const char *const *labels, struct jsonw *w)
{
    char key[32], name[32];
    jsonw_open(w, "id2label", '{');
    for (int64_t i = 0; i < c->labels; i++) {
        snprintf(key, sizeof key, "%lld", (long long)i);
        jsonw_str(w, key, label_name(labels, i, name));
    }
    jsonw_close(w);
    if (c->several)
        jsonw_str(w, "problem_type", "multi_label_classification");
    jsonw_open(w, "label2id", '{');
    for (int64_t i = 0; i < c->labels; i++)
        jsonw_int(w, label_name(labels, i, name), i);
    jsonw_close(w);
}

const char *family_class(const struct model_config *c)
{
    const struct family *f = family_of(c);
    if (c->masked)
        return f->masked_class;
    if (!c->labels)
        return f->body_class ? f->body_class : f->model_class;
    return model_config_tells_texts(c) ? f->text_class : f->model_class;
}

void family_config_write(
    const struct model_config *c, const char *const *labels, enum dtype store, struct jsonw *w)
{
    const struct family *f = family_of(c);
    jsonw_open(w, NULL, '{');
    jsonw_open(w, "architectures", '[');
    jsonw_str(w, NULL, family_class(c));
    jsonw_close(w);
    jsonw_str(w, "model_type", c->architecture);
    jsonw_str(w, "torch_dtype",
        store == DTYPE_BF16      ? "bfloat16"
            : store == DTYPE_F16 ? "float16"
                                 : "float32");
    jsonw_int(w, "vocab_size", c->vocab);
    f->json_write(c, w);
    jsonw_bool(w, "tie_word_embeddings", c->tied_embeddings);
    if (c->labels)
        write_labels(c, labels, w);
    family_ids_write(c, true, w);
    jsonw_close(w);
}
