/*
 * model_internal: what model.c (life, loading, reading), model/forward.c and model/backward.c
 * share. Nobody else includes it.
 *
 * Activations have type `act`: the compute type in training, F32 in serving. In training a joined
 * matrix is one (out, in) block and its product one (n, out) block; in serving each named matrix
 * keeps its stored type, and the product of piece i is a contiguous (n, rows[i]) block behind those
 * before it.
 */
#ifndef RUNTIME_MODEL_INTERNAL_H
#define RUNTIME_MODEL_INTERNAL_H

#include "kernels/ops.h"
#include "runtime/model/kvcache.h"
#include "runtime/model/lora.h"
#include "runtime/model/memplan.h"
#include "runtime/model/model.h"

struct stored { /* a matrix in the type it has on disk; serving */
    enum dtype type;
    void *data;
};

struct linear {
    struct linear_shape shape;
    const void *w;                   /* (out, in) act; training */
    float *dw;                       /* (out, in); NULL when frozen */
    const void *bias[LINEAR_PIECES]; /* (rows) act, in training one behind the other; or NULL */
    float *dbias;                    /* (out); NULL when frozen or absent */
    struct lora lora;
    struct stored stored[LINEAR_PIECES];
};

struct norm {
    const void *w, *bias; /* (C) act; bias NULL when root mean square */
    float *dw, *dbias;    /* NULL when frozen */
    float *mean, *rstd;   /* (N): saved by forward; mean NULL when root mean square */
};

struct layer {
    struct linear linear[LINEARS];
    struct norm norm[2]; /* before attention, before the feed-forward */
    /* saved by forward; what recomputation makes again is the same block for all layers */
    void *x_in, *x_mid; /* (N, C) residual before each half; the same block in serving */
    void *qkv;          /* (N, q + 2 kv), rotated */
    void *att;          /* (N, q) */
    void *gu;           /* SwiGLU: (N, 2F); GELU: (N, F), what it is applied to, in training */
    void *activated;    /* (N, F): GELU's in training; else every layer's */
    float *lse;         /* (b, H, T) */
};

struct arena_dev { /* a device block that is cut up at start */
    char *base;
    int64_t size, used;
};

/* What decoding a token reads, and at the end what it gives; on the device. */
struct model_token {
    int32_t id, position, length;
    struct sample_draw draw;
    int32_t next;
};

struct model {
    struct dev *dev;
    const struct ops *ops;
    struct model_conf conf;
    enum dtype act;
    struct memplan plan;
    struct tensors base;               /* every tensor of the model */
    struct tensors lora;               /* the factors; empty without LoRA */
    int64_t rows;                      /* N: the most rows of one forward */
    int64_t logit_rows, logit_columns; /* of a chunk, padding included */

    /* training: flat ranges */
    char *frozen;    /* base tensors in act; NULL when all are trained */
    float *master;   /* trainable */
    uint16_t *copy;  /* BF16 of master, or NULL */
    float *gradient; /* trainable */
    bool gradient_owned;

    struct arena_dev saved, scratch, logits_arena, stored_arena;
    struct layer *layers;
    const void *embed, *head; /* (V, C) act; training */
    const void *positions;    /* (context, C) act; NULL: rotary */
    float *dembed, *dpositions, *dhead;
    struct stored stored_embed, stored_head;
    struct norm final;
    void *x_out; /* (N, C) residual after the last layer */
    /* scratch */
    void *h, *dh, *dx, *datt, *dqkv;   /* (N, C) x3, (N, q), (N, q + 2 kv) */
    void *dactivated, *dgu;            /* (N, F), (N, 2F); the same (N, F) block for GELU */
    void *du;                          /* (N, sum of LoRA ranks) */
    void *dropped;                     /* (N, widest input of LoRA's); NULL: no dropout */
    bool drops;                        /* in this step */
    int64_t place;                     /* of its first sequence, in the order of training */
    float *logits;                     /* (R, V), logit_columns from row to row */
    uint16_t *logits16;                /* the same; BF16 training */
    float *loss, *loss_total;          /* (N), (MODEL_AHEAD, N): by row, since model_loss */
    int ahead;                         /* which of these is being added to */
    int32_t *ids, *targets, *position; /* (N) */
    void (*ready_fn)(void *user, int64_t first, int64_t count);
    void *ready_user;
    /* serving */
    struct kvcache *cache;
    float *sum;     /* (N, C): a product before it is added to the residual */
    float *zeros;   /* (N or widest): the operands of a product that only adds a bias */
    uint16_t *x16;  /* (N, widest): a product's input */
    float *decoded; /* one matrix */
    uint16_t *decoded16;
    int32_t *length;           /* (N) */
    struct model_token *token; /* device */
    void *recording;           /* of one token; NULL: the device makes none */
    float *host_loss;          /* (N), host */
};

struct batch {         /* what one forward runs over */
    int64_t b, tokens; /* n = b * tokens */
    bool cached;       /* serving: attention reads the cache, which has tokens before these */
    const int32_t *ids, *position, *length; /* (n), device; length (n): serving */
};

static inline void *at_element(const void *p, int64_t index, enum dtype t)
{
    return (char *)p + index * dtype_block_bytes(t);
}

/* What forward and backward of a product tell its adapters alike. */
static inline struct lora_io model_lora_io(
    const struct model *m, const struct linear *l, int64_t n, const void *x)
{
    return (struct lora_io){.n = n,
        .in = l->shape.in,
        .out = l->shape.out,
        .t = m->act,
        .x = x,
        .dropped = m->drops ? m->dropped : NULL,
        .first = m->place * m->conf.sequence_length};
}

int model_arena_open(struct model *m, struct arena_dev *a, int64_t size, struct err *e);
/* 64-byte aligned; cutting beyond the arena is a bug that stops. */
void *model_cut(struct arena_dev *a, int64_t bytes);
/* m->h = norm of x (n, C), with its statistics */
void model_norm(struct model *m, int64_t n, const void *x, const struct norm *w);
/* Embedding, layers, final norm: m->h = norm(x_out). */
void model_forward(struct model *m, const struct batch *s);
/* For backward: makes again what forward did not keep of a layer. True when it did: then m->h is
 * the feed-forward's input again, and the layer's `activated` is there. */
bool model_recompute(struct model *m, int64_t layer, const struct batch *s);
/* Logits and losses chunk by chunk (n rows); when backward also dh = gradient of m->h, and the
 * head's gradient. */
void model_head(struct model *m, int64_t n, float scale, bool backward);
/* Serving: m->logits (n, V) of the rows of m->h from `row` on; n <= logit_rows. */
void model_logits(struct model *m, int64_t row, int64_t n);
/* Serving: refuses tokens outside the vocabulary or beyond the cache. */
int model_check_extend(
    const struct model *m, const int32_t *ids, int64_t count, int64_t past, struct err *e);
/* Once, when everything is loaded: model_next is recorded where the device can. */
int model_decode_prepare(struct model *m, struct err *e);
/* From dh back to every gradient. */
void model_backward(struct model *m, const struct batch *s);
/* y (n, pieces) = x W^T by the stored type of each piece; serving */
void model_stored_product(struct model *m, const struct stored *w, const float *x, float *y,
    int64_t n, int64_t in, int64_t out);

#endif
