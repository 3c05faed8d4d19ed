/*
 * encoder: a pass is net's forward half over rows of many texts. What is read of hidden states
 * comes to the host, where means are taken in the order of the tokens.
 */
#include "runtime/model/encoder.h"

#include "base/mem.h"
#include "runtime/family/family.h"
#include "runtime/model/engine.h"
#include "runtime/model/internal.h"
#include "runtime/model/net.h"
#include "runtime/model/parallel.h"

#include <assert.h>

struct encoder {
    struct model *model;
    struct dev *dev;
    struct net net;
    struct net_memory memory;
    struct parallel alone;
    struct batch batch;                          /* the largest */
    int32_t *ids, *position, *types, *sees_from; /* (N) device; NULL: the model has none */
    int32_t *chosen;                             /* (texts) device */
    int32_t *stage;                              /* (N) host */
    float *hidden;                               /* (N, C) host */
    int64_t begins[ENCODER_TEXTS + 1];           /* of the pass in hand */
};

/* -- life -- */

static int read_pooling(const struct weights *w, struct pooling *p, struct err *e)
{
    *p = (struct pooling){.normalized = true};
    if (weights_config(w)->labels)
        return 0;
    if (!weights_gguf(w))
        return pooling_read(weights_path(w), p, e);
    pooling_gguf(weights_gguf(w), family_gguf_architecture(weights_config(w)), p);
    return 0;
}

int encoder_conf(
    const struct weights *w, int64_t tokens, struct model_conf *c, struct pooling *p, struct err *e)
{
    c->config = *weights_config(w);
    int rc = engine_context(&c->config, tokens, &c->kv_capacity, e);
    if (rc || (rc = read_pooling(w, p, e)))
        return rc;
    c->encodes = c->config.labels || c->config.bidirectional || p->said;
    if (!c->encodes || c->config.labels)
        return 0;
    c->headless = true; /* nothing above the last layer counts */
    c->config.masked = c->config.pooled = false;
    if (!tokens && p->tokens && p->tokens < c->kv_capacity)
        c->kv_capacity = p->tokens;
    return 0;
}

static struct batch largest_batch(const struct model *m)
{
    const struct model_conf *c = &m->conf;
    int64_t rows = c->kv_capacity > ENCODER_ROWS ? c->kv_capacity : ENCODER_ROWS;
    return (struct batch){.dev = m->dev,
        .config = &c->config,
        .page = c->page,
        .t = DTYPE_F32,
        .compute = c->t,
        .b = ENCODER_TEXTS,
        .tokens = rows,
        .n = rows,
        .stored = m->dev && dev_rows_alike(m->dev)};
}

static void encoder_carve(struct encoder *g)
{
    struct batch *s = &g->batch;
    struct carve *c = &g->memory.scratch;
    int64_t widest = linear_widest(s->config);
    widest = s->config->labels > widest ? s->config->labels : widest;
    g->ids = carve_tensor(c, s->n, 1, DTYPE_I32);
    g->position = carve_tensor(c, s->n, 1, DTYPE_I32);
    if (s->config->types)
        g->types = carve_tensor(c, s->n, 1, DTYPE_I32);
    if (s->config->window)
        g->sees_from = carve_tensor(c, s->n, 1, DTYPE_I32);
    g->chosen = carve_tensor(c, s->b, 1, DTYPE_I32);
    s->zeros = carve_tensor(c, s->n > widest ? s->n : widest, 1, DTYPE_F32);
    net_carve(&g->net, s, &g->memory);
}

/* Everything but memory; what it takes is counted. */
static int encoder_describe(struct encoder *g, struct model *m, struct err *e)
{
    *g = (struct encoder){.model = m, .dev = m->dev, .batch = largest_batch(m)};
    int rc = net_create(&g->net, m, e);
    if (rc)
        return rc;
    net_bind(&g->net, m, NULL);
    encoder_carve(g);
    return 0;
}

int encoder_plan(struct model *m, struct memplan *plan, struct err *e)
{
    struct encoder g;
    int rc = encoder_describe(&g, m, e);
    if (!rc) {
        plan->scratch =
            carve_plus(g.memory.scratch.size, carve_plus(g.memory.again.size, g.memory.saved.size));
        plan->logits = g.memory.logits.size;
    }
    net_done(&g.net);
    return rc;
}

static int encoder_open(struct encoder *g, struct model *m, struct err *e)
{
    int rc;
    if ((rc = encoder_describe(g, m, e)) || (rc = net_memory_open(&g->memory, g->dev, e)))
        return rc;
    encoder_carve(g);
    size_t rows = (size_t)g->batch.n;
    g->stage = mem_array(rows, sizeof *g->stage);
    g->hidden = mem_array(rows * (size_t)g->batch.config->dim, sizeof *g->hidden);
    if (!g->stage || !g->hidden)
        return err_set(e, ERR_MEMORY, "no memory for %zu tokens", rows);
    return dev_sync(g->dev, e);
}

int encoder_create(struct model *m, struct encoder **out, struct err *e)
{
    struct encoder *g = mem_zalloc(sizeof *g);
    if (!g)
        return err_set(e, ERR_MEMORY, "no memory for an encoder");
    assert(m->conf.encodes && !model_config_is_share(&m->conf.config));
    int rc = encoder_open(g, m, e);
    if (rc) {
        encoder_destroy(g);
        return rc;
    }
    *out = g;
    return 0;
}

void encoder_destroy(struct encoder *g)
{
    if (!g)
        return;
    net_memory_close(&g->memory, g->dev);
    net_done(&g->net);
    mem_free(g->stage);
    mem_free(g->hidden);
    mem_free(g);
}

int64_t encoder_rows(const struct encoder *g)
{
    return g->batch.n;
}

/* -- a pass -- */

int encoder_check(const struct encoder *g, const struct encoder_text *t, struct err *e)
{
    int64_t most = g->model->conf.kv_capacity, types = g->batch.config->types;
    if (t->count < 1 || t->count > most)
        return err_set(e, ERR_USER, "a text of %lld tokens: the model reads 1 to %lld",
            (long long)t->count, (long long)most);
    for (int64_t i = 0; t->types && types && i < t->count; i++)
        if (t->types[i] < 0 || t->types[i] >= types)
            return err_set(e, ERR_DATA, "a token of type %d: the model (type_vocab_size) has %lld",
                t->types[i], (long long)types);
    return model_check_ids(g->model, t->ids, t->count, 0, e);
}

/* As many of the texts as fit a pass; their rows are set. */
static int64_t begin_pass(struct encoder *g, const struct encoder_text *texts, int64_t n)
{
    int64_t k = 0;
    g->begins[0] = 0;
    while (k < n && k < ENCODER_TEXTS && g->begins[k] + texts[k].count <= g->batch.n) {
        g->begins[k + 1] = g->begins[k] + texts[k].count;
        k++;
    }
    return k;
}

static void upload_words(struct encoder *g, int32_t *to, int64_t n)
{
    dev_upload(g->dev, to, g->stage, (size_t)n * sizeof *g->stage);
}

static void upload_texts(struct encoder *g, const struct encoder_text *texts, int64_t n)
{
    int64_t rows = g->begins[n], window = g->batch.config->window;
    for (int64_t i = 0; i < n; i++)
        memcpy(g->stage + g->begins[i], texts[i].ids, (size_t)texts[i].count * sizeof *g->stage);
    upload_words(g, g->ids, rows);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < texts[i].count; k++)
            g->stage[g->begins[i] + k] = (int32_t)k;
    upload_words(g, g->position, rows);
    for (int64_t k = 0; window && k < rows; k++) {
        int64_t from = g->stage[k] - window + 1;
        g->stage[k] = (int32_t)(from > 0 ? from : 0);
    }
    if (window)
        upload_words(g, g->sees_from, rows);
    for (int64_t i = 0; g->types && i < n; i++)
        for (int64_t k = 0; k < texts[i].count; k++)
            g->stage[g->begins[i] + k] = texts[i].types ? texts[i].types[k] : 0;
    if (g->types)
        upload_words(g, g->types, rows);
}

static struct batch forward(struct encoder *g, const struct encoder_text *texts, int64_t n)
{
    struct batch s = g->batch;
    upload_texts(g, texts, n);
    s.parallel = &g->alone;
    s.n = s.tokens = g->begins[n];
    s.ids = g->ids;
    s.position = g->position;
    s.types = g->types;
    s.sees_from = g->sees_from;
    s.begins = g->begins;
    s.texts = n;
    net_forward(&s, &g->net);
    return s;
}

/* -- embeddings -- */

/* The rows of text i that its embedding is of. */
static void rows_of(
    const struct encoder *g, int64_t i, enum pooling_kind pooling, int64_t *first, int64_t *count)
{
    *first = pooling == POOLING_LAST ? g->begins[i + 1] - 1 : g->begins[i];
    *count = pooling == POOLING_MEAN ? g->begins[i + 1] - g->begins[i] : 1;
}

static void mean_of(const float *h /* (n, C) */, int64_t n, int64_t dim, float *mean /* (C) */)
{
    memset(mean, 0, (size_t)dim * sizeof *mean);
    for (int64_t k = 0; k < n; k++)
        for (int64_t c = 0; c < dim; c++)
            mean[c] += h[k * dim + c];
    for (int64_t c = 0; c < dim; c++)
        mean[c] /= (float)n;
}

static int embed_pass(struct encoder *g, const struct encoder_text *texts, int64_t n,
    enum pooling_kind pooling, float *out, struct err *e)
{
    const struct batch s = forward(g, texts, n);
    int64_t dim = s.config->dim, first, count;
    for (int64_t i = 0; i < n; i++) {
        rows_of(g, i, pooling, &first, &count);
        dev_download(g->dev, g->hidden + first * dim, (float *)s.h + first * dim,
            (size_t)(count * dim) * sizeof *out);
    }
    int rc = dev_sync(g->dev, e);
    for (int64_t i = 0; i < n && !rc; i++) {
        rows_of(g, i, pooling, &first, &count);
        mean_of(g->hidden + first * dim, count, dim, out + i * dim);
    }
    return rc;
}

int encoder_embed(struct encoder *g, const struct encoder_text *texts, int64_t n,
    enum pooling_kind pooling, float *out, struct err *e)
{
    int rc = 0;
    for (int64_t i = 0; i < n && !rc; i++)
        rc = encoder_check(g, &texts[i], e);
    for (int64_t i = 0, k; i < n && !rc; i += k) {
        k = begin_pass(g, texts + i, n - i);
        rc = embed_pass(g, texts + i, k, pooling, out + i * g->batch.config->dim, e);
    }
    return rc;
}

/* -- labels -- */

/* Where a label is told at the last token: the last that is not the configuration's padding
   (transformers' rule). */
static int64_t last_of(const struct encoder *g, const struct encoder_text *t)
{
    int32_t pad = g->batch.config->pad_id;
    int64_t k = t->count - 1;
    while (pad >= 0 && k > 0 && t->ids[k] == pad)
        k--;
    return k;
}

static int label_pass(
    struct encoder *g, const struct encoder_text *texts, int64_t n, float *logits, struct err *e)
{
    struct batch s = forward(g, texts, n);
    const struct model_config *c = s.config;
    int64_t rows = model_config_tells_texts(c) ? n : s.n;
    for (int64_t i = 0; i < n; i++)
        g->stage[i] = (int32_t)(g->begins[i] + (c->last ? last_of(g, &texts[i]) : 0));
    upload_words(g, g->chosen, n);
    s.chosen_rows = g->chosen;
    head_labels(&s, &g->net.head, rows);
    dev_download(g->dev, logits, g->net.head.logits, (size_t)(rows * c->labels) * sizeof *logits);
    return dev_sync(g->dev, e);
}

int encoder_label(
    struct encoder *g, const struct encoder_text *texts, int64_t n, float *logits, struct err *e)
{
    const struct model_config *c = g->batch.config;
    int rc = 0;
    for (int64_t i = 0; i < n && !rc; i++)
        rc = encoder_check(g, &texts[i], e);
    for (int64_t i = 0, k; i < n && !rc; i += k) {
        k = begin_pass(g, texts + i, n - i);
        rc = label_pass(g, texts + i, k, logits, e);
        logits += (model_config_tells_texts(c) ? k : g->begins[k]) * c->labels;
    }
    return rc;
}
