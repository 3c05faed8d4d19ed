/*
 * embed: ids to the residual: a row of the table each and, where positions are learned, a row of
 * theirs. Only enqueues.
 */
#ifndef RUNTIME_MODEL_EMBED_H
#define RUNTIME_MODEL_EMBED_H

#include "runtime/model/batch.h"
#include "runtime/model/internal.h"

struct embed {
    struct stored table;        /* (V, C) */
    struct stored positions;    /* (context, C) t; {0}: rotary */
    float *dtable, *dpositions; /* NULL when frozen */
};

void embed_bind(struct embed *w, const struct model *m, float *gradient);
/* x (N, C) */
void embed_forward(const struct batch *s, const struct embed *w, void *x);
/* From s->dx. */
void embed_backward(const struct batch *s, const struct embed *w);

#endif
