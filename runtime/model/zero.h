/*
 * zero: what each of the ranks of a data axis keeps of a model that they divide (ZeRO,
 * arXiv:1910.02054): of a flat range a slice, one behind the other in the order of ranks. Stage 1
 * divides the optimizer's state and, where what is computed with is a copy of 16 bits, the masters;
 * 2 the gradient, too; 3 the weights, too.
 *
 * What is divided is computed with in a window: memory for what is outside of the layers, and for
 * one layer or two. There a layer's weights are gathered just before forward and backward, the next
 * one's while it computes (where the collective overlaps); and its gradient leaves for the slices
 * of its owners as soon as backward has made it, micro-batch by micro-batch. That of what is
 * outside of the layers, an embedding that is the head among it, stays until the last micro-batch.
 */
#ifndef RUNTIME_MODEL_ZERO_H
#define RUNTIME_MODEL_ZERO_H

#include "base/err.h"
#include "runtime/family/tensors.h"
#include "runtime/model/model.h"

struct zero_slice { /* elements of a flat range */
    int64_t first, count;
};

/* Which of these do the owners divide? Of adapters only the gradient: they are small. */
bool zero_divides_masters(const struct model_conf *c);
bool zero_divides_gradient(const struct model_conf *c);
bool zero_divides_weights(const struct model_conf *c);
/* Of what is trained, as the optimizer cuts it; of a base that is not trained equal parts. */
struct zero_slice zero_trained(const struct model_conf *c, const struct tensors *t, int owner);
struct zero_slice zero_base(const struct model_conf *c, const struct tensors *t, int owner);

struct zero_span { /* neighbours in the flat range that belong together */
    int unit;      /* 0: outside of the layers; 1 + the layer */
    int64_t first, count;
    int64_t at; /* in the unit's memory */
};

struct zero_window { /* no memory, but where everything would stand in it; {0}: there is none */
    int units, owners, slots;
    struct zero_span *spans; /* in the order of the flat range */
    int span_count;
    int64_t *counts;      /* (units, owners) elements of a unit that each owner has */
    int64_t outer, layer; /* elements: of unit 0, of the largest other */
};

/* Of the gradient of what is trained, with room for one layer; or of the base's weights, with
   room for two. */
int zero_window_create(struct zero_window *w, const struct model_conf *c, const struct tensors *t,
    bool gradient, struct err *e);
void zero_window_done(struct zero_window *w);
int64_t zero_window_elements(const struct zero_window *w);
/* Where a tensor of the table stands; without a window in the flat range. */
int64_t zero_window_place(const struct zero_window *w, const struct tensor *p);

/* -- a pass over such a model; z NULL: nothing is divided, and nothing is done -- */

struct zero {
    struct model *model;
    float *gradient, *slice; /* the window, and what this rank keeps; NULL: not divided */
    int standing[2];         /* the units in the slots of the weights' window; 0: none */
    struct err failure;      /* of a collective: nothing more is started */
};

/* Before forward: no layer's weights stand any more; what is outside of the layers is gathered. */
void zero_begin(struct zero *z);
/* A layer's weights stand until the one after the next is entered; next: the layer that will be
   entered then, -1: none. */
void zero_enter(struct zero *z, int64_t layer, int64_t next);
/* Around backward of a layer. */
void zero_clear_gradient(struct zero *z, int64_t layer);
void zero_reduce_gradient(struct zero *z, int64_t layer);
/* Around a step: all is zero; and what is outside of the layers goes to its owners. */
void zero_clear_all(struct zero *z);
void zero_reduce_rest(struct zero *z);
/* The failure of what was started, if there was one; before the host waits for the device. */
int zero_check(struct zero *z, struct err *e);

#endif
