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
    u->kind->bind(u, m, gradient);
}

void sublayer_carve(
    struct sublayer *u, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    int64_t mark = scratch->used;
    norm_carve(&u->norm, s, kept);
    if (s->config->post_norm)
        u->z = carve_tensor(kept, s->n, s->config->dim, s->t);
    u->kind->carve(u, s, kept, scratch);
    scratch->used = mark;
}

static void copy_rows(const struct batch *s, void *to, const void *from)
{
    dev_copy(s->dev, to, from, (size_t)(s->n * s->config->dim * dtype_block_bytes(s->t)));
}

/* -- the norm behind -- */

/* z = x + f(x); y = norm(z). Without y the statistics are wanted, and s->h is nobody's. */
static void forward_post(const struct batch *s, const struct sublayer *u, void *y)
{
    struct batch own = *s;
    own.h = u->x;
    copy_rows(s, u->z, u->x);
    u->kind->forward(&own, u, u->z);
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
    u->kind->backward(&own, u, again, below);
    if (below)
        OP(s, axpby, .count = s->n * s->config->dim, .x = s->dh, .x_type = s->t, .y = s->dx,
            .y_type = s->t, .a = 1, .b = 1);
}

/* -- either -- */

void sublayer_forward(const struct batch *s, const struct sublayer *u, void *y)
{
    if (s->config->post_norm) {
        forward_post(s, u, y);
        return;
    }
    norm_forward(s, &u->norm, u->x, s->h);
    if (y && y != u->x)
        copy_rows(s, y, u->x);
    u->kind->forward(s, u, y);
}

void sublayer_backward(const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    if (s->config->post_norm) {
        backward_post(s, u, again, below);
        return;
    }
    if (!again && u->kind->reads_input(u))
        norm_forward(s, &u->norm, u->x, s->h);
    u->kind->backward(s, u, again, below);
    if (below)
        norm_backward(s, &u->norm, u->x, s->dh, s->dx, true);
}
