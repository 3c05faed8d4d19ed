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
 * One is described before there is a device: matrix by matrix, as the whole model has them; then
 * opened, then filled, and perhaps dropped again, whatever the others are. Of a model that ranks
 * share each has what belongs to its part of a matrix (W's rows: B's rows; W's columns: A's), so
 * that what is added up of the one is added up of the other with it.
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

struct beside_values { /* of the same, of the whole matrix; host */
    const float *a;    /* (rank, in) */
    const float *b;    /* (rows, rank) */
    const float *gain; /* (rows); NULL where there are none */
};

/* For `adapters` of a model c, the whole one, none of which changes anything yet. limit_bytes: what
   they take together at any time; 0: all that are described. */
int beside_create(const struct model_config *c, int adapters, int64_t limit_bytes,
    struct beside **out, struct err *e);
void beside_destroy(struct beside *b); /* frees what it has of the device; NULL is fine */
/* The adapter, which is not open, has this part beside a tensor of the whole model. -ERR_DATA:
   adapters are not for it. */
int beside_describe(struct beside *b, int adapter, const struct tensor *t,
    const struct beside_shape *s, struct err *e);
int beside_count(const struct beside *b); /* of adapters; NULL: 0 */
/* That one takes when it is open, of a rank whose model is c: the whole one, or a share of it. */
int64_t beside_bytes_of(const struct beside *b, int adapter, const struct model_config *c);
/* That all take, or the limit; NULL: 0. */
int64_t beside_bytes(const struct beside *b, const struct model_config *c);
int64_t beside_rank(const struct beside *b); /* the greatest that is described; NULL: 0 */
/* d is borrowed until it is dropped, or destroy. */
int beside_open(
    struct beside *b, int adapter, const struct model_config *c, struct dev *d, struct err *e);
bool beside_is_open(const struct beside *b, int adapter);
/* It is not described any more, and has no memory. No pass has it. */
void beside_drop(struct beside *b, int adapter);
/* Fills what was described; t: what this rank has of the tensor. -ERR_DATA: it was not described,
   or otherwise. */
int beside_put(struct beside *b, int adapter, const struct tensor *t, const struct beside_shape *s,
    const struct beside_values *v, struct err *e);

/* y (n, rows) F32, x W^T of piece i (rows, in) of a joined matrix, becomes that of each row's
   adapter, by s->group; x (n, in). */
void beside_forward(const struct batch *s, enum linear_kind kind, int64_t layer, int i,
    const struct linear_shape *shape, const float *x, float *y);

#endif
