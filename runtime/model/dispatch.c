/*
 * dispatch: what crosses is counted by the host, which alone can tell a collective how much to
 * move; the rows themselves it never sees. The counts of a layer and a batch stay from forward to
 * backward.
 */
#include "runtime/model/dispatch.h"

#include "base/mem.h"
#include "runtime/model/carve.h"
#include "runtime/model/parallel.h"

struct way { /* of a layer */
    int64_t rows;
    int64_t *sent, *came; /* (ranks): rows to and from each */
};

struct dispatch {
    const struct model_config *config;
    int64_t ranks, most;
    int64_t flights;
    struct way *ways;    /* (flights, L) of the whole model */
    int64_t *counts;     /* (flights, L, 2, ranks): of all ways */
    int64_t *out, *in;   /* (ranks): elements of what is under way */
    int32_t *own, *told; /* (E + 1), (ranks, E + 1): offsets */
    int32_t *expert;     /* (most) */
};

int64_t dispatch_most(const struct model_config *c, int64_t n)
{
    int64_t k = c->experts_per_token, ranks = 1;
    if (model_config_is_dealt(c)) {
        k = k < c->experts ? k : c->experts;
        ranks = c->share.expert_ranks;
    }
    return carve_times(carve_times(n, k), ranks);
}

static void lay_ways(struct dispatch *d)
{
    for (int64_t i = 0; i < d->flights * d->config->share.layers; i++) {
        d->ways[i].sent = d->counts + 2 * i * d->ranks;
        d->ways[i].came = d->ways[i].sent + d->ranks;
    }
}

static struct way *way_of(const struct batch *s, int64_t layer)
{
    struct dispatch *d = s->dispatch;
    return &d->ways[s->flight * d->config->share.layers + layer];
}

int dispatch_create(
    const struct model_config *c, int64_t n, int64_t flights, struct dispatch **out, struct err *e)
{
    struct dispatch *d = mem_zalloc(sizeof *d);
    if (!d)
        return err_set(e, ERR_MEMORY, "no memory for ways to experts");
    d->config = c;
    d->ranks = c->share.expert_ranks;
    d->most = dispatch_most(c, n);
    size_t ranks = (size_t)d->ranks, offsets = (size_t)model_config_experts(c) + 1;
    d->flights = flights;
    size_t ways = (size_t)(flights * c->share.layers);
    d->ways = mem_array(ways, sizeof *d->ways);
    d->counts = mem_array(ways * 2 * ranks, sizeof *d->counts);
    d->out = mem_array(ranks, sizeof *d->out);
    d->in = mem_array(ranks, sizeof *d->in);
    d->own = mem_array(offsets, sizeof *d->own);
    d->told = mem_array(ranks * offsets, sizeof *d->told);
    d->expert = mem_array((size_t)d->most, sizeof *d->expert);
    if (!d->ways || !d->counts || !d->out || !d->in || !d->own || !d->told || !d->expert) {
        dispatch_destroy(d);
        return err_set(e, ERR_MEMORY, "no memory for ways to experts");
    }
    lay_ways(d);
    *out = d;
    return 0;
}

void dispatch_destroy(struct dispatch *d)
{
    if (!d)
        return;
    mem_free(d->ways);
    mem_free(d->counts);
    mem_free(d->out);
    mem_free(d->in);
    mem_free(d->own);
    mem_free(d->told);
    mem_free(d->expert);
    mem_free(d);
}

/* Of all offsets what this rank sends and receives. Returns how many arrive. */
static int64_t count_rows(const struct dispatch *d, struct way *w)
{
    const struct model_config *c = d->config;
    int64_t entries = model_config_experts(c) + 1, rows = 0;
    int64_t begin = c->share.first_expert, end = begin + c->experts;
    for (int64_t i = 0; i < d->ranks; i++) {
        const int32_t *of = d->told + i * entries;
        w->sent[i] = d->own[model_config_first_expert(c, (int)i + 1)] -
            d->own[model_config_first_expert(c, (int)i)];
        w->came[i] = of[end] - of[begin];
        rows += w->came[i];
    }
    return rows;
}

/* The expert of each row that arrives, counted from the first that is here. */
static void name_experts(struct dispatch *d)
{
    int64_t entries = model_config_experts(d->config) + 1, rows = 0;
    for (int64_t i = 0; i < d->ranks; i++) {
        const int32_t *of = d->told + i * entries + d->config->share.first_expert;
        for (int32_t x = 0; x < (int32_t)d->config->experts; x++)
            for (int32_t k = of[x]; k < of[x + 1]; k++)
                d->expert[rows++] = x;
    }
}

void dispatch_tell(const struct batch *s, int64_t layer, const int32_t *offset, int32_t *expert)
{
    struct dispatch *d = s->dispatch;
    struct way *w = way_of(s, layer);
    size_t bytes = (size_t)(model_config_experts(d->config) + 1) * sizeof *offset;
    w->rows = 0;
    if (!parallel_tell(s, offset, bytes, d->own, d->told))
        return;
    int64_t rows = count_rows(d, w);
    if (rows > d->most) {
        err_set(&s->parallel->failure, ERR_BUG, "%lld rows for experts that have room for %lld",
            (long long)rows, (long long)d->most);
        return;
    }
    w->rows = rows;
    name_experts(d);
    dev_upload(s->dev, expert, d->expert, (size_t)w->rows * sizeof *expert);
}

int64_t dispatch_rows(const struct batch *s, int64_t layer)
{
    return way_of(s, layer)->rows;
}

static void move(const struct batch *s, const void *out, const int64_t *out_rows, void *in,
    const int64_t *in_rows, int64_t width, enum dtype t)
{
    struct dispatch *d = s->dispatch;
    for (int64_t i = 0; i < d->ranks; i++) {
        d->out[i] = out_rows[i] * width;
        d->in[i] = in_rows[i] * width;
    }
    parallel_all_to_all(s, out, d->out, in, d->in, t);
}

void dispatch_send(const struct batch *s, int64_t layer, const void *rows, void *arrived,
    int64_t width, enum dtype t)
{
    const struct way *w = way_of(s, layer);
    move(s, rows, w->sent, arrived, w->came, width, t);
}

void dispatch_return(const struct batch *s, int64_t layer, const void *arrived, void *rows,
    int64_t width, enum dtype t)
{
    const struct way *w = way_of(s, layer);
    move(s, arrived, w->came, rows, w->sent, width, t);
}
