/*
 * family: tables of tensors and where files keep them. The order of family_tensor is the order of
 * computing: embeddings, layers (each weight followed by its bias), final norm, head. Pure. Called
 * by weights.c and weights_write.c. Sources: transformers' modeling_llama, modeling_qwen2 and
 * modeling_gpt2 (whose Conv1D is stored (in, out)); llama.cpp's gguf-py/gguf/constants.py and its
 * converter's LlamaModel.permute and GPT2Model.
 */
#include "runtime/family/family.h"

enum row_kind { ROWS_ONE, ROWS_DIM, ROWS_Q, ROWS_KV, ROWS_FFN };
enum bias_kind { BIAS_NORM, BIAS_QKV, BIAS_O, BIAS_FFN };

static const struct layer_tensor {
    const char *canonical, *gguf; /* within a layer */
    const char *gpt2;             /* Hugging Face's name; its q, k and v are one */
    enum row_kind rows, cols;
    enum bias_kind bias;
    bool rotary;
} layer_tensors[] = {
    {"input_layernorm", "attn_norm", "ln_1", ROWS_DIM, ROWS_ONE, BIAS_NORM, false},
    {"self_attn.q_proj", "attn_q", "attn.c_attn", ROWS_Q, ROWS_DIM, BIAS_QKV, true},
    {"self_attn.k_proj", "attn_k", "attn.c_attn", ROWS_KV, ROWS_DIM, BIAS_QKV, true},
    {"self_attn.v_proj", "attn_v", "attn.c_attn", ROWS_KV, ROWS_DIM, BIAS_QKV, false},
    {"self_attn.o_proj", "attn_output", "attn.c_proj", ROWS_DIM, ROWS_Q, BIAS_O, false},
    {"post_attention_layernorm", "ffn_norm", "ln_2", ROWS_DIM, ROWS_ONE, BIAS_NORM, false},
    {"mlp.gate_proj", "ffn_gate", NULL, ROWS_FFN, ROWS_DIM, BIAS_FFN, false},
    {"mlp.up_proj", "ffn_up", "mlp.c_fc", ROWS_FFN, ROWS_DIM, BIAS_FFN, false},
    {"mlp.down_proj", "ffn_down", "mlp.c_proj", ROWS_DIM, ROWS_FFN, BIAS_FFN, false},
};
#define LAYER_TENSORS ((int)(sizeof layer_tensors / sizeof *layer_tensors))
#define TENSOR_Q      1
#define TENSOR_K      2
#define TENSOR_V      3
#define TENSOR_GATE   6

enum whole { WHOLE_EMBEDDING, WHOLE_POSITIONS, WHOLE_NORM, WHOLE_HEAD };
static const struct {
    const char *canonical, *gguf, *gpt2;
} whole_tensors[] = {
    [WHOLE_EMBEDDING] = {"model.embed_tokens", "token_embd", "transformer.wte"},
    [WHOLE_POSITIONS] = {"model.embed_positions", "position_embd", "transformer.wpe"},
    [WHOLE_NORM] = {"model.norm", "output_norm", "transformer.ln_f"},
    [WHOLE_HEAD] = {"lm_head", "output", "lm_head"},
};

struct spot {   /* one tensor of the list */
    int layer;  /* -1: of the whole model */
    int tensor; /* in layer_tensors, or enum whole */
    bool bias;
};

static int64_t extent(const struct model_config *c, enum row_kind k)
{
    switch (k) {
    case ROWS_DIM:
        return c->dim;
    case ROWS_Q:
        return c->heads * c->head_dim;
    case ROWS_KV:
        return c->kv_heads * c->head_dim;
    case ROWS_FFN:
        return c->ffn_dim;
    default:
        return 1;
    }
}

static bool is(const struct model_config *c, const char *architecture)
{
    return !strcmp(c->architecture, architecture);
}

static bool present(const struct model_config *c, int tensor)
{
    return tensor != TENSOR_GATE || c->activation == ACTIVATION_SWIGLU;
}

static bool biased(const struct model_config *c, int tensor)
{
    switch (layer_tensors[tensor].bias) {
    case BIAS_QKV:
        return c->qkv_bias;
    case BIAS_O:
        return c->o_bias;
    case BIAS_FFN:
        return c->ffn_bias;
    default:
        return c->norm == NORM_LAYER;
    }
}

static int per_layer(const struct model_config *c)
{
    int sum = 0;

    for (int t = 0; t < LAYER_TENSORS; t++)
        sum += present(c, t) ? 1 + biased(c, t) : 0;
    return sum;
}

int family_tensor_count(const struct model_config *c)
{
    return 1 + (c->positions == POSITIONS_LEARNED) + (int)c->layers * per_layer(c) + 1 +
        (c->norm == NORM_LAYER) + !c->tied_embeddings;
}

static struct spot locate(const struct model_config *c, int i)
{
    int learned = c->positions == POSITIONS_LEARNED, n = per_layer(c), t = 0;
    int in_layers = (int)c->layers * n, at = i - 1 - learned;

    if (at < 0)
        return (struct spot){-1, i ? WHOLE_POSITIONS : WHOLE_EMBEDDING, false};
    if (at >= in_layers) {
        at -= in_layers;
        if (at <= (c->norm == NORM_LAYER))
            return (struct spot){-1, WHOLE_NORM, at == 1};
        return (struct spot){-1, WHOLE_HEAD, false};
    }
    for (int left = at % n; t < LAYER_TENSORS; t++) {
        int here = present(c, t) ? 1 + biased(c, t) : 0;

        if (left < here)
            return (struct spot){at / n, t, left == 1};
        left -= here;
    }
    return (struct spot){-1, WHOLE_HEAD, false};
}

/* What its weight, or its bias, measures in canonical form. */
static void measure(const struct model_config *c, const struct spot *s, struct family_tensor *out)
{
    bool vector = s->bias ||
        (s->layer < 0 ? s->tensor == WHOLE_NORM : layer_tensors[s->tensor].cols == ROWS_ONE);

    out->dims = vector ? 1 : 2;
    if (s->layer >= 0)
        out->shape[0] = extent(c, layer_tensors[s->tensor].rows);
    else
        out->shape[0] = s->tensor == WHOLE_NORM ? c->dim
            : s->tensor == WHOLE_POSITIONS      ? c->context
                                                : c->vocab;
    out->shape[1] = vector ? 1 : s->layer < 0 ? c->dim : extent(c, layer_tensors[s->tensor].cols);
    if (s->layer >= 0 && layer_tensors[s->tensor].rotary && c->positions == POSITIONS_ROTARY)
        out->rotary_heads = out->shape[0] / c->head_dim;
}

void family_tensor(const struct model_config *c, int i, struct family_tensor *out)
{
    struct spot s = locate(c, i);
    const char *suffix = s.bias ? "bias" : "weight";

    *out = (struct family_tensor){0};
    measure(c, &s, out);
    if (s.layer < 0)
        snprintf(out->name, sizeof out->name, "%s.%s", whole_tensors[s.tensor].canonical, suffix);
    else
        snprintf(out->name, sizeof out->name, "model.layers.%d.%s.%s", s.layer,
            layer_tensors[s.tensor].canonical, suffix);
}

static void name_place(
    const struct model_config *c, const struct spot *s, enum family_format format, char out[128])
{
    bool gpt2 = is(c, "gpt2"),
         joined = gpt2 && s->layer >= 0 && s->tensor >= TENSOR_Q && s->tensor <= TENSOR_V;
    const char *suffix = s->bias ? "bias" : "weight";
    const struct layer_tensor *t = &layer_tensors[s->tensor];

    if (s->layer < 0 && (format == FAMILY_GGUF || gpt2))
        snprintf(out, 128, "%s.%s",
            format == FAMILY_GGUF ? whole_tensors[s->tensor].gguf : whole_tensors[s->tensor].gpt2,
            suffix);
    else if (s->layer < 0)
        snprintf(out, 128, "%s.%s", whole_tensors[s->tensor].canonical, suffix);
    else if (format == FAMILY_GGUF)
        snprintf(out, 128, "blk.%d.%s.%s", s->layer, joined ? "attn_qkv" : t->gguf, suffix);
    else if (gpt2 && t->gpt2)
        snprintf(out, 128, "transformer.h.%d.%s.%s", s->layer, t->gpt2, suffix);
    else
        snprintf(out, 128, "model.layers.%d.%s.%s", s->layer, t->canonical, suffix);
}

void family_place(
    const struct model_config *c, int i, enum family_format format, struct family_place *out)
{
    struct spot s = locate(c, i);
    struct family_tensor t = {0};
    int64_t q = extent(c, ROWS_Q), kv = extent(c, ROWS_KV);

    measure(c, &s, &t);
    *out = (struct family_place){.dims = t.dims, .shape = {t.shape[0], t.shape[1]}};
    name_place(c, &s, format, out->name);
    out->interleaved = format == FAMILY_GGUF && is(c, "llama") && t.rotary_heads;
    if (!is(c, "gpt2") || s.layer < 0)
        return;
    if (s.tensor >= TENSOR_Q && s.tensor <= TENSOR_V) {
        out->shape[0] = q + 2 * kv;
        out->first = s.tensor == TENSOR_Q ? 0 : s.tensor == TENSOR_K ? q : q + kv;
    }
    if (format == FAMILY_HF && t.dims == 2) {
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
