/*
 * engine: what decoding a token runs depends on nothing that the host knows: id, position, length
 * and how to draw stand in one block on the device (struct token), and so does the result. Where
 * the device can record, it is recorded once, and a token is an upload of six words, a launch and a
 * download of one.
 */
#include "runtime/model/engine.h"

#include "base/mem.h"
#include "runtime/model/internal.h"
#include "runtime/model/kvcache.h"
#include "runtime/model/net.h"

#include <assert.h>
#include <stddef.h>

/* What decoding a token reads, and at the end what it gives. */
struct token {
    int32_t id, position, length;
    struct sample_draw draw;
    int32_t next;
};

struct engine {
    struct model *model;
    struct dev *dev;
    struct net net;
    struct net_memory memory;
    struct batch batch;               /* the largest */
    int32_t *ids, *position, *length; /* (N) */
    struct token *token;              /* device */
    struct kvcache *cache;
    void *recording; /* of one token; NULL: the device makes none */
};

/* -- life -- */

static struct batch largest_batch(const struct model *m)
{
    const struct model_conf *c = &m->conf;
    return (struct batch){.dev = m->dev,
        .config = &c->config,
        .page = c->page,
        .t = DTYPE_F32,
        .compute = c->t,
        .b = 1,
        .tokens = ENGINE_ROWS,
        .n = ENGINE_ROWS};
}

/* Columns of the widest product. */
static int64_t widest(const struct model_config *c)
{
    int64_t q = c->heads * c->head_dim, w = q > c->ffn_dim ? q : c->ffn_dim;
    return w > c->dim ? w : c->dim;
}

static void engine_carve(struct engine *g)
{
    struct batch *s = &g->batch;
    struct carve *c = &g->memory.scratch;
    int64_t w = widest(s->config);
    g->ids = carve_tensor(c, s->n, 1, DTYPE_I32);
    g->position = carve_tensor(c, s->n, 1, DTYPE_I32);
    g->length = carve_tensor(c, s->n, 1, DTYPE_I32);
    g->token = carve_take(c, (int64_t)sizeof *g->token);
    s->zeros = carve_tensor(c, s->n > w ? s->n : w, 1, DTYPE_F32);
    net_carve(&g->net, s, &g->memory);
}

/* Everything but memory; what it takes is counted. */
static int engine_describe(struct engine *g, struct model *m, struct err *e)
{
    *g = (struct engine){.model = m, .dev = m->dev, .batch = largest_batch(m)};
    int rc = net_create(&g->net, m, e);
    if (rc)
        return rc;
    net_bind(&g->net, m, NULL);
    engine_carve(g);
    return 0;
}

int engine_plan(struct model *m, struct memplan *plan, struct err *e)
{
    const struct model_config *c = &m->conf.config;
    struct engine g;
    int rc = engine_describe(&g, m, e);
    if (!rc) {
        plan->scratch =
            carve_plus(g.memory.scratch.size, carve_plus(g.memory.again.size, g.memory.saved.size));
        plan->logits = g.memory.logits.size;
        plan->cache =
            kvcache_bytes(c->layers, m->conf.kv_capacity, c->kv_heads * c->head_dim, m->conf.t);
    }
    net_done(&g.net);
    return rc;
}

static void enqueue_token(struct engine *g)
{
    struct token *t = g->token;
    struct batch s = g->batch;
    s.tokens = s.n = 1;
    s.cached = true;
    s.ids = &t->id;
    s.position = &t->position;
    s.length = &t->length;
    net_forward(&s, &g->net);
    head_logits(&s, &g->net.head, 0, 1);
    OP(g, sample, .n = 1, .v = s.config->vocab, .logits = g->net.head.logits,
        .temperature = &t->draw.temperature, .top_p = &t->draw.top_p, .u = &t->draw.u,
        .token = &t->next);
}

/* The first run is of token 0 at position 0, which the first prompt overwrites. */
static int record_token(struct engine *g, struct err *e)
{
    const struct token first = {.length = 1};
    if (!dev_can_record(g->dev))
        return dev_sync(g->dev, e);
    dev_upload(g->dev, g->token, &first, sizeof first);
    enqueue_token(g);
    int rc = dev_sync(g->dev, e);
    if (!rc)
        rc = dev_record_begin(g->dev, e);
    if (rc)
        return rc;
    enqueue_token(g);
    return dev_record_end(g->dev, &g->recording, e);
}

static int engine_open(struct engine *g, struct model *m, struct err *e)
{
    const struct model_config *c = &m->conf.config;
    int rc;
    if ((rc = engine_describe(g, m, e)) || (rc = net_memory_open(&g->memory, g->dev, e)) ||
        (rc = kvcache_create(g->dev, c->layers, m->conf.kv_capacity, c->kv_heads * c->head_dim,
             m->conf.t, &g->cache, e)))
        return rc;
    g->batch.cache = g->cache;
    engine_carve(g);
    return record_token(g, e);
}

int engine_create(struct model *m, struct engine **out, struct err *e)
{
    struct engine *g = mem_zalloc(sizeof *g);
    if (!g)
        return err_set(e, ERR_MEMORY, "no memory for an engine");
    assert(!m->conf.train);
    int rc = engine_open(g, m, e);
    if (rc) {
        engine_destroy(g);
        return rc;
    }
    *out = g;
    return 0;
}

void engine_destroy(struct engine *g)
{
    if (!g)
        return;
    dev_record_free(g->dev, g->recording);
    kvcache_destroy(g->cache);
    net_memory_close(&g->memory, g->dev);
    net_done(&g->net);
    mem_free(g);
}

void engine_watch(struct engine *g, batch_watch_fn *watch_fn, void *watcher)
{
    g->batch.watch_fn = watch_fn;
    g->batch.watcher = watcher;
}

/* -- tokens -- */

static int check_tokens(
    const struct engine *g, const int32_t *ids, int64_t count, int64_t past, struct err *e)
{
    int64_t capacity = g->model->conf.kv_capacity;
    assert(count >= 1);
    int rc = model_check_ids(g->model, ids, count, 0, e);
    if (rc)
        return rc;
    if (past < 0 || past + count > capacity)
        return err_set(e, ERR_USER, "%lld tokens exceed the context of %lld",
            (long long)(past + count), (long long)capacity);
    return 0;
}

/* One chunk of at most ENGINE_ROWS tokens; logits of its last row, or of all. */
static int extend_chunk(struct engine *g, const int32_t *ids, int64_t n, int64_t past, bool all,
    float *logits, struct err *e)
{
    struct batch s = g->batch;
    const struct head *head = &g->net.head;
    int32_t stage[ENGINE_ROWS];
    s.tokens = s.n = n;
    int64_t window = s.config->window; /* what the cache alone is read through */
    s.cached = past || n == 1 || (window && n > window);
    s.ids = g->ids;
    s.position = g->position;
    s.length = g->length;
    dev_upload(g->dev, g->ids, ids, (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        stage[i] = (int32_t)(past + i);
    dev_upload(g->dev, g->position, stage, (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        stage[i] = (int32_t)(past + i + 1);
    dev_upload(g->dev, g->length, stage, (size_t)n * 4);
    net_forward(&s, &g->net);
    for (int64_t row = all ? 0 : n - 1, rows; logits && row < n; row += rows) {
        rows = n - row < head->rows ? n - row : head->rows;
        head_logits(&s, head, row, rows);
        dev_download(g->dev, logits + (all ? row * s.config->vocab : 0), head->logits,
            (size_t)(rows * s.config->vocab) * 4);
    }
    return dev_sync(g->dev, e);
}

int engine_extend(struct engine *g, const int32_t *ids, int64_t count, int64_t past,
    bool all_logits, float *logits, struct err *e)
{
    int rc = check_tokens(g, ids, count, past, e);
    for (int64_t i = 0, n; i < count && !rc; i += n) {
        n = count - i < ENGINE_ROWS ? count - i : ENGINE_ROWS;
        float *to = all_logits ? logits + i * g->model->conf.config.vocab
            : i + n == count   ? logits
                               : NULL;
        rc = extend_chunk(g, ids + i, n, past + i, all_logits, to, e);
    }
    return rc;
}

int engine_next(struct engine *g, int32_t id, int64_t past, const struct sample_draw *draw,
    int32_t *next, struct err *e)
{
    const struct token t = {
        .id = id, .position = (int32_t)past, .length = (int32_t)past + 1, .draw = *draw};
    int rc = check_tokens(g, &id, 1, past, e);
    if (rc)
        return rc;
    dev_upload(g->dev, g->token, &t, offsetof(struct token, next));
    if (g->recording)
        dev_record_launch(g->dev, g->recording);
    else
        enqueue_token(g);
    int32_t drawn;
    dev_download(g->dev, &drawn, &g->token->next, sizeof drawn);
    rc = dev_sync(g->dev, e);
    if (rc)
        return rc;
    *next = drawn;
    return 0;
}
