/*
 * embed: ids to the residual: a row of the table each, where positions are learned a row of theirs,
 * where tokens have types one of these; and a norm above, where there is one (BERT,
 * arXiv:1810.04805). Only enqueues.
 */
#ifndef RUNTIME_MODEL_EMBED_H
#define RUNTIME_MODEL_EMBED_H

#include "runtime/model/batch.h"
#include "runtime/model/dropout.h"
#include "runtime/model/internal.h"
#include "runtime/model/norm.h"

struct embed {
    struct stored table;                 /* (V, C) */
    struct stored positions;             /* (context, C) t; {0}: rotary */
    struct stored types;                 /* (types, C) t; {0}: none */
    float *dtable, *dpositions, *dtypes; /* NULL when frozen */
    struct norm norm;
    struct dropout dropout; /* of what comes out */
    void *sum;              /* (N, C) what the norm is of, kept; NULL: no norm */
    void *own;   /* (N + 1, C) of a share of the vocabulary: the rows that it has, scratch */
    float *wide; /* some rows of a quantized table on their way to 16 bits: scratch; else NULL */
};

void embed_bind(struct embed *w, const struct model *m, float *gradient);
void embed_carve(struct embed *w, const struct batch *s, struct carve *kept);
/* Of a share of the vocabulary: of ids (N), host, those whose rows it has. Sets s->own, and what
   stands at s->own_ids, own_rows (or NULL) and own_slots on the device; stage (N): host scratch. */
void embed_find_own(struct batch *s, const int32_t *ids, int32_t *stage);
/* x (N, C) */
void embed_forward(const struct batch *s, const struct embed *w, void *x);
/* From s->dx; s->dh is of no more use. */
void embed_backward(const struct batch *s, const struct embed *w);

#endif
