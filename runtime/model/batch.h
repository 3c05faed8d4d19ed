/*
 * batch: what forward and backward run over, as every sub-layer sees it: B sequences of T tokens on
 * a device, and the few tensors that hand the numbers on. Plain data, borrowed for the call.
 *
 * Activations have type t: the compute type in training, F32 in serving. When memory is carved, n
 * is the most rows that there will ever be.
 */
#ifndef RUNTIME_MODEL_BATCH_H
#define RUNTIME_MODEL_BATCH_H

#include "api/wire.h"
#include "kernels/ops.h"
#include "runtime/family/tensors.h"
#include "runtime/model/kvcache.h"

struct beside;
struct beside_group;
struct context;
struct dispatch;
struct parallel;
struct trace;
struct zero;

/* x (n, in) F32, on the device: what the product of that kind and layer reads. */
typedef void batch_watch_fn(void *watcher, struct dev *dev, enum linear_kind kind, int64_t layer,
    const float *x, int64_t n);

struct batch {
    struct dev *dev;
    const struct model_config *config;
    struct wire_page *page; /* a beat a layer; or NULL */
    struct trace *trace;    /* of layers, forward and backward; or NULL */
    bool train;
    bool frozen; /* training, of a model that is only run forward: one residual for all layers */
    enum dtype t, compute;         /* of activations; of large products */
    int64_t b, tokens, n;          /* B, T, N = B * T */
    const int32_t *ids, *position; /* (N) */
    const int32_t *types;          /* (N) NULL: there are none */
    bool typed;                    /* not all tokens are of type 0 */
    const int32_t *lengths;        /* (B) tokens of each sequence that exist; NULL: all of them */
    const int32_t *sees_from;      /* (N) of its sequence, the first that each sees; NULL: all */

    /* serving: rows of one sequence, or of many */
    const int32_t *length; /* (N) the tokens up to this one */
    struct kvcache *cache;
    struct kvcache_rows rows; /* where in it each token stands; with position */
    bool cached;              /* attention reads the cache: there are tokens before these, or rows
                                 of several sequences */
    const int64_t *begins;    /* (texts + 1) host, of whole texts one behind the other (encoder.h):
                                 the row of each; NULL: there is one sequence, or the cache */
    int64_t texts;
    bool stored;                 /* every product is with the stored blocks: engine.c */
    float *zeros;                /* (N or more): the operands of a product that only adds a bias */
    const struct beside *beside; /* adapters that rows may have (beside.h); or NULL */
    const struct beside_group *group; /* (groups) of rows that have one */
    int groups;
    float *beside_v;          /* (N, columns): scratch */
    batch_watch_fn *watch_fn; /* sees what each product reads; or NULL */
    void *watcher;

    /* training, where ranks have chunks of each sequence: whose; tokens are a rank's */
    const struct context *context;

    struct parallel *parallel; /* of a share of the model: with whom it is summed up */

    /* training */
    struct dispatch *dispatch;  /* of a share of the experts: ways to the others; else NULL */
    int64_t flight;             /* of batches between forward and backward, which */
    void *sum;                  /* (N, C) of a share of layers: what is summed up in forward */
    struct zero *zero;          /* what of gradient and weights ranks divide; NULL: nothing */
    int64_t own;                /* tokens whose rows of the embedding this share has: */
    const int32_t *own_ids;     /* (own) which of its rows */
    const int32_t *own_rows;    /* (own) which tokens */
    const int32_t *own_slots;   /* (N) where each token is among them; `own`: nowhere */
    int chunk;                  /* of the rank's layers, which are run; 0 where all are one */
    bool parted;                /* backward does not follow its forward at once */
    int64_t chosen;             /* rows that the head reads, where it does not read all */
    const int32_t *chosen_rows; /* (chosen) */
    const int32_t *slots;       /* (N) where each row is among them; `chosen`: nowhere */
    int64_t first;              /* rows before these in the order of training */
    bool drops;                 /* dropout leaves something out */
    /* of a mixture of experts: how often a sequence's tokens chose each, in forward over the layers
       that have been run so far, stages before this one included, in backward over all; what a
       count is multiplied with as the gradient of a probability */
    float *expert_count; /* (B, E) */
    float *balance;      /* (B) */

    void *h;       /* (N, C) what a sub-layer reads: the norm of the residual */
    void *dh, *dx; /* (N, C) the gradients of h and of the residual; training */
    void *dx_next; /* (N, C) what comes while dx goes, where layers are in chunks; else NULL */
};

/* Some columns of a matrix: where they begin, and the elements from row to row. */
struct columns {
    void *at;
    int64_t ld;
};

/* rows (n, C) = those of the table (v, C) that ids (n) name, as tables of embeddings have it. */
static inline void batch_take_rows(
    const struct batch *s, int64_t n, const int32_t *ids, const void *table, int64_t v, void *rows)
{
    OP(s, embed, .n = n, .c = s->config->dim, .v = v, .ids = ids, .table = table,
        .table_type = s->t, .out = rows, .t = s->t);
}

/* May products with blocks round what they multiply? Not where FP32 is asked for. */
static inline bool batch_is_coarse(const struct batch *s)
{
    return s->compute != DTYPE_F32;
}

static inline void *at_element(const void *p, int64_t index, enum dtype t)
{
    return (char *)p + index * dtype_block_bytes(t);
}

#endif
