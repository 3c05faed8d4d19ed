/*
 * net: the walks. Nothing here knows what a sub-layer does.
 */
#include "runtime/model/net.h"

#include "base/mem.h"
#include "runtime/door/beat.h"
#include "runtime/door/trace.h"
#include "runtime/model/parallel.h"
#include "runtime/model/zero.h"

/* The sub-layers of a layer, from its input on. */
static const struct sublayer_kind *const decoder[] = {&attention_kind, &ffn_kind};
static const struct sublayer_kind *const mixture[] = {&attention_kind, &moe_kind};
#define DECODER_SUBLAYERS ((int)(sizeof decoder / sizeof *decoder))
_Static_assert(DECODER_SUBLAYERS <= NET_SUBLAYERS, "a layer has room for its sub-layers");
_Static_assert(sizeof mixture == sizeof decoder, "both have as many");

static bool is_kept(const struct model_conf *c, const struct sublayer_kind *kind)
{
    return c->train &&
        (c->recompute == RECOMPUTE_NONE ||
            (c->recompute == RECOMPUTE_SELECTIVE && !kind->selective));
}

int net_create(struct net *t, const struct model *m, struct err *e)
{
    const struct sublayer_kind *const *kinds = m->conf.config.experts ? mixture : decoder;
    int64_t layers = m->conf.config.layers;
    *t = (struct net){.layers = mem_array((size_t)layers, sizeof *t->layers), .count = layers};
    if (!t->layers)
        return err_set(e, ERR_MEMORY, "no memory for %lld layers", (long long)layers);
    for (int64_t i = 0; i < layers; i++)
        for (int j = 0; j < DECODER_SUBLAYERS; j++)
            t->layers[i].sub[t->layers[i].count++] = (struct sublayer){

                .kind = kinds[j],
                .layer = model_config_layer(&m->conf.config, i),
                .kept = is_kept(&m->conf, kinds[j])};
    return 0;
}

void net_done(struct net *t)
{
    mem_free(t->layers);
    *t = (struct net){0};
}

void net_bind(struct net *t, const struct model *m, float *gradient)
{
    embed_bind(&t->embed, m, gradient);
    for (int64_t i = 0; i < m->conf.config.layers; i++)
        for (int j = 0; j < t->layers[i].count; j++)
            sublayer_bind(&t->layers[i].sub[j], m, gradient);
    norm_bind(&t->final, m, TENSOR_NORM_FINAL, -1, gradient);
    head_bind(&t->head, m, gradient);
}

/* -- memory -- */

int net_memory_open(struct net_memory *a, struct dev *d, struct err *e)
{
    int rc;
    if ((rc = carve_open(&a->scratch, d, e)) || (rc = carve_open(&a->logits, d, e)) ||
        (rc = carve_open(&a->again, d, e)))
        return rc;
    return carve_open(&a->saved, d, e);
}

void net_memory_close(struct net_memory *a, struct dev *d)
{
    carve_close(&a->saved, d);
    carve_close(&a->again, d);
    carve_close(&a->logits, d);
    carve_close(&a->scratch, d);
}

static void *carve_residual(const struct batch *s, struct carve *c)
{
    return carve_tensor(c, s->n, s->config->dim, s->t);
}

/* An input is kept when what is below it is. Serving, and what is frozen, has one residual for
   all. */
static void carve_layer(struct net *t, const struct batch *s, struct layer *l, struct net_memory *a)
{
    bool kept = true;
    a->again.used = 0;
    for (int j = 0; j < l->count; j++) {
        struct sublayer *u = &l->sub[j];
        u->x = s->train && !s->frozen ? carve_residual(s, kept ? &a->saved : &a->again) : t->x;
        kept = u->kept;
        sublayer_carve(u, s, kept ? &a->saved : &a->again, &a->scratch);
    }
}

void net_carve(struct net *t, struct batch *s, struct net_memory *a)
{
    bool last = model_config_is_last(s->config) && t->count == s->config->layers;
    bool chunked = model_config_chunks(s->config) > 1;
    if (!last || chunked)
        t->x = t->out = carve_residual(s, &a->scratch);
    if (last && (!s->config->post_norm || s->frozen || !s->train))
        t->x = carve_residual(s, &a->saved);
    if (last && !s->config->post_norm)
        norm_carve(&t->final, s, &a->saved);
    if (model_config_is_first(s->config))
        embed_carve(&t->embed, s, &a->saved);
    head_carve(&t->head, s, &a->logits);
    s->h = carve_residual(s, &a->scratch);
    if (s->train && model_config_is_cut(s->config))
        s->sum = carve_residual(s, &a->scratch);
    if (s->train && !s->frozen) {
        s->dh = carve_residual(s, &a->scratch);
        s->dx = carve_residual(s, &a->scratch);
        s->dx_next = chunked ? carve_residual(s, &a->scratch) : NULL;
    }
    for (int64_t i = 0; i < t->count; i++)
        carve_layer(t, s, &t->layers[i], a);
}

/* -- forward and backward -- */

static int64_t first_layer(const struct batch *s)
{
    return model_config_chunk_begins(s->config, s->chunk);
}

static int64_t layers_end(const struct batch *s)
{
    return model_config_chunk_begins(s->config, s->chunk + 1);
}

void net_forward(const struct batch *s, const struct net *t)
{
    int64_t end = layers_end(s), begun = trace_begin(s->trace);
    bool last = model_config_chunk_is_last(s->config, s->chunk);
    void *top = !last ? t->out : s->config->post_norm ? s->h : t->x;
    zero_begin(s->zero);
    if (model_config_chunk_is_first(s->config, s->chunk))
        embed_forward(s, &t->embed, t->layers[0].sub[0].x); /* (N) -> (N, C) */
    for (int64_t i = first_layer(s); i < end; i++) {
        const struct layer *l = &t->layers[i];
        int64_t layer_begun = trace_begin(s->trace);
        zero_enter(s->zero, i, i + 1);
        for (int j = 0; j + 1 < l->count; j++)
            sublayer_forward(s, &l->sub[j], l->sub[j + 1].x);
        sublayer_forward(s, &l->sub[l->count - 1], i + 1 < end ? l[1].sub[0].x : top);
        beat(s->page);
        trace_end(s->trace, layer_begun, TRACE_RANK, "layer", "layer", i);
    }
    if (!s->config->post_norm && last)
        norm_forward(s, &t->final, t->x, s->h);
    trace_end(s->trace, begun, TRACE_RANK, "forward", "rows", s->n);
}

void *net_input(const struct batch *s, const struct net *t)
{
    return t->layers[first_layer(s)].sub->x;
}

void net_run(const struct batch *s, const struct net *t)
{
    struct batch part = *s;
    for (; part.chunk < model_config_chunks(s->config); part.chunk++) {
        parallel_receive(&part, net_input(&part, t));
        net_forward(&part, t);
        parallel_hand_on(&part, t->out);
    }
}

/* Makes again what forward did not keep of a layer. True: its last sub-layer was the last to run.
   Of the last layer all still stands in the memory that the layers share, unless another batch has
   been there since. */
static bool layer_again(const struct batch *s, const struct layer *l, bool last)
{
    if (last && !s->parted)
        return false;
    for (int j = 0; j < l->count; j++)
        if (!l->sub[j].kept)
            sublayer_forward(s, &l->sub[j], j + 1 < l->count ? l->sub[j + 1].x : NULL);
    return !l->sub[l->count - 1].kept;
}

/* s->dh to s->dx, the gradient of what the last layer gives. */
static void backward_top(const struct batch *s, const struct net *t)
{
    size_t bytes = (size_t)(s->n * s->config->dim * dtype_block_bytes(s->t));
    if (s->config->post_norm)
        dev_copy(s->dev, s->dx, s->dh, bytes);
    else
        norm_backward(s, &t->final, t->x, s->dh, s->dx, false);
}

void net_backward(const struct batch *s, const struct net *t,
    void (*layer_fn)(void *user, int64_t layer), void *user)
{
    bool first = model_config_chunk_is_first(s->config, s->chunk);
    int64_t begun = trace_begin(s->trace), end = layers_end(s);
    if (model_config_chunk_is_last(s->config, s->chunk))
        backward_top(s, t);
    for (int64_t i = end - 1; i >= first_layer(s); i--) {
        const struct layer *l = &t->layers[i];
        int64_t layer_begun = trace_begin(s->trace);
        zero_enter(s->zero, i, i - 1);
        zero_clear_gradient(s->zero, i);
        bool again = layer_again(s, l, i == end - 1);
        for (int j = l->count - 1; j >= 0; j--, again = false)
            sublayer_backward(s, &l->sub[j], again, !first || i || j || t->embed.dtable);
        zero_reduce_gradient(s->zero, i);
        if (layer_fn)
            layer_fn(user, l->sub[0].layer);
        beat(s->page);
        trace_end(s->trace, layer_begun, TRACE_RANK, "layer", "layer", i);
    }
    if (first)
        embed_backward(s, &t->embed);
    trace_end(s->trace, begun, TRACE_RANK, "backward", "rows", s->n);
}

void net_skip(struct zero *z, int64_t layers, bool backward)
{
    zero_begin(z);
    for (int64_t i = 0; i < layers; i++)
        zero_enter(z, i, i + 1);
    for (int64_t i = layers - 1; i >= 0 && backward; i--) {
        zero_enter(z, i, i - 1);
        zero_clear_gradient(z, i);
        zero_reduce_gradient(z, i);
    }
}
