/*
 * sublayer: the pre-norm residual around every kind. A norm's output is made again by backward
 * rather than kept, a pass over memory where the products are many, and only where a weight's
 * gradient needs it: adapters skip most.
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
    u->kind->carve(u, s, kept, scratch);
    scratch->used = mark;
}

void sublayer_forward(const struct batch *s, const struct sublayer *u, void *y)
{
    norm_forward(s, &u->norm, u->x);
    if (y && y != u->x)
        dev_copy(s->dev, y, u->x, (size_t)(s->n * s->config->dim * dtype_block_bytes(s->t)));
    u->kind->forward(s, u, y);
}

void sublayer_backward(const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    if (!again && u->kind->reads_input(u))
        norm_forward(s, &u->norm, u->x);
    u->kind->backward(s, u, again, below);
    if (below)
        norm_backward(s, &u->norm, u->x, true);
}
