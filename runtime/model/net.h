/*
 * net: a transformer as it computes: embedding, layers of sub-layers, a final norm, the head; and
 * the walks over them: to bind tensors, to carve memory, forward, backward. What a layer consists
 * of stands in a list, of those of experts in another (net.c).
 *
 * A sub-layer's activations are kept from forward to backward, or made again
 * (spec.train.recompute): Selective makes the feed-forward's, Full all but a layer's input. What is
 * made again stands in memory that all layers share, and so does everything in serving.
 */
#ifndef RUNTIME_MODEL_NET_H
#define RUNTIME_MODEL_NET_H

#include "runtime/model/embed.h"
#include "runtime/model/head.h"
#include "runtime/model/sublayer.h"

#define NET_SUBLAYERS 2 /* of a layer, at most */

struct layer {
    int count;
    struct sublayer sub[NET_SUBLAYERS];
};

struct net {
    struct embed embed;
    struct layer *layers; /* (L) */
    int64_t count;        /* that have memory here: all, but where only some of the chunks of layers
                             keep as many batches */
    struct norm final;
    struct head head;
    void *x;   /* (N, C) the residual above the last layer, or of all of what is frozen; else, where
                  norms are behind residuals, none */
    void *out; /* (N, C) what is handed on, of a stage or a chunk that is not the last; x there */
};

struct net_memory {
    struct carve saved;   /* from forward to backward */
    struct carve again;   /* of one layer */
    struct carve scratch; /* of one sub-layer, and what is in the batch */
    struct carve logits;  /* of one chunk of rows */
};
int net_memory_open(struct net_memory *a, struct dev *d, struct err *e);
void net_memory_close(struct net_memory *a, struct dev *d);

/* Layers without tensors or memory. */
int net_create(struct net *t, const struct model *m, struct err *e);
void net_done(struct net *t);
/* gradient: the flat range beside m's masters; NULL: nothing is trained */
void net_bind(struct net *t, const struct model *m, float *gradient);
/* Every activation, s->h, s->dh and s->dx included; s->n: the most rows. */
void net_carve(struct net *t, struct batch *s, struct net_memory *a);

/* s->ids to s->h, what the head reads. Of a stage of a pipeline, or the chunk s->chunk of its
   layers, from the input of its first layer, where it is not the first, and to t->out, where it is
   not the last; backward likewise from s->dx, and to it. */
void net_forward(const struct batch *s, const struct net *t);
/* Where the input of a chunk stands. */
void *net_input(const struct batch *s, const struct net *t);
/* The same of all chunks, with what comes from the stage before and goes to the next, as soon as it
   is there. */
void net_run(const struct batch *s, const struct net *t);
/* What both do with other ranks, where they divide the model, of no rows. */
void net_skip(struct zero *z, int64_t layers, bool backward);
/* From s->dh to every gradient. layer_fn is called whenever a layer is through, with its number;
   NULL: no calls. */
void net_backward(const struct batch *s, const struct net *t,
    void (*layer_fn)(void *user, int64_t layer), void *user);

#endif
