/*
 * model: life and named tensors of a model. The flat ranges are laid out by the tables
 * (runtime/family/tensors.h), whose offsets are good for masters, their copy, the frozen range and
 * gradients alike. What it will all take is planned before any of it is allocated.
 */
#include "runtime/model/internal.h"

#include "base/mem.h"
#include "kernels/quant.h"
#include "runtime/model/blocks.h"
#include "runtime/model/bottleneck.h"
#include "runtime/model/dora.h"
#include "runtime/model/lora.h"

#include <assert.h>

/* -- where tensors stand -- */

/* NULL stays NULL: a model that is only planned has no memory. */
static void *at_offset(const void *range, int64_t offset, enum dtype t)
{
    return range ? (char *)range + offset * dtype_block_bytes(t) : NULL;
}

struct stored model_frozen(const struct model *m, const struct tensor *p)
{
    if (m->stored)
        return m->stored[p - m->base.at];
    return (struct stored){m->conf.t, at_offset(m->frozen, p->offset, m->conf.t)};
}

/* Where a divided weight is computed with. */
static struct stored in_window(const struct model *m, const struct tensor *p)
{
    int64_t at = zero_window_place(&m->weights_window, p);
    return (struct stored){m->conf.t, at_offset(m->window, at, m->conf.t)};
}

static struct stored bind(const struct model *m, const struct tensor *trained,
    const struct tensor *frozen, float *gradient, float **dw)
{
    const struct tensor *p = trained ? trained : frozen;
    enum dtype t = m->conf.train ? m->conf.t : DTYPE_F32;
    if (!p)
        return (struct stored){0};
    if (!trained && m->weights_window.units)
        return in_window(m, p);
    if (!trained || (!m->conf.train && !model_is_frozen(&m->conf)))
        return model_frozen(m, p);
    *dw = at_offset(gradient, zero_window_place(&m->gradient_window, p), DTYPE_F32);
    if (m->weights_window.units && !model_is_frozen(&m->conf))
        return in_window(m, p);
    return (struct stored){t, at_offset(m->copy ? (void *)m->copy : m->master, p->offset, t)};
}

struct stored model_bind(const struct model *m, enum tensor_role role, enum tensor_part part,
    int64_t layer, float *gradient, float **dw)
{
    return bind(m, tensors_get(model_trained(m), role, part, layer, -1),
        tensors_get(&m->base, role, part, layer, -1), gradient, dw);
}

struct stored model_bind_expert(const struct model *m, enum tensor_role role, int64_t layer,
    int64_t expert, float *gradient, float **dw)
{
    return bind(m, tensors_get(model_trained(m), role, TENSOR_WEIGHT, layer, expert),
        tensors_get(&m->base, role, TENSOR_WEIGHT, layer, expert), gradient, dw);
}

/* -- life -- */

static const char *what_it_does(const struct model_config *c)
{
    if (!c->labels)
        return "sees the whole text";
    return model_config_tells_texts(c) ? "classifies texts" : "classifies tokens";
}

enum dtype model_type_of(enum precision p)
{
    return p == PRECISION_FP32 ? DTYPE_F32 : p == PRECISION_FP16 ? DTYPE_F16 : DTYPE_BF16;
}

enum dtype model_cache_type(const struct model_conf *c)
{
    static const enum dtype types[] = {[KV_CACHE_FP32] = DTYPE_F32,
        [KV_CACHE_BF16] = DTYPE_BF16,
        [KV_CACHE_FP16] = DTYPE_F16,
        [KV_CACHE_Q8_0] = DTYPE_Q8_0};
    return c->kv_cache == KV_CACHE_AUTO ? c->t : types[c->kv_cache];
}

int64_t model_cache_bytes(const struct model_conf *c, int64_t pages)
{
    const struct model_config *is = &c->config;
    return kvcache_bytes(is->layers, pages, is->kv_heads * is->head_dim, model_cache_type(c));
}

static int check_conf(const struct model_conf *c, struct err *e)
{
    if (c->t != DTYPE_F32 && c->t != DTYPE_BF16 && c->t != DTYPE_F16)
        return err_set(e, ERR_BUG, "compute type %s", dtype_name(c->t));
    if (!c->train && !c->encodes && (c->config.bidirectional || c->config.labels))
        return err_set(e, ERR_USER, "a %s model that %s predicts no next token",
            c->config.architecture, what_it_does(&c->config));
    if (c->config.bidirectional && !c->config.labels && !c->config.masked && !c->headless)
        return err_set(e, ERR_USER,
            "spec.train.objective: a %s model predicts no next token; it can be trained with "
            "MaskedLM, TokenClassification, SequenceClassification or PairMatching",
            c->config.architecture);
    if (c->train && (c->micro_sequences < 1 || c->sequence_length < 1))
        return err_set(e, ERR_USER, "a micro-batch needs at least one sequence of one token");
    if (c->train && c->sequence_length > c->config.context)
        return err_set(e, ERR_USER,
            "spec.train.sequenceLength: %lld exceeds the model's context of %lld",
            (long long)c->sequence_length, (long long)c->config.context);
    if (!c->train && c->kv_capacity < 1)
        return err_set(e, ERR_USER, "serving needs a context of at least one token");
    if (!c->train && c->config.positions == POSITIONS_LEARNED && c->kv_capacity > c->config.context)
        return err_set(e, ERR_USER, "a context of %lld exceeds the %lld learned positions",
            (long long)c->kv_capacity, (long long)c->config.context);
    return 0;
}

static int describe_tensors(
    const struct model_conf *c, struct tensors *base, struct tensors *added, struct err *e)
{
    int rc = tensors_create(&c->config, base, e);
    if (!rc && c->train && c->lora_rank)
        rc = lora_tensors(c, added, e);
    if (!rc && c->adapter_size)
        rc = bottleneck_tensors(c, added, e);
    return rc;
}

/* What of each flat range is here, and the windows on what is not. */
static int describe_slices(struct model *m, struct err *e)
{
    const struct model_conf *c = &m->conf;
    const struct tensors *t = model_trained(m);
    int owner = c->owner > 0 ? c->owner : 0;
    bool gradient = zero_divides_gradient(c), weights = zero_divides_weights(c);
    m->own = m->own_gradient = (struct zero_slice){0, t->elements};
    m->own_base = (struct zero_slice){0, m->base.elements};
    if (c->owners < 2 || !c->slice_fn)
        return 0;
    m->slices = mem_array((size_t)c->owners, sizeof *m->slices);
    if (!m->slices)
        return err_set(e, ERR_MEMORY, "no memory for the slices of %d ranks", c->owners);
    for (int i = 0; i < c->owners; i++)
        m->slices[i] = zero_trained(c, t, i).count;
    if (zero_divides_masters(c))
        m->own = zero_trained(c, t, owner);
    if (gradient)
        m->own_gradient = zero_trained(c, t, owner);
    if (weights)
        m->own_base = zero_base(c, &m->base, owner);
    int rc = gradient ? zero_window_create(&m->gradient_window, c, t, true, e) : 0;
    if (!rc && weights)
        rc = zero_window_create(&m->weights_window, c, &m->base, false, e);
    return rc;
}

static int describe_whole(struct model *m, struct err *e)
{
    struct model_conf c = m->conf;
    model_config_whole(&c.config);
    return describe_tensors(&c, &m->whole_base, &m->whole_added, e);
}

int model_describe(struct model *m, const struct model_conf *c, struct err *e)
{
    m->conf = *c;
    int rc;
    if ((rc = model_config_check(&c->config, e)) ||
        (rc = describe_tensors(c, &m->base, &m->added, e)) ||
        (!c->train && model_config_is_share(&c->config) && (rc = describe_whole(m, e))) ||
        (rc = describe_slices(m, e)))
        return rc;
    if (c->train && !model_is_quantized(c))
        return 0;
    m->stored = mem_array((size_t)m->base.count, sizeof *m->stored);
    if (!m->stored)
        return err_set(e, ERR_MEMORY, "no memory for %d tensors", m->base.count);
    if (!c->train)
        return 0;
    blocks_carve_base(m, &(struct carve){0});
    return blocks_check(m, e);
}

void model_done(struct model *m)
{
    tensors_done(&m->base);
    tensors_done(&m->added);
    tensors_done(&m->whole_base);
    tensors_done(&m->whole_added);
    mem_free(m->slices);
    zero_window_done(&m->weights_window);
    zero_window_done(&m->gradient_window);
    mem_free(m->stored);
}

static int alloc_base(struct model *m, struct err *e)
{
    blocks_carve_base(m, &m->arena);
    int rc = carve_open(&m->arena, m->dev, e);
    if (!rc)
        blocks_carve_base(m, &m->arena);
    return rc;
}

int model_alloc_shared(
    struct model *m, int64_t bytes, bool wanted, void **out, bool *shared, struct err *e)
{
    *shared = wanted && m->conf.coll && bytes;
    if (!bytes)
        return 0;
    return *shared ? coll_alloc(m->conf.coll, (size_t)bytes, out, e)
                   : dev_alloc(m->dev, (size_t)bytes, out, e);
}

/* Owners send the others masters, or, where these are divided, their copy or what is gathered. */
static int alloc_training(struct model *m, struct err *e)
{
    bool owned = m->conf.owners > 1, divided = zero_divides_masters(&m->conf), alone;
    void *frozen = NULL, *master = NULL, *copy = NULL;
    int rc = m->stored ? alloc_base(m, e)
                       : model_alloc_shared(m, m->plan.weights, false, &frozen, &alone, e);
    m->frozen = frozen;
    if (!rc)
        rc = model_alloc_shared(
            m, m->plan.master, owned && !divided, &master, &m->masters_shared, e);
    m->master = master;
    if (!rc)
        rc = model_alloc_shared(m, m->plan.copy, divided, &copy, &m->copy_shared, e);
    m->copy = copy;
    return rc ? rc : model_alloc_shared(m, m->plan.window, owned, &m->window, &m->window_shared, e);
}

int model_create(struct dev *d, const struct model_conf *c, struct model **out, struct err *e)
{
    struct model *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "no memory for a model");
    m->dev = d;
    int rc;
    if ((rc = check_conf(c, e)) || (rc = model_describe(m, c, e)) ||
        (c->train && model_config_is_share(&c->config) && (rc = describe_whole(m, e))) ||
        (rc = memplan_of(m, NULL, &m->plan, e)) || (c->train && (rc = alloc_training(m, e)))) {
        model_destroy(m);
        return rc;
    }
    *out = m;
    return 0;
}

void model_destroy(struct model *m)
{
    if (!m)
        return;
    if (m->dev) {
        dev_free(m->dev, m->frozen);
        if (!m->masters_shared)
            dev_free(m->dev, m->master);
        if (!m->copy_shared)
            dev_free(m->dev, m->copy);
        if (!m->window_shared)
            dev_free(m->dev, m->window);
        carve_close(&m->arena, m->dev);
    }
    model_done(m);
    mem_free(m);
}

/* -- what others see -- */

int64_t model_parameters(const struct model *m)
{
    const struct tensors *base = model_whole_base(m), *added = &m->added;
    int64_t sum = 0;
    if (model_config_is_share(&m->conf.config))
        added = &m->whole_added;
    for (int i = 0; i < base->count; i++)
        sum += base->at[i].count;
    for (int i = 0; i < added->count; i++)
        if (added->at[i].part >= TENSOR_LORA_A)
            sum += added->at[i].count;
    return sum;
}

int64_t model_vocab(const struct model *m)
{
    struct model_config whole = m->conf.config;
    model_config_whole(&whole);
    return whole.vocab;
}

int64_t model_memory_bytes(const struct model *m)
{
    return m->plan.total;
}

bool model_is_frozen(const struct model_conf *c)
{
    return c->lora_rank || c->adapter_size || c->frozen;
}

bool model_is_quantized(const struct model_conf *c)
{
    return c->stored || c->quantize != QUANTIZE_NONE;
}

const struct tensors *model_trained(const struct model *m)
{
    return model_is_frozen(&m->conf) ? &m->added : &m->base;
}

const struct tensors *model_base(const struct model *m)
{
    return &m->base;
}

const struct tensors *model_whole_base(const struct model *m)
{
    return model_config_is_share(&m->conf.config) ? &m->whole_base : &m->base;
}

const struct tensors *model_whole_trained(const struct model *m)
{
    if (!model_config_is_share(&m->conf.config))
        return model_trained(m);
    return model_is_frozen(&m->conf) ? &m->whole_added : &m->whole_base;
}

bool model_is_copy(const struct model *m, const struct tensor *t)
{
    const struct model_config *c = &m->conf.config;
    bool later = model_config_is_cut(c) && c->share.first_token > 0;
    bool dealt = c->share.first_expert > 0 && !tensor_of_expert(t->role);
    return (later && !tensor_is_cut(t)) || dealt || model_is_tied(m, t);
}

bool model_is_tied(const struct model *m, const struct tensor *t)
{
    return t->role == TENSOR_EMBED && !model_config_is_first(&m->conf.config);
}

int64_t model_trainable(const struct model *m)
{
    return model_trained(m)->elements;
}

void model_here(const struct model *m, int64_t *first, int64_t *count)
{
    *first = m->own.first;
    *count = m->own.count;
}

float *model_master(struct model *m)
{
    return m->master;
}

float *model_master_at(struct model *m, int64_t at)
{
    assert(at >= m->own.first && at <= m->own.first + m->own.count);
    return m->master + (at - m->own.first);
}

uint16_t *model_compute_copy(struct model *m)
{
    return m->copy;
}

enum dtype model_compute_type(const struct model *m)
{
    return m->conf.t;
}

int model_owners(const struct model *m, int *owner)
{
    *owner = m->conf.owners > 1 ? m->conf.owner : 0;
    return m->conf.owners > 1 ? m->conf.owners : 1;
}

struct coll *model_coll(const struct model *m)
{
    return m->conf.coll;
}

void model_master_changed(struct model *m)
{
    if (m->copy && m->own.count)
        OP(m, convert, .count = m->own.count, .x = m->master, .x_type = DTYPE_F32,
            .y = m->copy + m->own.first, .y_type = m->conf.t);
}

static int gather_slices(struct model *m, void *range, enum dtype t, struct err *e)
{
    int rc = coll_all_gather_start(m->conf.coll, range, m->slices, t, e);
    if (!rc)
        coll_reduce_join(m->conf.coll);
    return rc;
}

int model_masters_read(struct model *m, struct err *e)
{
    model_master_changed(m);
    bool wanted = zero_divides_masters(&m->conf) && m->copy && m->conf.coll;
    return wanted ? gather_slices(m, m->copy, m->conf.t, e) : 0;
}

int model_slices_changed(struct model *m, struct err *e)
{
    if (zero_divides_masters(&m->conf))
        return model_masters_read(m, e);
    int rc = m->conf.coll && m->slices ? gather_slices(m, m->master, DTYPE_F32, e) : 0;
    if (!rc)
        model_master_changed(m);
    return rc;
}

bool model_is_divided(const struct model *m)
{
    const struct model_conf *c = &m->conf;
    return model_config_is_share(&c->config) || zero_divides_masters(c) || zero_divides_weights(c);
}

int model_check_ids(
    const struct model *m, const int32_t *ids, int64_t n, int32_t least, struct err *e)
{
    int64_t vocab = model_vocab(m);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < least || ids[i] >= vocab)
            return err_set(e, ERR_DATA, "token %d is outside the vocabulary of %lld", ids[i],
                (long long)vocab);
    return 0;
}

/* -- reading -- */

static int merge_lengths(struct model *m, const struct tensor *p, float *dst, struct err *e)
{
    const struct tensor *x = tensors_get(&m->added, p->role, TENSOR_LORA_M, p->layer, p->expert);
    if (!x)
        return 0;
    mem_autofree float *lengths = mem_array((size_t)x->count, sizeof *lengths);
    if (!lengths)
        return err_set(e, ERR_MEMORY, "no memory to merge %s", p->name);
    dev_download(m->dev, lengths, m->master + x->offset, (size_t)x->count * 4);
    int rc = dev_sync(m->dev, e);
    if (!rc)
        dora_merge(dst, lengths, p->shape[0], p->shape[1]);
    return rc;
}

/* a (rank, columns) *= singular values, if there are any. */
static int merge_values(struct model *m, const struct tensor *p, float *a, struct err *e)
{
    const struct tensor *x = tensors_get(&m->added, p->role, TENSOR_LORA_E, p->layer, p->expert);
    if (!x)
        return 0;
    mem_autofree float *values = mem_array((size_t)x->count, sizeof *values);
    if (!values)
        return err_set(e, ERR_MEMORY, "no memory to merge %s", p->name);
    dev_download(m->dev, values, m->master + x->offset, (size_t)x->count * 4);
    int rc = dev_sync(m->dev, e);
    if (!rc)
        lora_apply_values(a, values, x->count, p->shape[1]);
    return rc;
}

int model_merge(struct model *m, const struct tensor *p, float *dst, struct err *e)
{
    const struct tensor *a = tensors_get(&m->added, p->role, TENSOR_LORA_A, p->layer, p->expert);
    const struct tensor *b = tensors_get(&m->added, p->role, TENSOR_LORA_B, p->layer, p->expert);
    if (p->part != TENSOR_WEIGHT || !a || !b)
        return 0;
    mem_autofree float *fa = mem_array((size_t)a->count, 4);
    mem_autofree float *fb = mem_array((size_t)b->count, 4);
    if (!fa || !fb)
        return err_set(e, ERR_MEMORY, "no memory to merge %s", p->name);
    dev_download(m->dev, fa, m->master + a->offset, (size_t)a->count * 4);
    dev_download(m->dev, fb, m->master + b->offset, (size_t)b->count * 4);
    int rc = merge_values(m, p, fa, e);
    if (rc)
        return rc;
    lora_merge(dst, fa, fb, p->shape[0], p->shape[1], m->conf.lora_rank, lora_scale(&m->conf));
    return merge_lengths(m, p, dst, e);
}

/* Blocks as they are computed with. */
static int read_blocks(
    struct model *m, const struct tensor *p, const struct stored *from, float *dst, struct err *e)
{
    size_t bytes = (size_t)dtype_bytes(from->type, p->count);
    mem_autofree void *raw = mem_alloc(bytes);
    if (!raw)
        return err_set(e, ERR_MEMORY, "no memory to read %s", p->name);
    dev_download(m->dev, raw, from->data, bytes);
    int rc = dev_sync(m->dev, e);
    if (rc)
        return rc;
    quant_decode(from->type, raw, p->count, dst);
    for (int64_t i = 0; i < p->count && m->conf.t != DTYPE_F32; i++)
        dst[i] = half_to_f32(m->conf.t, f32_to_half(m->conf.t, dst[i]));
    return 0;
}

void model_read_here(
    struct model *m, const struct tensor *p, int64_t first, int64_t count, float *dst)
{
    bool frozen = !tensors_find(model_trained(m), p->name);
    const struct zero_slice own = frozen ? m->own_base : m->own;
    enum dtype t = frozen ? m->conf.t : DTYPE_F32;
    int64_t begin = p->offset + first, end = own.first + own.count;
    int64_t from = own.first > begin ? own.first : begin;
    int64_t n = (end < begin + count ? end : begin + count) - from;
    float *to = dst + (from - begin);
    memset(dst, 0, (size_t)count * sizeof *dst);
    if (n <= 0)
        return;
    void *at = t == DTYPE_F32 ? (void *)to : (uint16_t *)to + n;
    dev_download(m->dev, at, at_offset(frozen ? (void *)m->frozen : m->master, from - own.first, t),
        (size_t)(n * dtype_block_bytes(t)));
    for (int64_t i = 0; i < n && t != DTYPE_F32; i++)
        to[i] = half_to_f32(t, ((uint16_t *)to + n)[i]);
}

/* A frozen tensor. 16 bits go into the upper half of dst and are widened upwards: element i is read
   before it is overwritten. */
static int read_frozen(struct model *m, const struct tensor *p, float *dst, struct err *e)
{
    const struct stored from = model_frozen(m, p);
    if (m->weights_window.units) {
        model_read_here(m, p, 0, p->count, dst);
        return 0;
    }
    if (from.type == DTYPE_F32) {
        dev_download(m->dev, dst, from.data, (size_t)p->count * 4);
        return 0;
    }
    if (dtype_block(from.type) > 1)
        return read_blocks(m, p, &from, dst, e);
    uint16_t *half = (uint16_t *)dst + p->count;
    dev_download(m->dev, half, from.data, (size_t)p->count * 2);
    for (int64_t i = 0; i < p->count; i++)
        dst[i] = half_to_f32(from.type, half[i]);
    return 0;
}

int model_read(
    struct model *m, const char *name, bool merged, float *dst, int64_t count, struct err *e)
{
    const struct tensor *trained = tensors_find(model_trained(m), name);
    const struct tensor *p = trained ? trained : tensors_find(&m->base, name);
    if (!p || p->count != count || !m->conf.train)
        return err_set(e, ERR_BUG, "no tensor %s of %lld numbers", name, (long long)count);
    int rc = 0;
    if (trained && zero_divides_masters(&m->conf))
        model_read_here(m, p, 0, count, dst);
    else if (trained)
        dev_download(m->dev, dst, m->master + p->offset, (size_t)count * 4);
    else
        rc = read_frozen(m, p, dst, e);
    if (rc || (merged && !trained && (rc = model_merge(m, p, dst, e))))
        return rc;
    return dev_sync(m->dev, e);
}
