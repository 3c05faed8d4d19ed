/*
 * embed: one operation a table; the second adds to the first.
 */
#include "runtime/model/embed.h"

void embed_bind(struct embed *w, const struct model *m, float *gradient)
{
    w->table = model_bind(m, TENSOR_EMBED, TENSOR_WEIGHT, -1, gradient, &w->dtable);
    w->positions = model_bind(m, TENSOR_POSITIONS, TENSOR_WEIGHT, -1, gradient, &w->dpositions);
}

void embed_forward(const struct batch *s, const struct embed *w, void *x)
{
    const struct model_config *c = s->config;
    OP(s, embed, .n = s->n, .c = c->dim, .v = c->vocab, .ids = s->ids, .table = w->table.data,
        .table_type = w->table.type, .out = x, .t = s->t);
    if (w->positions.data)
        OP(s, embed, .n = s->n, .c = c->dim, .v = c->context, .ids = s->position,
            .table = w->positions.data, .table_type = w->positions.type, .out = x,
            .accumulate = true, .t = s->t);
}

void embed_backward(const struct batch *s, const struct embed *w)
{
    const struct model_config *c = s->config;
    if (w->dtable)
        OP(s, embed_back, .n = s->n, .c = c->dim, .v = c->vocab, .ids = s->ids, .dout = s->dx,
            .dtable = w->dtable, .t = s->t);
    if (w->dpositions)
        OP(s, embed_back, .n = s->n, .c = c->dim, .v = c->context, .ids = s->position,
            .dout = s->dx, .dtable = w->dpositions, .t = s->t);
}
