/*
 * linear: y (n, out) = x (n, in) W^T + bias, where W is up to three named matrices stacked by rows
 * (q, k, v; gate, up).
 *
 * In training W is one (out, in) tensor of the compute type, or decoded to it for each product
 * where the base is quantized; y is one (n, out) block, and adapters add to it. In serving each
 * matrix keeps the type it has on disk, and the product of piece i is a contiguous (n, rows[i])
 * block behind those before it. Which of the two it is, is the batch's to say. Only enqueues.
 */
#ifndef RUNTIME_MODEL_LINEAR_H
#define RUNTIME_MODEL_LINEAR_H

#include "runtime/model/batch.h"
#include "runtime/model/blocks.h"
#include "runtime/model/carve.h"
#include "runtime/model/dora.h"
#include "runtime/model/internal.h"
#include "runtime/model/lora.h"

struct linear {
    struct linear_shape shape;
    enum linear_kind kind;
    int64_t layer;
    /* training */
    const void *w;        /* (out, in) t */
    float *dw;            /* (out, in); NULL when frozen */
    const void *bias;     /* (out) t; or NULL */
    float *dbias;         /* (out); NULL when frozen or absent */
    struct blocks blocks; /* W, of a quantized base; w and dw are NULL then */
    struct lora lora;
    struct dora dora;
    /* serving */
    struct {
        struct stored w;   /* (rows, in) as on disk */
        const float *bias; /* (rows); or NULL */
    } piece[LINEAR_PIECES];
    /* scratch of serving */
    float *sum;          /* (N, out): a product before it is added */
    uint16_t *x16;       /* (N, in): its input in 16 bits */
    float *decoded;      /* (rows, in): one matrix */
    uint16_t *decoded16; /* the same in BF16 */
};

/* gradient: the flat range beside the masters; NULL: nothing here is trained */
void linear_bind(
    struct linear *l, const struct model *m, enum linear_kind kind, int64_t layer, float *gradient);
void linear_carve(
    struct linear *l, const struct batch *s, struct carve *kept, struct carve *scratch);

/* y = x W^T + bias */
void linear_forward(const struct batch *s, const struct linear *l, const void *x, void *y);
/* y += x W^T + bias */
void linear_add(const struct batch *s, const struct linear *l, const void *x, void *y);
/* y = GELU(x W^T + bias), in the model's form; in training pre (n, out) receives what it is applied
   to */
void linear_gelu(const struct batch *s, const struct linear *l, const void *x, void *pre, void *y);
/* dx = dy W, unless NULL; dW += dy^T x; dbias += dy's sums; and the adapters' */
void linear_backward(
    const struct batch *s, const struct linear *l, const void *x, const void *dy, void *dx);
/* What of the adapters linear_backward needs of forward, where y is not wanted. */
void linear_project(const struct batch *s, const struct linear *l, const void *x);
/* Does linear_backward read x? */
bool linear_reads_input(const struct linear *l);

/* y (n, rows) F32 = act(y + bias), of a product that has no epilogue of its own: serving. s->zeros
   are as many as the greater of both. bias NULL: none. */
void linear_finish(
    const struct batch *s, int64_t rows, const float *bias, enum op_act act, float *y);
/* Columns of the widest product of a layer. */
int64_t linear_widest(const struct model_config *c);

/* Piece i of a product y of n rows. */
struct columns linear_piece(const struct batch *s, const struct linear *l, void *y, int i);

#endif
