/*
 * context: what the ranks owe one another that share each sequence (Llama 3, arXiv:2407.21783, 3.3;
 * the pairing of chunks is that of its load balancing, and of Brandon et al., arXiv:2311.09431, in
 * its aim). Of 2 c chunks of a sequence of T tokens, L each, rank i of c has chunks i and 2 c - 1 -
 * i, one behind the other, so all have the same number of causal scores to compute. Every token
 * keeps its place in the sequence: all but attention computes on rows and knows nothing of it. In
 * attention keys and values of one layer are gathered whole, as (b, T, 2 G D), keys before values;
 * a chunk of queries sees those up to its end (op_attention's before), and what is a window or a
 * document needs no more than its first key. In backward the gradients of all keys and values are
 * added up over the ranks, and each keeps those of its tokens.
 *
 * Failures are parallel.h's.
 */
#ifndef RUNTIME_MODEL_CONTEXT_H
#define RUNTIME_MODEL_CONTEXT_H

#include "runtime/model/batch.h"
#include "runtime/model/carve.h"

struct context {
    int size, rank;    /* 1: every rank has whole sequences */
    int32_t *order;    /* (b T) of each token, in order, its row as the ranks have them */
    int32_t *back;     /* (b T) the other way round */
    int32_t *same;     /* (n) 0, 1, ... */
    int64_t b, tokens; /* of which these are; tokens: a rank's of a sequence */
    int64_t *elements; /* (size) host: what each rank has of what is gathered */
};

struct context_keys { /* scratch of one layer's attention; NULL: sequences are whole */
    void *gathered;   /* (c, n, 2 G D) */
    void *whole;      /* (b, T, 2 G D) */
    void *part;       /* (T / 2, 2 G D) */
};

/* size 1, or 0: whole sequences. */
int context_open(struct context *x, int size, int rank, struct err *e);
void context_close(struct context *x);
void context_carve(struct context *x, const struct batch *s, struct carve *c);
void context_carve_keys(struct context_keys *k, const struct batch *s, struct carve *scratch);
/* For b sequences from now on; stage (b tokens), host. */
void context_set(struct context *x, struct dev *d, int32_t *stage, int64_t b, int64_t tokens);

/* Which of 2 * size chunks the first half is of what a rank has of a sequence (half 0), or the
   second (1). Pure. */
int64_t context_chunk(int64_t size, int64_t rank, int half);
/* The place in its sequence of this rank's i-th token of `tokens`. */
int64_t context_place(const struct context *x, int64_t tokens, int64_t i);

/* Of a sequence of which `length` tokens exist, how many of this rank's do, its first ones, of
   `tokens` that it has. */
int64_t context_length(const struct context *x, int64_t tokens, int64_t length);

/* k, v (n, G D) of this rank's tokens become everybody's, in k->whole. */
void context_gather(const struct batch *s, const struct context_keys *k, struct columns keys,
    struct columns values);
/* The gradients in k->gathered, (b, T, 2 G D), of what was gathered, are added up over the ranks:
   dkeys, dvalues (n, G D) of this rank's tokens. k->whole is used up. */
void context_scatter(const struct batch *s, const struct context_keys *k, struct columns dkeys,
    struct columns dvalues);

#endif
