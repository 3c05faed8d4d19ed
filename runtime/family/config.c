/*
 * config: which descriptions are a transformer at all. Bounds keep every size and product of sizes
 * that follows within 64 bits, and every token id within the vocabulary. Pure. Which descriptions a
 * family can express is its own affair.
 */
#include "runtime/family/config.h"

#include "api/limits.h"
#include "runtime/family/family.h"
#include "runtime/family/rotary.h"

#include <assert.h>

static int check_ids(const struct model_config *c, struct err *e)
{
    const int32_t ids[] = {c->bos_id, c->eos_id, c->pad_id};
    int64_t vocab = model_config_is_share(c) ? c->share.vocab : c->vocab;
    if (c->more_eos_count < 0 || c->more_eos_count > MODEL_EOS_LIMIT - 1)
        return err_set(e, ERR_DATA, "more than %d end tokens", MODEL_EOS_LIMIT);
    for (int i = 0; i < 3 + c->more_eos_count; i++) {
        int32_t id = i < 3 ? ids[i] : c->more_eos[i - 3];
        if (id < -1 || id >= vocab)
            return err_set(e, ERR_DATA, "special token %d lies outside the vocabulary", id);
    }
    return 0;
}

static int check_experts(const struct model_config *c, struct err *e)
{
    if (c->experts < 0 || c->experts > MODEL_EXPERTS_LIMIT)
        return err_set(e, ERR_DATA, "%lld experts are not in [0, %d]", (long long)c->experts,
            MODEL_EXPERTS_LIMIT);
    if (!c->experts)
        return 0;
    if (3 * c->layers * c->experts > LIMIT_TENSORS)
        return err_set(e, ERR_DATA, "%lld layers of %lld experts are more than %d tensors",
            (long long)c->layers, (long long)c->experts, LIMIT_TENSORS);
    if (c->experts_per_token < 1 || c->experts_per_token > model_config_experts(c))
        return err_set(e, ERR_DATA, "%lld experts for each token of %lld",
            (long long)c->experts_per_token, (long long)model_config_experts(c));
    if (c->expert_ffn_dim < 1 || c->expert_ffn_dim > 1 << 20)
        return err_set(e, ERR_DATA, "expert size of %lld is not in [1, %d]",
            (long long)c->expert_ffn_dim, 1 << 20);
    if (!(c->balance_loss_coef >= 0 && c->balance_loss_coef <= 1e6f))
        return err_set(e, ERR_DATA, "a balance loss with the coefficient %g is not in [0, 1e6]",
            (double)c->balance_loss_coef);
    if (c->activation != ACTIVATION_SWIGLU || c->ffn_bias || c->labels)
        return err_set(e, ERR_DATA, "experts with biases, labels or without gates");
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
        {"token types", c->types, 0, 1 << 16},
        {"labels", c->labels, 0, 1 << 16},
        {"attention window", c->window, 0, INT32_MAX},
    };
    if (!family_of(c))
        return err_set(e, ERR_DATA, "architecture \"%s\" is not supported", c->architecture);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].value < bounds[i].low || bounds[i].value > bounds[i].high)
            return err_set(e, ERR_DATA, "%s of %lld is not in [%lld, %lld]", bounds[i].name,
                (long long)bounds[i].value, (long long)bounds[i].low, (long long)bounds[i].high);
    if (c->heads % c->kv_heads)
        return err_set(e, ERR_DATA, "%lld attention heads are no multiple of %lld key/value heads",
            (long long)c->heads, (long long)c->kv_heads);
    if (c->norm > NORM_LAYER || c->activation > ACTIVATION_GELU_ERF ||
        c->positions > POSITIONS_LEARNED)
        return err_set(e, ERR_DATA, "a norm, activation or positions of no known kind");
    if (c->positions == POSITIONS_ROTARY && c->head_dim % 2)
        return err_set(e, ERR_DATA, "head size %lld is odd", (long long)c->head_dim);
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        return err_set(e, ERR_DATA, "norm epsilon %g is not in (0, 1)", (double)c->norm_eps);
    if (c->positions == POSITIONS_ROTARY && !(c->rope_theta >= 1 && c->rope_theta <= 1e12f))
        return err_set(e, ERR_DATA, "rotary base %g is not in [1, 1e12]", (double)c->rope_theta);
    if (!rotary_scaling_ok(&c->rope_scaling))
        return err_set(e, ERR_DATA, "a rotary scaling that cannot be");
    if (c->window && c->bidirectional)
        return err_set(e, ERR_DATA, "a window of attention that sees the whole sequence");
    if (c->last && (c->pooled || c->bidirectional))
        return err_set(e, ERR_DATA, "labels at the last token of what sees the whole sequence");
    if (c->several && !model_config_tells_texts(c))
        return err_set(e, ERR_DATA, "several labels at once of what is no whole text");
    if (c->masked && (!c->bidirectional || c->labels))
        return err_set(
            e, ERR_DATA, "a head of masked tokens beside labels or over what came before");
    int rc = check_experts(c, e);
    return rc ? rc : check_ids(c, e);
}

/* Where part `index` of `size` of n things begins. */
static int64_t part_begins(int64_t n, int index, int size)
{
    return n / size * index + (n % size < index ? n % size : index);
}

/* The first layer of a stage. */
static int64_t stage_begins(int64_t layers, const struct model_cut *x, int stage)
{
    int64_t sum = 0;
    if (!x->stage_layers)
        return part_begins(layers, stage, x->pipeline_size);
    for (int i = 0; i < stage; i++)
        sum += x->stage_layers[i];
    return sum;
}

static int check_cut(const struct model_config *c, const struct model_cut *x, struct err *e)
{
    int64_t least = c->kv_heads < c->ffn_dim ? c->kv_heads : c->ffn_dim;
    least = least < c->vocab ? least : c->vocab;
    if (c->experts && x->tensor_size > c->expert_ffn_dim)
        return err_set(e, ERR_USER,
            "spec.parallelism.tensor: %d, but spec.model has experts of %lld columns to share out",
            x->tensor_size, (long long)c->expert_ffn_dim);
    if (x->tensor_size > least)
        return err_set(e, ERR_USER,
            "spec.parallelism.tensor: %d, but spec.model has %lld key/value heads to share out",
            x->tensor_size, (long long)c->kv_heads);
    if (x->pipeline_size > c->layers)
        return err_set(e, ERR_USER, "spec.parallelism.pipeline: %d, but spec.model has %lld layers",
            x->pipeline_size, (long long)c->layers);
    if (x->chunks > 1 && (int64_t)x->pipeline_size * x->chunks > c->layers)
        return err_set(e, ERR_USER,
            "spec.parallelism.virtualStages: %d on each of %d ranks, but spec.model has %lld "
            "layers",
            x->chunks, x->pipeline_size, (long long)c->layers);
    if (x->expert_size > 1 && x->expert_size > c->experts)
        return err_set(e, ERR_USER,
            "spec.parallelism.expert: %d, but spec.model has %lld experts a layer to share out",
            x->expert_size, (long long)c->experts);
    return 0;
}

/* Layers in chunks are not one run: begin and number are those of the first chunk and of all. */
static void share_chunks(
    const struct model_config *whole, const struct model_cut *x, struct model_config *c)
{
    c->share.stages = x->pipeline_size;
    c->share.stage = x->pipeline;
    c->share.chunks = x->chunks;
    c->share.first_layer = model_config_layer(c, 0);
    c->layers = model_config_chunk_begins(c, x->chunks);
    assert(!x->stage_layers && x->chunks <= MODEL_CHUNKS && whole->layers >= c->layers);
}

int model_config_share(const struct model_config *whole, const struct model_cut *x,
    struct model_config *out, struct err *e)
{
    struct model_config c = *whole;
    int rc = check_cut(whole, x, e), t = x->tensor, n = x->tensor_size;
    int dealt = x->expert_size > 1 ? x->expert_size : 1;
    if (rc)
        return rc;
    if (n > 1 || x->pipeline_size > 1 || dealt > 1) {
        int64_t group = whole->heads / whole->kv_heads;
        c.share = (struct model_share){.heads = whole->heads,
            .kv_heads = whole->kv_heads,
            .ffn_dim = whole->ffn_dim,
            .expert_ffn_dim = whole->expert_ffn_dim,
            .vocab = whole->vocab,
            .layers = whole->layers,
            .experts = whole->experts,
            .first_kv_head = part_begins(whole->kv_heads, t, n),
            .first_ffn = part_begins(whole->ffn_dim, t, n),
            .first_expert_ffn = part_begins(whole->expert_ffn_dim, t, n),
            .first_token = part_begins(whole->vocab, t, n),
            .first_layer = stage_begins(whole->layers, x, x->pipeline),
            .first_expert = part_begins(whole->experts, x->expert, dealt),
            .tensor_ranks = n > 1 ? n : 1,
            .expert_ranks = dealt};
        c.kv_heads = part_begins(whole->kv_heads, t + 1, n) - c.share.first_kv_head;
        c.ffn_dim = part_begins(whole->ffn_dim, t + 1, n) - c.share.first_ffn;
        c.expert_ffn_dim = part_begins(whole->expert_ffn_dim, t + 1, n) - c.share.first_expert_ffn;
        c.vocab = part_begins(whole->vocab, t + 1, n) - c.share.first_token;
        c.layers = stage_begins(whole->layers, x, x->pipeline + 1) - c.share.first_layer;
        c.experts = part_begins(whole->experts, x->expert + 1, dealt) - c.share.first_expert;
        c.heads = c.kv_heads * group;
        if (x->chunks > 1)
            share_chunks(whole, x, &c);
    }
    *out = c;
    return 0;
}

bool model_config_is_share(const struct model_config *c)
{
    return c->share.layers;
}

bool model_config_is_cut(const struct model_config *c)
{
    return model_config_is_share(c) && c->share.vocab != c->vocab;
}

bool model_config_is_dealt(const struct model_config *c)
{
    return c->share.expert_ranks > 1;
}

int64_t model_config_experts(const struct model_config *c)
{
    return model_config_is_share(c) ? c->share.experts : c->experts;
}

int64_t model_config_first_expert(const struct model_config *c, int rank)
{
    return part_begins(c->share.experts, rank, c->share.expert_ranks);
}

bool model_config_is_first(const struct model_config *c)
{
    return c->share.first_layer == 0;
}

bool model_config_is_last(const struct model_config *c)
{
    return !model_config_is_share(c) || model_config_layer(c, c->layers - 1) + 1 == c->share.layers;
}

int model_config_chunks(const struct model_config *c)
{
    return c->share.chunks > 1 ? c->share.chunks : 1;
}

/* Where a chunk begins in the whole model; end: where it ends. */
static int64_t chunk_begins(const struct model_share *s, int chunk, int end)
{
    return part_begins(s->layers, chunk * s->stages + s->stage + end, s->stages * s->chunks);
}

int64_t model_config_layer(const struct model_config *c, int64_t i)
{
    const struct model_share *s = &c->share;
    if (s->chunks <= 1)
        return s->first_layer + i;
    for (int k = 0;; k++) {
        int64_t first = chunk_begins(s, k, 0), count = chunk_begins(s, k, 1) - first;
        if (i < count)
            return first + i;
        i -= count;
        assert(k < s->chunks);
    }
}

int64_t model_config_chunk_begins(const struct model_config *c, int chunk)
{
    const struct model_share *s = &c->share;
    int64_t sum = 0;
    if (s->chunks <= 1)
        return chunk ? c->layers : 0;
    for (int k = 0; k < chunk; k++)
        sum += chunk_begins(s, k, 1) - chunk_begins(s, k, 0);
    return sum;
}

bool model_config_chunk_is_first(const struct model_config *c, int chunk)
{
    return model_config_is_first(c) && chunk == 0;
}

bool model_config_chunk_is_last(const struct model_config *c, int chunk)
{
    return model_config_is_last(c) && chunk + 1 == model_config_chunks(c);
}

void model_config_whole(struct model_config *c)
{
    if (!model_config_is_share(c))
        return;
    c->heads = c->share.heads;
    c->kv_heads = c->share.kv_heads;
    c->ffn_dim = c->share.ffn_dim;
    c->expert_ffn_dim = c->share.expert_ffn_dim;
    c->vocab = c->share.vocab;
    c->layers = c->share.layers;
    c->experts = c->share.experts;
    c->share = (struct model_share){0};
}

bool model_config_tells_texts(const struct model_config *c)
{
    return c->labels && (c->pooled || c->last);
}

bool model_config_same_labels(const struct model_config *a, const struct model_config *b)
{
    return a->labels && a->labels == b->labels && a->pooled == b->pooled && a->last == b->last &&
        a->several == b->several;
}

bool model_config_ends(const struct model_config *c, int32_t id)
{
    bool ends = id == c->eos_id;
    for (int i = 0; i < c->more_eos_count; i++)
        ends = ends || id == c->more_eos[i];
    return ends && id >= 0;
}
