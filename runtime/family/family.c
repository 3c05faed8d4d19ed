/*
 * family: tables of tensors and where files keep them. The order of family_tensor is the order of
 * computing: embeddings, layers (each weight followed by its bias), final norm, head. Pure. Called
 * by weights.c and weights_write.c. Sources: transformers' modeling_llama, modeling_qwen2 and
 * modeling_gpt2 (whose Conv1D is stored (in, out)); llama.cpp's gguf-py/gguf/constants.py and its
 * converter's LlamaModel.permute and GPT2Model.
 */
#include "runtime/family/family.h"

static const struct {
    const char *gguf; /* within a layer */
    const char *gpt2; /* Hugging Face's name; its q, k and v are one */
} names[TENSOR_ROLES] = {
    [TENSOR_EMBED] = {"token_embd", "wte"},
    [TENSOR_POSITIONS] = {"position_embd", "wpe"},
    [TENSOR_NORM_ATTENTION] = {"attn_norm", "ln_1"},
    [TENSOR_Q] = {"attn_q", "attn.c_attn"},
    [TENSOR_K] = {"attn_k", "attn.c_attn"},
    [TENSOR_V] = {"attn_v", "attn.c_attn"},
    [TENSOR_O] = {"attn_output", "attn.c_proj"},
    [TENSOR_NORM_FFN] = {"ffn_norm", "ln_2"},
    [TENSOR_GATE] = {"ffn_gate", NULL},
    [TENSOR_UP] = {"ffn_up", "mlp.c_fc"},
    [TENSOR_DOWN] = {"ffn_down", "mlp.c_proj"},
    [TENSOR_NORM_FINAL] = {"output_norm", "ln_f"},
    [TENSOR_HEAD] = {"output", NULL},
};

static bool is(const struct model_config *c, const char *architecture)
{
    return !strcmp(c->architecture, architecture);
}

static bool joined(const struct model_config *c, const struct tensor *t)
{
    return is(c, "gpt2") && t->role >= TENSOR_Q && t->role <= TENSOR_V;
}

static void name_place(
    const struct model_config *c, const struct tensor *t, enum family_format format, char out[128])
{
    const char *suffix = t->part == TENSOR_BIAS ? "bias" : "weight";
    const char *gguf = joined(c, t) ? "attn_qkv" : names[t->role].gguf;
    const char *gpt2 = is(c, "gpt2") ? names[t->role].gpt2 : NULL;

    if (format == FAMILY_GGUF && t->layer < 0)
        snprintf(out, 128, "%s.%s", gguf, suffix);
    else if (format == FAMILY_GGUF)
        snprintf(out, 128, "blk.%d.%s.%s", t->layer, gguf, suffix);
    else if (gpt2 && t->layer < 0)
        snprintf(out, 128, "transformer.%s.%s", gpt2, suffix);
    else if (gpt2)
        snprintf(out, 128, "transformer.h.%d.%s.%s", t->layer, gpt2, suffix);
    else
        snprintf(out, 128, "%s", t->name);
}

void family_place(const struct model_config *c, const struct tensor *t, enum family_format format,
    struct family_place *out)
{
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;

    *out = (struct family_place){.dims = t->dims, .shape = {t->shape[0], t->shape[1]}};
    name_place(c, t, format, out->name);
    out->interleaved = format == FAMILY_GGUF && is(c, "llama") && t->rotary_heads;
    if (!is(c, "gpt2") || t->layer < 0)
        return;
    if (joined(c, t)) {
        out->shape[0] = q + 2 * kv;
        out->first = t->role == TENSOR_Q ? 0 : t->role == TENSOR_K ? q : q + kv;
    }
    if (format == FAMILY_HF && t->dims == 2) {
        int64_t rows = out->shape[0];

        out->shape[0] = out->shape[1];
        out->shape[1] = rows;
        out->transposed = true;
    }
}

bool family_place_is(const struct family_place *p, const char *name)
{
    static const char prefix[] = "transformer.";
    size_t n = strlen(prefix);

    return !strcmp(p->name, name) || (!strncmp(p->name, prefix, n) && !strcmp(p->name + n, name));
}

int64_t family_gguf_row(int64_t row, int64_t head_dim)
{
    int64_t in_head = row % head_dim, half = head_dim / 2;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

static int check_ids(const struct model_config *c, struct err *e)
{
    const int32_t ids[] = {c->bos_id, c->eos_id, c->pad_id};
    if (c->more_eos_count < 0 || c->more_eos_count > MODEL_EOS_LIMIT - 1)
        return err_set(e, ERR_DATA, "more than %d end tokens", MODEL_EOS_LIMIT);
    for (int i = 0; i < 3 + c->more_eos_count; i++) {
        int32_t id = i < 3 ? ids[i] : c->more_eos[i - 3];
        if (id < -1 || id >= c->vocab)
            return err_set(e, ERR_DATA, "special token %d lies outside the vocabulary", id);
    }
    return 0;
}

int model_config_check(const struct model_config *c, struct err *e)
{
    const struct {
        const char *name;
        int64_t value, low, high;
    } bounds[] = {
        {"vocabulary", c->vocab, 1, 1 << 22},
        {"hidden size", c->dim, 1, 1 << 17},
        {"layers", c->layers, 1, 1024},
        {"attention heads", c->heads, 1, 1024},
        {"key/value heads", c->kv_heads, 1, 1024},
        {"head size", c->head_dim, 2, 1024},
        {"feed-forward size", c->ffn_dim, 1, 1 << 20},
        {"context", c->context, 1, 1 << 24},
    };
    if (!is(c, "llama") && !is(c, "qwen2") && !is(c, "gpt2"))
        return err_set(e, ERR_DATA, "architecture \"%s\" is not supported", c->architecture);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].value < bounds[i].low || bounds[i].value > bounds[i].high)
            return err_set(e, ERR_DATA, "%s of %lld is not in [%lld, %lld]", bounds[i].name,
                (long long)bounds[i].value, (long long)bounds[i].low, (long long)bounds[i].high);
    if (c->heads % c->kv_heads)
        return err_set(e, ERR_DATA, "%lld attention heads are no multiple of %lld key/value heads",
            (long long)c->heads, (long long)c->kv_heads);
    if (c->norm > NORM_LAYER || c->activation > ACTIVATION_GELU || c->positions > POSITIONS_LEARNED)
        return err_set(e, ERR_DATA, "a norm, activation or positions of no known kind");
    if (c->positions == POSITIONS_ROTARY && c->head_dim % 2)
        return err_set(e, ERR_DATA, "head size %lld is odd", (long long)c->head_dim);
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        return err_set(e, ERR_DATA, "norm epsilon %g is not in (0, 1)", (double)c->norm_eps);
    if (c->positions == POSITIONS_ROTARY && !(c->rope_theta >= 1 && c->rope_theta <= 1e12f))
        return err_set(e, ERR_DATA, "rotary base %g is not in [1, 1e12]", (double)c->rope_theta);
    return check_ids(c, e);
}

bool model_config_ends(const struct model_config *c, int32_t id)
{
    bool ends = id == c->eos_id;
    for (int i = 0; i < c->more_eos_count; i++)
        ends = ends || id == c->more_eos[i];
    return ends && id >= 0;
}
