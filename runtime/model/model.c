/*
 * model: life, memory and named tensors of the transformer. Sizes come from memplan; every family
 * is one device block that is cut up here, and a block that is cut beyond its plan is a bug that
 * stops at start. Seen from outside by canonical names only; the forward and backward
 * halves have files of their own.
 */
#include "runtime/model/internal.h"

#include "base/mem.h"
#include "runtime/door/beat.h"

#include <assert.h>
#include <math.h>

void *model_cut(struct arena_dev *a, int64_t bytes)
{
    void *p = a->base + a->used;

    a->used += (bytes + 63) / 64 * 64;
    assert(a->used <= a->size);
    return p;
}

int model_arena_open(struct model *m, struct arena_dev *a, int64_t size, struct err *e)
{
    void *p;
    int rc;

    if (!size)
        return 0;
    rc = dev_alloc(m->dev, (size_t)size, &p, e);
    if (!rc)
        *a = (struct arena_dev){p, size, 0};
    return rc;
}

/* -- training: where weights and gradients stand -- */

static const void *weight_at(const struct model *m, int64_t offset, bool trained)
{
    if (!trained)
        return at_element(m->frozen, offset, m->act);
    return m->copy ? (const void *)(m->copy + offset) : (const void *)(m->master + offset);
}

static void wire_factors(struct model *m, int64_t layer, enum linear_kind kind)
{
    struct linear *l = &m->layers[layer].linear[kind];
    const struct linear_shape *s = &l->shape;
    int64_t row = 0;
    for (int i = 0; i < s->pieces; row += s->rows[i++]) {
        const struct tensor *a = tensors_get(&m->lora, s->role[i], TENSOR_LORA_A, layer, -1);
        const struct tensor *b = tensors_get(&m->lora, s->role[i], TENSOR_LORA_B, layer, -1);
        if (!a)
            continue;
        if (!l->lora.count) {
            l->lora.a = weight_at(m, a->offset, true);
            l->lora.da = m->gradient + a->offset;
        }
        l->lora.factor[l->lora.count++] = (struct lora_factor){.row = row,
            .rows = s->rows[i],
            .b = weight_at(m, b->offset, true),
            .db = m->gradient + b->offset};
    }
    l->lora.r = m->conf.lora_rank;
    l->lora.rank = l->lora.r * l->lora.count;
    l->lora.dropout = m->conf.lora_dropout;
    l->lora.seed = lora_seed(m->conf.seed, layer, kind);
    l->lora.scale = l->lora.r ? m->conf.lora_alpha / (float)l->lora.r : 0;
}

/* A tensor of the base, with its gradient when it is trained. */
static const void *wire_tensor(const struct model *m, const struct tensor *t, float **gradient)
{
    bool full = !m->conf.lora_rank;
    if (full)
        *gradient = m->gradient + t->offset;
    return weight_at(m, t->offset, full);
}

static void wire_norm(const struct model *m, enum tensor_role role, int64_t layer, struct norm *n)
{
    const struct tensor *bias = tensors_get(&m->base, role, TENSOR_BIAS, layer, -1);
    n->w = wire_tensor(m, tensors_get(&m->base, role, TENSOR_WEIGHT, layer, -1), &n->dw);
    if (bias)
        n->bias = wire_tensor(m, bias, &n->dbias);
}

static void wire_linear(struct model *m, int64_t layer, enum linear_kind kind)
{
    struct linear *l = &m->layers[layer].linear[kind];
    enum tensor_role first = l->shape.role[0];
    l->w = wire_tensor(m, tensors_get(&m->base, first, TENSOR_WEIGHT, layer, -1), &l->dw);
    if (l->shape.bias)
        l->bias[0] =
            wire_tensor(m, tensors_get(&m->base, first, TENSOR_BIAS, layer, -1), &l->dbias);
    if (m->conf.lora_rank)
        wire_factors(m, layer, kind);
}

static void wire_training(struct model *m)
{
    const struct tensor *positions = tensors_get(&m->base, TENSOR_POSITIONS, TENSOR_WEIGHT, -1, -1);
    m->embed =
        wire_tensor(m, tensors_get(&m->base, TENSOR_EMBED, TENSOR_WEIGHT, -1, -1), &m->dembed);
    m->head = wire_tensor(m, tensors_head(&m->base), &m->dhead);
    if (positions)
        m->positions = wire_tensor(m, positions, &m->dpositions);
    for (int64_t i = 0; i < m->conf.config.layers; i++) {
        for (enum linear_kind k = 0; k < LINEARS; k++)
            wire_linear(m, i, k);
        wire_norm(m, TENSOR_NORM_ATTENTION, i, &m->layers[i].norm[0]);
        wire_norm(m, TENSOR_NORM_FFN, i, &m->layers[i].norm[1]);
    }
    wire_norm(m, TENSOR_NORM_FINAL, -1, &m->final);
}

/* -- activations -- */

static void *cut_act(struct model *m, struct arena_dev *a, int64_t columns)
{
    return model_cut(a, m->rows * columns * dtype_block_bytes(m->act));
}

static void cut_statistics(struct model *m, struct arena_dev *a, struct norm *n)
{
    n->rstd = model_cut(a, m->rows * 4);
    if (m->conf.config.norm == NORM_LAYER)
        n->mean = model_cut(a, m->rows * 4);
}

static void carve_attention(struct model *m, struct arena_dev *a, struct layer *l)
{
    const struct model_config *c = &m->conf.config;

    l->x_mid = cut_act(m, a, c->dim);
    l->qkv = cut_act(m, a, l->linear[LINEAR_QKV].shape.out);
    l->att = cut_act(m, a, c->heads * c->head_dim);
    for (enum linear_kind k = 0; k < LINEARS; k++)
        if (l->linear[k].lora.count)
            l->linear[k].lora.u = cut_act(m, a, l->linear[k].lora.rank);
    cut_statistics(m, a, &l->norm[0]);
    cut_statistics(m, a, &l->norm[1]);
    l->lse = model_cut(a, m->rows * c->heads * 4);
}

static void carve_feed_forward(struct model *m, struct arena_dev *a, struct layer *l)
{
    const struct model_config *c = &m->conf.config;

    l->gu = cut_act(m, a, l->linear[LINEAR_GATE_UP].shape.out);
    l->activated = cut_act(m, c->activation == ACTIVATION_GELU ? a : &m->scratch, c->ffn_dim);
}

/* What is not kept is cut from the same place of the scratch for each layer. */
static void carve_layers(struct model *m)
{
    enum recompute how = m->conf.recompute;
    int64_t shared = m->scratch.used;

    for (int64_t i = 0; i < m->conf.config.layers; i++) {
        struct layer *l = &m->layers[i];

        m->scratch.used = shared;
        l->x_in = cut_act(m, &m->saved, m->conf.config.dim);
        carve_attention(m, how == RECOMPUTE_FULL ? &m->scratch : &m->saved, l);
        carve_feed_forward(m, how == RECOMPUTE_NONE ? &m->saved : &m->scratch, l);
    }
}

static void carve_train(struct model *m)
{
    const struct model_config *c = &m->conf.config;
    int64_t q = c->heads * c->head_dim;
    struct arena_dev *s = &m->scratch;

    carve_layers(m);
    m->x_out = cut_act(m, &m->saved, c->dim);
    cut_statistics(m, &m->saved, &m->final);
    m->h = cut_act(m, s, c->dim);
    m->dh = cut_act(m, s, c->dim);
    m->dx = cut_act(m, s, c->dim);
    m->datt = cut_act(m, s, q);
    m->dqkv = cut_act(m, s, q + 2 * c->kv_heads * c->head_dim);
    m->dactivated = m->dgu = cut_act(m, s, c->ffn_dim);
    if (c->activation == ACTIVATION_SWIGLU)
        m->dgu = cut_act(m, s, 2 * c->ffn_dim);
    if (m->conf.lora_rank)
        m->du = cut_act(m, s, lora_rank_sum(&m->conf));
    if (lora_dropped_columns(&m->conf))
        m->dropped = cut_act(m, s, lora_dropped_columns(&m->conf));
    m->loss = model_cut(s, m->rows * 4);
    m->loss_total = model_cut(s, MODEL_AHEAD * m->rows * 4);
    m->ids = model_cut(s, m->rows * 4);
    m->targets = model_cut(s, m->rows * 4);
    m->position = model_cut(s, m->rows * 4);
    m->logits = model_cut(&m->logits_arena, m->logit_rows * m->logit_columns * 4);
    if (m->act == DTYPE_BF16)
        m->logits16 = model_cut(&m->logits_arena, m->logit_rows * m->logit_columns * 2);
}

static int64_t widest(const struct model_config *c)
{
    int64_t q = c->heads * c->head_dim, w = q > c->ffn_dim ? q : c->ffn_dim;

    return w > c->dim ? w : c->dim;
}

/* Serving keeps nothing: every layer works in the same blocks. */
static void carve_serve(struct model *m)
{
    const struct model_config *c = &m->conf.config;
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    struct arena_dev *s = &m->scratch;
    struct layer l = {.x_in = cut_act(m, s, c->dim)};

    m->x_out = l.x_mid = l.x_in;
    m->h = cut_act(m, s, c->dim);
    m->sum = cut_act(m, s, c->dim);
    l.qkv = cut_act(m, s, q + 2 * kv);
    l.att = cut_act(m, s, q);
    if (c->activation == ACTIVATION_SWIGLU)
        l.gu = cut_act(m, s, 2 * c->ffn_dim);
    l.activated = cut_act(m, s, c->ffn_dim);
    cut_statistics(m, s, &m->final);
    l.lse = model_cut(s, m->rows * c->heads * 4);
    m->x16 = model_cut(s, m->rows * widest(c) * 2);
    m->decoded = model_cut(s, widest(c) * c->dim * 4);
    m->decoded16 = model_cut(s, widest(c) * c->dim * 2);
    m->zeros = model_cut(s, (m->rows > widest(c) ? m->rows : widest(c)) * 4);
    m->ids = model_cut(s, m->rows * 4);
    m->position = model_cut(s, m->rows * 4);
    m->length = model_cut(s, m->rows * 4);
    m->token = model_cut(s, (int64_t)sizeof *m->token);
    m->logits = model_cut(&m->logits_arena, m->logit_rows * c->vocab * 4);
    for (int64_t i = 0; i < c->layers; i++) {
        struct layer *to = &m->layers[i];

        to->x_in = l.x_in;
        to->x_mid = l.x_mid;
        to->qkv = l.qkv;
        to->att = l.att;
        to->gu = l.gu;
        to->activated = l.activated;
        to->norm[0] = to->norm[1] = m->final;
        to->lse = l.lse;
    }
}

/* -- life -- */

static int alloc_flat(struct model *m, struct err *e)
{
    struct dev *d = m->dev;
    void *p;
    int rc = 0;

    if (m->plan.weights) {
        rc = dev_alloc(d, (size_t)m->plan.weights, &p, e);
        m->frozen = rc ? NULL : p;
    }
    if (!rc) {
        rc = dev_alloc(d, (size_t)m->plan.master, &p, e);
        m->master = rc ? NULL : p;
    }
    if (!rc && m->plan.copy) {
        rc = dev_alloc(d, (size_t)m->plan.copy, &p, e);
        m->copy = rc ? NULL : p;
    }
    if (rc)
        return rc;
    m->gradient_owned = !m->conf.coll;
    rc = m->conf.coll ? coll_alloc(m->conf.coll, (size_t)m->plan.gradient, &p, e)
                      : dev_alloc(d, (size_t)m->plan.gradient, &p, e);
    m->gradient = rc ? NULL : p;
    return rc;
}

static void upload_positions(struct model *m)
{
    /* host_loss serves as host staging: both hold one 32-bit word a row. */
    int32_t *p = (int32_t *)m->host_loss;

    for (int64_t i = 0; i < m->rows; i++)
        p[i] = (int32_t)(i % m->conf.sequence_length);
    dev_upload(m->dev, m->position, p, (size_t)m->rows * 4);
}

static int create_training(struct model *m, struct err *e)
{
    int rc = m->conf.lora_rank ? lora_tensors(&m->conf, &m->lora, e) : 0;

    if (!rc)
        rc = alloc_flat(m, e);
    if (!rc)
        rc = model_arena_open(m, &m->saved, m->plan.saved, e);
    if (rc)
        return rc;
    wire_training(m);
    carve_train(m);
    upload_positions(m);
    return 0;
}

static int create_serving(struct model *m, struct err *e)
{
    const struct model_config *c = &m->conf.config;
    int rc = kvcache_create(
        m->dev, c->layers, m->conf.kv_capacity, c->kv_heads * c->head_dim, m->conf.t, &m->cache, e);

    if (!rc)
        carve_serve(m);
    return rc;
}

static int check_conf(const struct model_conf *c, struct err *e)
{
    if (c->t != DTYPE_F32 && c->t != DTYPE_BF16)
        return err_set(e, ERR_BUG, "compute type %s", dtype_name(c->t));
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

int model_create(struct dev *d, const struct model_conf *c, struct model **out, struct err *e)
{
    struct model *m = mem_zalloc(sizeof *m);
    int rc;

    if (!m)
        return err_set(e, ERR_MEMORY, "no memory for a model");
    m->dev = d;
    m->ops = dev_ops(d);
    m->conf = *c;
    m->act = c->train ? c->t : DTYPE_F32;
    m->rows = c->train ? c->micro_sequences * c->sequence_length : MEMPLAN_SERVE_ROWS;
    m->logit_rows = memplan_logit_rows(c);
    m->logit_columns = memplan_logit_columns(c);
    rc = check_conf(c, e);
    if (!rc)
        rc = memplan_model(c, NULL, &m->plan, e);
    if (!rc)
        rc = tensors_create(&c->config, &m->base, e);
    if (rc)
        goto fail;
    m->layers = mem_array((size_t)c->config.layers, sizeof *m->layers);
    m->host_loss = mem_array((size_t)m->rows, sizeof *m->host_loss);
    if (!m->layers || !m->host_loss) {
        rc = err_set(e, ERR_MEMORY, "no memory for %lld layers", (long long)c->config.layers);
        goto fail;
    }
    for (int64_t i = 0; i < c->config.layers; i++)
        for (enum linear_kind k = 0; k < LINEARS; k++)
            linear_shape(&c->config, k, &m->layers[i].linear[k].shape);
    rc = model_arena_open(m, &m->scratch, m->plan.scratch, e);
    if (!rc)
        rc = model_arena_open(m, &m->logits_arena, m->plan.logits, e);
    if (!rc)
        rc = c->train ? create_training(m, e) : create_serving(m, e);
    if (!rc)
        rc = dev_sync(d, e);
    if (rc)
        goto fail;
    *out = m;
    return 0;
fail:
    model_destroy(m);
    return rc;
}

void model_destroy(struct model *m)
{
    if (!m)
        return;
    dev_record_free(m->dev, m->recording);
    if (m->gradient_owned)
        dev_free(m->dev, m->gradient);
    dev_free(m->dev, m->frozen);
    dev_free(m->dev, m->master);
    dev_free(m->dev, m->copy);
    dev_free(m->dev, m->saved.base);
    dev_free(m->dev, m->scratch.base);
    dev_free(m->dev, m->logits_arena.base);
    dev_free(m->dev, m->stored_arena.base);
    kvcache_destroy(m->cache);
    tensors_done(&m->base);
    tensors_done(&m->lora);
    mem_free(m->layers);
    mem_free(m->host_loss);
    mem_free(m);
}

/* -- what others see -- */

int64_t model_parameters(const struct model *m)
{
    int64_t sum = 0;

    for (int i = 0; i < m->base.count; i++)
        sum += m->base.at[i].count;
    for (int i = 0; i < m->lora.count; i++)
        sum += m->lora.at[i].count;
    return sum;
}

int64_t model_memory_bytes(const struct model *m)
{
    return m->plan.total;
}

const struct tensors *model_trained(const struct model *m)
{
    return m->conf.lora_rank ? &m->lora : &m->base;
}

const struct tensors *model_base(const struct model *m)
{
    return &m->base;
}

int64_t model_trainable(const struct model *m)
{
    return model_trained(m)->elements;
}

float *model_master(struct model *m)
{
    return m->master;
}

float *model_gradient(struct model *m)
{
    return m->gradient;
}

uint16_t *model_compute_copy(struct model *m)
{
    return m->copy;
}

void model_master_changed(struct model *m)
{
    if (m->copy)
        m->ops->convert(m->dev,
            &(struct op_convert){.count = model_trainable(m),
                .x = m->master,
                .x_type = DTYPE_F32,
                .y = m->copy,
                .y_type = DTYPE_BF16});
}

void model_zero_gradient(struct model *m)
{
    dev_zero(m->dev, m->gradient, (size_t)model_trainable(m) * 4);
}

static int check_ids(
    const struct model *m, const int32_t *ids, int64_t n, int32_t least, struct err *e)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < least || ids[i] >= m->conf.config.vocab)
            return err_set(e, ERR_DATA, "token %d is outside the vocabulary of %lld", ids[i],
                (long long)m->conf.config.vocab);
    return 0;
}

static int read_loss(struct model *m, const float *loss, int64_t n, double *loss_sum, struct err *e)
{
    double sum = 0;
    int rc;

    dev_download(m->dev, m->host_loss, loss, (size_t)n * 4);
    rc = dev_sync(m->dev, e);
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++)
        sum += (double)m->host_loss[i];
    *loss_sum = sum;
    return 0;
}

int model_step(struct model *m, int64_t b, const int32_t *inputs, const int32_t *targets,
    float scale, bool backward, double *loss_sum, struct err *e)
{
    struct batch s = {
        .b = b, .tokens = m->conf.sequence_length, .ids = m->ids, .position = m->position};
    int64_t n = b * s.tokens;
    int rc;

    assert(m->conf.train && b >= 1 && n <= m->rows);
    rc = check_ids(m, inputs, n, 0, e);
    if (!rc)
        rc = check_ids(m, targets, n, -1, e);
    if (rc)
        return rc;
    dev_upload(m->dev, m->ids, inputs, (size_t)n * 4);
    dev_upload(m->dev, m->targets, targets, (size_t)n * 4);
    m->drops = backward;
    model_forward(m, &s);
    model_head(m, n, scale, backward);
    if (backward) {
        beat_phase(m->conf.page, WIRE_PHASE_BACKWARD);
        model_backward(m, &s);
    }
    if (loss_sum)
        return read_loss(m, m->loss, n, loss_sum, e);
    m->ops->axpby(m->dev,
        &(struct op_axpby){.count = n,
            .x = m->loss,
            .x_type = DTYPE_F32,
            .y = m->loss_total + m->ahead * m->rows,
            .y_type = DTYPE_F32,
            .a = 1,
            .b = 1});
    return 0;
}

void model_set_place(struct model *m, int64_t first)
{
    m->place = first;
}

void model_next_loss(struct model *m)
{
    assert(m->ahead < MODEL_AHEAD - 1);
    m->ahead++;
}

int model_loss(struct model *m, double *sums, struct err *e)
{
    int rc = 0;

    for (int i = 0; i <= m->ahead && !rc; i++)
        rc = read_loss(m, m->loss_total + i * m->rows, m->rows, &sums[i], e);
    dev_zero(m->dev, m->loss_total, (size_t)(MODEL_AHEAD * m->rows) * 4);
    m->ahead = 0;
    return rc;
}

void model_watch_gradient(
    struct model *m, void (*ready_fn)(void *user, int64_t first, int64_t count), void *user)
{
    m->ready_fn = ready_fn;
    m->ready_user = user;
}

int model_check_extend(
    const struct model *m, const int32_t *ids, int64_t count, int64_t past, struct err *e)
{
    int rc = check_ids(m, ids, count, 0, e);

    assert(!m->conf.train && count >= 1);
    if (!rc && (past < 0 || past + count > m->conf.kv_capacity))
        rc = err_set(e, ERR_USER, "%lld tokens exceed the context of %lld",
            (long long)(past + count), (long long)m->conf.kv_capacity);
    return rc;
}

/* One chunk of at most m->rows tokens; logits of its last row, or of all. */
static int extend_chunk(struct model *m, const int32_t *ids, int64_t n, int64_t past, bool all,
    float *logits, struct err *e)
{
    struct batch s = {.b = 1,
        .tokens = n,
        .cached = past || n == 1,
        .ids = m->ids,
        .position = m->position,
        .length = m->length};
    int64_t v = m->conf.config.vocab;
    int32_t *stage = (int32_t *)m->host_loss;

    dev_upload(m->dev, m->ids, ids, (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        stage[i] = (int32_t)(past + i);
    dev_upload(m->dev, m->position, stage, (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        stage[i] = (int32_t)(past + i + 1);
    dev_upload(m->dev, m->length, stage, (size_t)n * 4);
    model_forward(m, &s);
    for (int64_t row = all ? 0 : n - 1, rows; logits && row < n; row += rows) {
        rows = n - row < m->logit_rows ? n - row : m->logit_rows;
        model_logits(m, row, rows);
        dev_download(m->dev, logits + (all ? row * v : 0), m->logits, (size_t)(rows * v) * 4);
    }
    return dev_sync(m->dev, e);
}

int model_extend(struct model *m, const int32_t *ids, int64_t count, int64_t past, bool all_logits,
    float *logits, struct err *e)
{
    int64_t n, v = m->conf.config.vocab;
    int rc = model_check_extend(m, ids, count, past, e);

    for (int64_t i = 0; i < count && !rc; i += n) {
        n = count - i < m->rows ? count - i : m->rows;
        rc = extend_chunk(m, ids + i, n, past + i, all_logits,
            all_logits           ? logits + i * v
                : i + n == count ? logits
                                 : NULL,
            e);
    }
    return rc;
}

static int merge(struct model *m, const struct tensor *p, float *dst, struct err *e)
{
    const struct tensor *a = tensors_get(&m->lora, p->role, TENSOR_LORA_A, p->layer, p->expert);
    const struct tensor *b = tensors_get(&m->lora, p->role, TENSOR_LORA_B, p->layer, p->expert);
    if (p->part != TENSOR_WEIGHT || !a || !b)
        return 0;
    mem_autofree float *fa = mem_array((size_t)a->count, 4);
    mem_autofree float *fb = mem_array((size_t)b->count, 4);
    if (!fa || !fb)
        return err_set(e, ERR_MEMORY, "no memory to merge %s", p->name);
    dev_download(m->dev, fa, m->master + a->offset, (size_t)a->count * 4);
    dev_download(m->dev, fb, m->master + b->offset, (size_t)b->count * 4);
    lora_merge(dst, fa, fb, p->shape[0], p->shape[1], m->conf.lora_rank,
        m->conf.lora_alpha / (float)m->conf.lora_rank);
    return 0;
}

int model_read(
    struct model *m, const char *name, bool merged, float *dst, int64_t count, struct err *e)
{
    const struct tensor *p = tensors_find(model_trained(m), name);
    bool frozen = !p && m->conf.train;

    if (frozen)
        p = tensors_find(&m->base, name);
    if (!p || p->count != count || !m->conf.train)
        return err_set(e, ERR_BUG, "no tensor %s of %lld numbers", name, (long long)count);
    if (!frozen) {
        dev_download(m->dev, dst, m->master + p->offset, (size_t)count * 4);
    } else if (m->act == DTYPE_F32) {
        dev_download(m->dev, dst, at_element(m->frozen, p->offset, m->act), (size_t)count * 4);
    } else {
        /* Into the upper half, then widened upwards: element i is read before it is
         * overwritten. */
        uint16_t *half = (uint16_t *)dst + count;

        dev_download(m->dev, half, at_element(m->frozen, p->offset, m->act), (size_t)count * 2);
        for (int64_t i = 0; i < count; i++)
            dst[i] = bf16_to_f32(half[i]);
    }
    if (merged && frozen) {
        int rc = merge(m, p, dst, e);

        if (rc)
            return rc;
    }
    return dev_sync(m->dev, e);
}
