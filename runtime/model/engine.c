/*
 * engine: what a pass reads of its rows (ids, positions, lengths, pages) goes up in one piece each;
 * hidden states of rows that are drawn from are put together, so that the head is one product.
 *
 * What decoding one token runs depends on nothing that the host knows: id, position, length and how
 * to draw stand in one block on the device (struct token), its sequence's pages beside it, and so
 * does the result. Where the device can record, it is recorded once, and a token is an upload of
 * its pages and six words, a launch and a download of one. Where ranks share the model a token is
 * no recording: they meet within it.
 */
#include "runtime/model/engine.h"

#include "base/mem.h"
#include "runtime/model/beside.h"
#include "runtime/model/internal.h"
#include "runtime/model/kvcache.h"
#include "runtime/model/likelihood.h"
#include "runtime/model/net.h"
#include "runtime/model/parallel.h"

#include <assert.h>
#include <stddef.h>

#define LOSS_ROWS 128 /* of logits on the host */

/* What decoding a token reads, and at the end what it gives. */
struct token {
    int32_t id, position, length;
    struct sample_draw draw;
    int32_t next;
};

/* Of the rows of a pass, on the device; N: ENGINE_ROWS. */
struct rows {
    int32_t *ids, *position, *length; /* (N) */
    int32_t *pages;                   /* (N, P): P pages of a sequence */
    int32_t *drawn;                   /* (N) the rows that are drawn from */
    float *temperature, *top_p, *u;   /* (N) of these */
    int32_t *next;                    /* (N) what they drew */
    float *hidden;                    /* (N, C) their hidden states */
};

struct engine {
    struct model *model;
    struct dev *dev;
    struct net net;
    struct net_memory memory;
    struct parallel parallel;
    struct batch batch; /* the largest */
    int64_t pages;      /* P */
    struct rows rows;
    struct beside_group group[ENGINE_ROWS]; /* of a pass */
    int32_t *own_ids, *own_slots;           /* (N) of a share of the vocabulary; else NULL */
    struct token *token;                    /* device */
    int32_t *token_pages;                   /* (P) device: of its sequence */
    bool own_pages;                         /* these are 0, 1, ... */
    int32_t *stage;                         /* (N, P) host */
    struct kvcache *cache;
    void *recording; /* of one token; NULL: the device makes none, or ranks share the model */
    /* of engine_losses, host */
    float *logits;                 /* (R, V), R rows at once; here V is this rank's */
    struct likelihood *mine, *all; /* (R), (ranks, R) */
};

/* -- life -- */

int engine_context(const struct model_config *c, int64_t asked, int64_t *out, struct err *e)
{
    if (asked > c->context)
        return err_set(e, ERR_USER,
            "spec.serve.contextLength: %lld exceeds the model's context of %lld", (long long)asked,
            (long long)c->context);
    *out = asked ? asked : c->context < ENGINE_CONTEXT ? c->context : ENGINE_CONTEXT;
    return 0;
}

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
        .n = ENGINE_ROWS,
        .beside = c->beside,
        .stored = m->dev && dev_rows_alike(m->dev)};
}

static void engine_carve(struct engine *g)
{
    struct batch *s = &g->batch;
    struct carve *c = &g->memory.scratch;
    int64_t w = linear_widest(s->config);
    struct rows *r = &g->rows;
    int32_t **words[] = {&r->ids, &r->position, &r->length, &r->drawn, &r->next};
    float **numbers[] = {&r->temperature, &r->top_p, &r->u};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        *words[i] = carve_tensor(c, s->n, 1, DTYPE_I32);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        *numbers[i] = carve_tensor(c, s->n, 1, DTYPE_F32);
    r->pages = carve_tensor(c, s->n, g->pages, DTYPE_I32);
    r->hidden = carve_tensor(c, s->n, s->config->dim, DTYPE_F32);
    if (model_config_is_cut(s->config)) {
        g->own_ids = carve_tensor(c, s->n, 1, DTYPE_I32);
        g->own_slots = carve_tensor(c, s->n, 1, DTYPE_I32);
    }
    g->token = carve_take(c, (int64_t)sizeof *g->token);
    g->token_pages = carve_tensor(c, g->pages, 1, DTYPE_I32);
    s->zeros = carve_tensor(c, s->n > w ? s->n : w, 1, DTYPE_F32);
    if (s->beside)
        s->beside_v = carve_tensor(c, s->n, w, DTYPE_F32);
    net_carve(&g->net, s, &g->memory);
}

/* A head is whole blocks of the cache. */
static int check_cache(const struct model_conf *c, struct err *e)
{
    enum dtype t = model_cache_type(c);
    if (c->config.head_dim % dtype_block(t) == 0)
        return 0;
    return err_set(e, ERR_USER,
        "spec.serve.kvCache: Q8_0 has blocks of %lld numbers, and a head of spec.model, a %s, has "
        "%lld",
        (long long)dtype_block(t), c->config.architecture, (long long)c->config.head_dim);
}

/* Everything but memory; what it takes is counted. */
static int engine_describe(struct engine *g, struct model *m, struct err *e)
{
    const struct model_conf *c = &m->conf;
    int rc;
    *g = (struct engine){.model = m,
        .dev = m->dev,
        .parallel = {.ranks = c->tensor,
            .stages = c->pipeline,
            .stage = c->stage,
            .stage_count = c->stages},
        .batch = largest_batch(m),
        .pages = kvcache_pages(c->kv_capacity)};
    if ((rc = check_cache(c, e)) || (rc = net_create(&g->net, m, e)))
        return rc;
    net_bind(&g->net, m, NULL);
    engine_carve(g);
    return 0;
}

static int64_t pages_in_all(const struct model *m)
{
    int64_t least = kvcache_pages(m->conf.kv_capacity);
    return m->conf.kv_pages > least ? m->conf.kv_pages : least;
}

int engine_plan(struct model *m, struct memplan *plan, struct err *e)
{
    struct engine g;
    int rc = engine_describe(&g, m, e);
    if (!rc) {
        plan->scratch =
            carve_plus(g.memory.scratch.size, carve_plus(g.memory.again.size, g.memory.saved.size));
        plan->logits = g.memory.logits.size;
        plan->cache = model_cache_bytes(&m->conf, pages_in_all(m));
    }
    net_done(&g.net);
    return rc;
}

/* Of n tokens, ids: host. */
static struct batch batch_of(struct engine *g, int64_t n, const int32_t *ids)
{
    struct batch s = g->batch;
    int32_t stage[ENGINE_ROWS];
    s.tokens = s.n = n;
    s.parallel = &g->parallel;
    s.own_ids = g->own_ids;
    s.own_slots = g->own_slots;
    if (g->own_ids)
        embed_find_own(&s, ids, stage);
    return s;
}

/* All that a token runs; id: of a share of the vocabulary known to the host, too. */
static void enqueue_token(struct engine *g, int32_t id)
{
    struct token *t = g->token;
    struct batch s = batch_of(g, 1, &id);
    s.cached = true;
    s.ids = &t->id;
    s.position = &t->position;
    s.length = &t->length;
    s.rows = (struct kvcache_rows){s.position, g->token_pages, 0};
    net_run(&s, &g->net);
    if (g->net.head.none)
        return;
    head_logits(&s, &g->net.head, 0, 1);
    OP(g, sample, .n = 1, .v = model_vocab(g->model), .logits = head_whole(&s, &g->net.head, 0),
        .temperature = &t->draw.temperature, .top_p = &t->draw.top_p, .u = &t->draw.u,
        .token = &t->next);
}

/* The first run is of token 0 at position 0 of page 0, which the first prompt overwrites. */
static int record_token(struct engine *g, struct err *e)
{
    const struct token first = {.length = 1};
    if (!dev_can_record(g->dev) || model_config_is_share(g->batch.config))
        return dev_sync(g->dev, e);
    dev_upload(g->dev, g->token, &first, sizeof first);
    enqueue_token(g, first.id);
    int rc = dev_sync(g->dev, e);
    if (!rc)
        rc = dev_record_begin(g->dev, e);
    if (rc)
        return rc;
    enqueue_token(g, first.id);
    return dev_record_end(g->dev, &g->recording, e);
}

static int engine_open(struct engine *g, struct model *m, struct err *e)
{
    const struct model_config *c = &m->conf.config;
    int rc;
    if ((rc = engine_describe(g, m, e)) || (rc = net_memory_open(&g->memory, g->dev, e)) ||
        (rc = kvcache_create(g->dev, c->layers, pages_in_all(m), c->kv_heads * c->head_dim,
             model_cache_type(&m->conf), &g->cache, e)))
        return rc;
    g->stage = mem_array((size_t)(ENGINE_ROWS * g->pages), sizeof *g->stage);
    if (!g->stage)
        return err_set(e, ERR_MEMORY, "no memory for pages of %d rows", ENGINE_ROWS);
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
    mem_free(g->logits);
    mem_free(g->mine);
    mem_free(g->all);
    net_memory_close(&g->memory, g->dev);
    net_done(&g->net);
    mem_free(g->stage);
    mem_free(g);
}

int engine_adapters(const struct engine *g)
{
    return beside_count(g->batch.beside);
}

void engine_watch(struct engine *g, batch_watch_fn *watch_fn, void *watcher)
{
    g->batch.watch_fn = watch_fn;
    g->batch.watcher = watcher;
}

/* -- rows -- */

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

static void upload_words(struct engine *g, int32_t *to, int64_t n)
{
    dev_upload(g->dev, to, g->stage, (size_t)n * sizeof *g->stage);
}

/* Ids (ENGINE_ROWS), which the host keeps, positions and lengths of all parts' rows; returns how
   many. */
static int64_t upload_rows(struct engine *g, const struct engine_part *parts, int n, int32_t *ids)
{
    int64_t rows = 0, row = 0;
    for (int i = 0; i < n; rows += parts[i++].count)
        memcpy(ids + rows, parts[i].ids, (size_t)parts[i].count * sizeof *ids);
    assert(rows <= ENGINE_ROWS);
    dev_upload(g->dev, g->rows.ids, ids, (size_t)rows * sizeof *ids);
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < parts[i].count; k++)
            g->stage[row++] = (int32_t)(parts[i].past + k);
    upload_words(g, g->rows.position, rows);
    for (row = 0; row < rows; row++)
        g->stage[row]++;
    upload_words(g, g->rows.length, rows);
    return rows;
}

/* The pages of each row's sequence, as many columns as the longest has. */
static int64_t upload_pages(struct engine *g, const struct engine_part *parts, int n)
{
    int64_t ld = 1, row = 0;
    for (int i = 0; i < n; i++) {
        int64_t pages = kvcache_pages(parts[i].past + parts[i].count);
        ld = pages > ld ? pages : ld;
    }
    for (int i = 0; i < n; i++) {
        size_t bytes =
            (size_t)kvcache_pages(parts[i].past + parts[i].count) * sizeof *parts[i].pages;
        for (int64_t k = 0; k < parts[i].count; k++)
            memcpy(g->stage + row++ * ld, parts[i].pages, bytes);
    }
    upload_words(g, g->rows.pages, row * ld);
    return ld;
}

/* A sequence with the cache to itself: its pages in their order. */
static void use_own_pages(struct engine *g)
{
    if (g->own_pages)
        return;
    for (int64_t i = 0; i < g->pages; i++)
        g->stage[i] = (int32_t)i;
    upload_words(g, g->token_pages, g->pages);
    g->own_pages = true;
}

/* Rows side by side that have the same adapter. */
static int group_rows(struct engine *g, const struct engine_part *parts, int n)
{
    int groups = 0;
    int64_t row = 0;
    for (int i = 0; i < n; row += parts[i++].count) {
        assert(parts[i].adapter >= 0 && parts[i].adapter <= beside_count(g->batch.beside));
        if (!parts[i].adapter)
            continue;
        assert(beside_is_open(g->batch.beside, parts[i].adapter - 1));
        if (i && parts[i].adapter == parts[i - 1].adapter)
            g->group[groups - 1].rows += parts[i].count;
        else
            g->group[groups++] = (struct beside_group){parts[i].adapter - 1, row, parts[i].count};
    }
    return groups;
}

/* Forward of all parts; pages (rows, ld), or NULL: those of the one sequence. */
static struct batch forward_rows(
    struct engine *g, const struct engine_part *parts, int n, const int32_t *pages, int64_t ld)
{
    int32_t ids[ENGINE_ROWS];
    int64_t rows = upload_rows(g, parts, n, ids);
    struct batch s = batch_of(g, rows, ids);
    int64_t window = s.config->window; /* what the cache alone is read through */
    s.cached = s.stored || pages || parts->past || s.n == 1 || (window && s.n > window);
    s.ids = g->rows.ids;
    s.position = g->rows.position;
    s.length = g->rows.length;
    s.rows = (struct kvcache_rows){s.position, pages ? pages : g->token_pages, ld};
    s.group = g->group;
    s.groups = group_rows(g, parts, n);
    net_run(&s, &g->net);
    return s;
}

/* -- drawing -- */

/* What is wanted of the last row of a part. */
static bool is_seen(const struct engine_part *p)
{
    return p->draw || p->logits;
}

/* Hidden states of the rows that are seen, to the front of rows.hidden. */
static void gather_seen(
    struct engine *g, const struct batch *s, const struct engine_part *parts, int n)
{
    int64_t seen = 0, row = 0;
    for (int i = 0; i < n; i++) {
        row += parts[i].count;
        if (is_seen(&parts[i]))
            g->stage[seen++] = (int32_t)row - 1;
    }
    upload_words(g, g->rows.drawn, seen);
    batch_take_rows(s, seen, g->rows.drawn, s->h, s->n, g->rows.hidden);
}

static void upload_draws(struct engine *g, const struct engine_part *parts, int n)
{
    static const struct sample_draw none = {.top_p = 1};
    float temperature[ENGINE_ROWS], top_p[ENGINE_ROWS], u[ENGINE_ROWS];
    int64_t seen = 0;
    for (int i = 0; i < n; i++) {
        const struct sample_draw *draw = parts[i].draw ? parts[i].draw : &none;
        if (!is_seen(&parts[i]))
            continue;
        temperature[seen] = draw->temperature;
        top_p[seen] = draw->top_p;
        u[seen++] = draw->u;
    }
    dev_upload(g->dev, g->rows.temperature, temperature, (size_t)seen * sizeof *u);
    dev_upload(g->dev, g->rows.top_p, top_p, (size_t)seen * sizeof *u);
    dev_upload(g->dev, g->rows.u, u, (size_t)seen * sizeof *u);
}

/* Logits of `rows` seen rows from `first` on stand on the device: those that are asked for come. */
static void download_logits(struct engine *g, const struct engine_part *parts, int n, int64_t first,
    int64_t rows, const float *logits)
{
    int64_t v = model_vocab(g->model), seen = 0;
    for (int i = 0; i < n; i++) {
        int64_t at = seen - first;
        if (parts[i].logits && at >= 0 && at < rows)
            dev_download(g->dev, parts[i].logits, logits + at * v, (size_t)v * sizeof(float));
        seen += is_seen(&parts[i]);
    }
}

/* Of the rows whose logits stand on the device; of a share of the vocabulary one at a time. */
static void draw_rows(struct engine *g, const struct batch *s, const struct engine_part *parts,
    int n, int64_t first, int64_t rows)
{
    int64_t step = g->net.head.whole ? 1 : rows;
    for (int64_t i = 0, at = first; i < rows; i += step, at += step) {
        const float *logits = head_whole(s, &g->net.head, i);
        OP(g, sample, .n = step, .v = model_vocab(g->model), .logits = logits,
            .temperature = g->rows.temperature + at, .top_p = g->rows.top_p + at,
            .u = g->rows.u + at, .token = g->rows.next + at);
        download_logits(g, parts, n, at, step, logits);
    }
}

static void draw_seen(
    struct engine *g, const struct batch *s, const struct engine_part *parts, int n, int64_t seen)
{
    struct batch top = *s;
    top.h = g->rows.hidden;
    upload_draws(g, parts, n);
    for (int64_t first = 0, rows; first < seen; first += rows) {
        rows = seen - first < g->net.head.rows ? seen - first : g->net.head.rows;
        head_logits(&top, &g->net.head, first, rows);
        draw_rows(g, &top, parts, n, first, rows);
    }
}

/* -- one token -- */

/* The pages of token_pages are its sequence's. */
static int run_token(struct engine *g, int32_t id, int64_t past, const struct sample_draw *draw,
    int32_t *next, struct err *e)
{
    const struct token t = {
        .id = id, .position = (int32_t)past, .length = (int32_t)past + 1, .draw = *draw};
    dev_upload(g->dev, g->token, &t, offsetof(struct token, next));
    if (g->recording)
        dev_record_launch(g->dev, g->recording);
    else
        enqueue_token(g, id);
    int32_t drawn;
    int rc;
    dev_download(g->dev, &drawn, &g->token->next, sizeof drawn);
    if ((rc = parallel_finish(&g->parallel, g->dev, e)) ||
        (rc = parallel_from_last(&g->parallel, &drawn, sizeof drawn, e)))
        return rc;
    *next = drawn;
    return 0;
}

/* -- passes -- */

static int count_seen(const struct engine_part *parts, int n)
{
    int seen = 0;
    for (int i = 0; i < n; i++)
        seen += is_seen(&parts[i]);
    return seen;
}

/* What the last stage has seen, to all stages. */
static int tell_seen(
    struct engine *g, struct engine_part *parts, int n, int32_t *drawn, int seen, struct err *e)
{
    struct parallel *p = &g->parallel;
    int rc = seen ? parallel_from_last(p, drawn, (size_t)seen * sizeof *drawn, e) : 0;
    for (int i = 0; i < n && !rc; i++)
        if (parts[i].logits)
            rc = parallel_from_last(
                p, parts[i].logits, (size_t)model_vocab(g->model) * sizeof(float), e);
    return rc;
}

int engine_run(struct engine *g, struct engine_part *parts, int n, struct err *e)
{
    int32_t drawn[ENGINE_ROWS];
    int rc, seen = count_seen(parts, n);
    for (int i = 0; i < n; i++)
        if ((rc = check_tokens(g, parts[i].ids, parts[i].count, parts[i].past, e)))
            return rc;
    bool plain = parts->draw && !parts->logits && !parts->adapter; /* as it is recorded */
    if (n == 1 && parts->count == 1 && plain) {
        g->own_pages = false;
        dev_upload(g->dev, g->token_pages, parts->pages,
            (size_t)kvcache_pages(parts->past + 1) * sizeof *parts->pages);
        return run_token(g, *parts->ids, parts->past, parts->draw, &parts->next, e);
    }
    int64_t ld = upload_pages(g, parts, n);
    struct batch s = forward_rows(g, parts, n, g->rows.pages, ld);
    if (seen && !g->net.head.none) {
        gather_seen(g, &s, parts, n);
        draw_seen(g, &s, parts, n, seen);
        dev_download(g->dev, drawn, g->rows.next, (size_t)seen * sizeof *drawn);
    }
    if ((rc = parallel_finish(&g->parallel, g->dev, e)) ||
        (rc = tell_seen(g, parts, n, drawn, seen, e)))
        return rc;
    seen = 0;
    for (int i = 0; i < n; i++) {
        if (parts[i].draw)
            parts[i].next = drawn[seen];
        seen += is_seen(&parts[i]);
    }
    return 0;
}

/* Forward of a chunk of at most ENGINE_ROWS tokens of the one sequence. */
static struct batch run_chunk(struct engine *g, const int32_t *ids, int64_t n, int64_t past)
{
    const struct engine_part part = {.ids = ids, .count = n, .past = past};
    use_own_pages(g);
    return forward_rows(g, &part, 1, NULL, 0);
}

/* Logits of a chunk's last row, or of all. */
static void read_logits(const struct engine *g, const struct batch *s, bool all, float *logits)
{
    const struct head *head = &g->net.head;
    int64_t vocab = model_vocab(g->model), step = head->whole ? 1 : head->rows;
    for (int64_t row = all ? 0 : s->n - 1, rows; row < s->n; row += rows) {
        rows = s->n - row < head->rows ? s->n - row : head->rows;
        head_logits(s, head, row, rows);
        for (int64_t i = 0, n; i < rows; i += n) {
            n = rows - i < step ? rows - i : step;
            dev_download(g->dev, logits + (all ? (row + i) * vocab : 0), head_whole(s, head, i),
                (size_t)(n * vocab) * sizeof *logits);
        }
    }
}

int engine_extend(struct engine *g, const int32_t *ids, int64_t count, int64_t past,
    bool all_logits, float *logits, struct err *e)
{
    int64_t vocab = model_vocab(g->model);
    int rc = check_tokens(g, ids, count, past, e);
    for (int64_t i = 0, n; i < count && !rc; i += n) {
        n = count - i < ENGINE_ROWS ? count - i : ENGINE_ROWS;
        const struct batch s = run_chunk(g, ids + i, n, past + i);
        if (logits && !g->net.head.none && (all_logits || i + n == count))
            read_logits(g, &s, all_logits, logits + (all_logits ? i * vocab : 0));
        rc = parallel_finish(&g->parallel, g->dev, e);
    }
    if (rc || !logits)
        return rc;
    int64_t rows = all_logits ? count : 1;
    return parallel_from_last(&g->parallel, logits, (size_t)(rows * vocab) * sizeof *logits, e);
}

int engine_next(struct engine *g, int32_t id, int64_t past, const struct sample_draw *draw,
    int32_t *next, struct err *e)
{
    int rc = check_tokens(g, &id, 1, past, e);
    if (rc)
        return rc;
    use_own_pages(g);
    return run_token(g, id, past, draw, next, e);
}

/* -- losses -- */

/* Those that have some of the vocabulary each. */
static int ranks_of(const struct engine *g)
{
    return g->parallel.ranks ? g->batch.config->share.tensor_ranks : 1;
}

static int64_t loss_rows(const struct engine *g)
{
    return g->net.head.rows < LOSS_ROWS ? g->net.head.rows : LOSS_ROWS;
}

static int open_losses(struct engine *g, struct err *e)
{
    const struct head *head = &g->net.head;
    size_t rows = (size_t)loss_rows(g), ranks = (size_t)ranks_of(g);
    if (head->none)
        return 0;
    if (!g->mine)
        g->mine = mem_array(rows, sizeof *g->mine);
    if (!g->all)
        g->all = mem_array(rows * ranks, sizeof *g->all);
    if (!g->logits)
        g->logits = mem_array(rows * (size_t)head->columns, sizeof *g->logits);
    if (g->mine && g->all && g->logits)
        return 0;
    return err_set(e, ERR_MEMORY, "no memory for the losses of %zu tokens", rows);
}

/* Of a chunk, some rows of it at a time. */
static int read_losses(
    struct engine *g, const struct batch *s, const int32_t *targets, double *losses, struct err *e)
{
    const struct head *head = &g->net.head;
    int64_t columns = head->columns, first = s->config->share.first_token;
    for (int64_t row = 0, rows; row < s->n; row += rows) {
        int rc;
        rows = s->n - row < loss_rows(g) ? s->n - row : loss_rows(g);
        head_logits(s, head, row, rows);
        dev_download(g->dev, g->logits, head->logits, (size_t)(rows * columns) * sizeof(float));
        if ((rc = parallel_finish(&g->parallel, g->dev, e)))
            return rc;
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < rows; r++)
            g->mine[r] = likelihood_of(g->logits + r * columns, columns, targets[row + r] - first);
        if ((rc = parallel_meet(&g->parallel, g->mine, (size_t)rows * sizeof *g->mine, g->all, e)))
            return rc;
        for (int64_t r = 0; r < rows; r++)
            losses[row + r] = likelihood_loss(g->all + r, ranks_of(g), rows);
    }
    return 0;
}

int engine_losses(struct engine *g, const int32_t *ids, const int32_t *targets, int64_t count,
    int64_t past, double *losses, struct err *e)
{
    int rc;
    if ((rc = check_tokens(g, ids, count, past, e)) ||
        (rc = model_check_ids(g->model, targets, count, 0, e)) || (rc = open_losses(g, e)))
        return rc;
    for (int64_t i = 0, n; i < count && !rc; i += n) {
        n = count - i < ENGINE_ROWS ? count - i : ENGINE_ROWS;
        const struct batch s = run_chunk(g, ids + i, n, past + i);
        if (!g->net.head.none)
            rc = read_losses(g, &s, targets + i, losses + i, e);
        else if (!(rc = parallel_finish(&g->parallel, g->dev, e)))
            memset(losses + i, 0, (size_t)n * sizeof *losses);
    }
    return rc;
}
