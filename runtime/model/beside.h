/*
 * beside: low-rank adapters beside a model that is served: any number of them over one copy of its
 * weights, each of a rank and of matrices of its own. A row of a pass has one or none: y = x W^T +
 * s (x A^T) B^T (Hu et al., arXiv:2106.09685), and with gains each column times one: what DoRA
 * brings the row of W + s B A to the length that was learnt with (arXiv:2402.09353).
 *
 * Rows that stand side by side and have the same adapter are a group, and their products are those
 * of the operation quant_matmul with F32 factors: where dev_rows_alike says so, what a row gets
 * does not depend on the others.
 *
 * One is described before there is a device: matrix by matrix, then opened, then filled.
 */
#ifndef RUNTIME_MODEL_BESIDE_H
#define RUNTIME_MODEL_BESIDE_H

#include "base/err.h"
#include "runtime/family/tensors.h"
#include "runtime/model/batch.h"

struct beside;

struct beside_group { /* rows of a pass that have the same adapter */
    int adapter;      /* from 0 on */
    int64_t row, rows;
};

struct beside_shape { /* of one matrix (rows, in) of an adapter */
    int64_t rank;
    float scale;
    bool gains;
};

struct beside_values { /* of the same, host */
    const float *a;    /* (rank, in) */
    const float *b;    /* (rows, rank) */
    const float *gain; /* (rows); NULL where there are none */
};

/* For `adapters` of a model c, none of which changes anything yet. */
int beside_create(const struct model_config *c, int adapters, struct beside **out, struct err *e);
void beside_destroy(struct beside *b); /* frees what it has of the device; NULL is fine */
/* The adapter has this part beside a tensor of the model. -ERR_DATA: adapters are not for it. */
int beside_describe(struct beside *b, int adapter, const struct tensor *t,
    const struct beside_shape *s, struct err *e);
int beside_count(const struct beside *b);     /* of adapters */
int64_t beside_bytes(const struct beside *b); /* that beside_open takes; NULL: 0 */
int64_t beside_rank(const struct beside *b);  /* the greatest; NULL: 0 */
/* d is borrowed until destroy. */
int beside_open(struct beside *b, struct dev *d, struct err *e);
/* Fills what was described. -ERR_DATA: it was not, or otherwise. */
int beside_put(struct beside *b, int adapter, const struct tensor *t, const struct beside_shape *s,
    const struct beside_values *v, struct err *e);

/* y (n, rows) F32, x W^T of piece i (rows, in) of a joined matrix, becomes that of each row's
   adapter, by s->group; x (n, in). */
void beside_forward(const struct batch *s, enum linear_kind kind, int64_t layer, int i,
    const struct linear_shape *shape, const float *x, float *y);

#endif
