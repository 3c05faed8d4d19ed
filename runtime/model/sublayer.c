/*
 * sublayer: the residual and the norm around every kind. The output of a norm before f is made
 * again by backward rather than kept, a pass over memory where the products are many, and only
 * where a weight's gradient needs it: adapters skip most. Of a norm behind it the input is kept,
 * and its output is the next one's x.
 */
#include "runtime/model/sublayer.h"

void sublayer_bind(struct sublayer *u, const struct model *m, float *gradient)
{
    norm_bind(&u->norm, m, u->kind->norm, u->layer, gradient);
    bottleneck_bind(&u->adapter, m, u->kind->norm, u->layer, gradient);
    u->dropout = dropout_bind(m, u->kind->norm, u->layer);
    u->kind->bind(u, m, gradient);
}

void sublayer_carve(
    struct sublayer *u, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    int64_t mark = scratch->used;
    norm_carve(&u->norm, s, kept);
    if (s->config->post_norm)
        u->z = carve_tensor(kept, s->n, s->config->dim, s->t);
    bottleneck_carve(&u->adapter, s, kept, scratch); /* what f's scratch leaves alone */
    if (u->dropout.p > 0)
        u->dropped = carve_tensor(scratch, s->n, s->config->dim, s->t);
    u->kind->carve(u, s, kept, scratch);
    scratch->used = mark;
}

static void copy_rows(const struct batch *s, void *to, const void *from)
{
    dev_copy(s->dev, to, from, (size_t)(s->n * s->config->dim * dtype_block_bytes(s->t)));
}

/* y += x, both (N, C) */
static void add_rows(const struct batch *s, const void *x, void *y)
{
    OP(s, axpby, .count = s->n * s->config->dim, .x = x, .x_type = s->t, .y = y, .y_type = s->t,
        .a = 1, .b = 1);
}

/* -- f, of which dropout leaves something out -- */

/* y += f(s->h); y NULL: only what backward reads. */
static void run_kind(const struct batch *s, const struct sublayer *u, void *y)
{
    if (!y || !dropout_drops(s, &u->dropout)) {
        u->kind->forward(s, u, y);
        return;
    }
    dev_zero(s->dev, u->dropped, (size_t)(s->n * s->config->dim * dtype_block_bytes(s->t)));
    u->kind->forward(s, u, u->dropped);
    dropout_apply(s, &u->dropout, s->n, 1, u->dropped);
    add_rows(s, u->dropped, y);
}

/* s->dh from s->dx, which stays: it is the residual's too. */
static void back_through_kind(
    const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    struct batch own = *s;
    if (dropout_drops(s, &u->dropout)) {
        copy_rows(s, u->dropped, s->dx);
        dropout_apply(s, &u->dropout, s->n, 1, u->dropped);
        own.dx = u->dropped;
    }
    u->kind->backward(&own, u, again, below);
}

/* -- an adapter behind f -- */

/* y = x + f(x) and what the adapter adds; y NULL: only what backward reads. */
static void forward_adapted(const struct batch *s, const struct sublayer *u, void *y)
{
    const struct bottleneck *a = &u->adapter;
    void *f = a->sum ? a->sum : a->in; /* f(x), or x + f(x) */
    if (a->of_sum)
        copy_rows(s, f, u->x);
    else
        dev_zero(s->dev, f, (size_t)(s->n * s->config->dim * dtype_block_bytes(s->t)));
    run_kind(s, u, f);
    if (a->sum)
        norm_forward(s, &a->norm, a->sum, a->in);
    if (y && a->of_sum) {
        copy_rows(s, y, f);
    } else if (y) {
        if (y != u->x)
            copy_rows(s, y, u->x);
        add_rows(s, f, y);
    }
    bottleneck_forward(s, a, y);
}

/* From dy to the gradient of f(x), which is returned; dy becomes that of the residual. */
static void *backward_adapted(const struct batch *s, const struct sublayer *u, void *dy)
{
    const struct bottleneck *a = &u->adapter;
    bottleneck_backward(s, a, dy);
    if (!a->of_sum) {
        add_rows(s, dy, a->din);
        return a->din;
    }
    if (a->sum)
        norm_backward(s, &a->norm, a->sum, a->din, dy, true);
    else
        add_rows(s, a->din, dy);
    return dy;
}

/* -- the norm behind -- */

/* z = x + f(x); y = norm(z). Without y the statistics are wanted, and s->h is nobody's. */
static void forward_post(const struct batch *s, const struct sublayer *u, void *y)
{
    struct batch own = *s;
    own.h = u->x;
    if (u->adapter.r) {
        forward_adapted(&own, u, u->z);
    } else {
        copy_rows(s, u->z, u->x);
        run_kind(&own, u, u->z);
    }
    norm_forward(s, &u->norm, u->z, y ? y : s->h);
}

/* dz from s->dx takes s->dh, so f's dh takes s->dx; dx = dz + dh. */
static void backward_post(const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    struct batch own = *s;
    own.h = u->x;
    own.dx = s->dh;
    own.dh = s->dx;
    norm_backward(s, &u->norm, u->z, s->dx, s->dh, false);
    if (u->adapter.r)
        own.dx = backward_adapted(s, u, s->dh);
    back_through_kind(&own, u, again, below);
    if (below)
        add_rows(s, s->dh, s->dx);
}

/* -- either -- */

void sublayer_forward(const struct batch *s, const struct sublayer *u, void *y)
{
    if (s->config->post_norm) {
        forward_post(s, u, y);
        return;
    }
    norm_forward(s, &u->norm, u->x, s->h);
    if (u->adapter.r) {
        forward_adapted(s, u, y);
        return;
    }
    if (y && y != u->x)
        copy_rows(s, y, u->x);
    run_kind(s, u, y);
}

void sublayer_backward(const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    if (s->config->post_norm) {
        backward_post(s, u, again, below);
        return;
    }
    if (!again && u->kind->reads_input(u))
        norm_forward(s, &u->norm, u->x, s->h);
    struct batch own = *s;
    if (u->adapter.r)
        own.dx = backward_adapted(s, u, s->dx);
    back_through_kind(&own, u, again, below);
    if (below)
        norm_backward(s, &u->norm, u->x, s->dh, s->dx, true);
}
