/*
 * blocks: a frozen matrix that stays in the quantized blocks of a GGUF file while adapters are
 * trained beside it (QLoRA, Dettmers et al., arXiv:2305.14314). Where a product wants rows of it,
 * these are decoded to the compute type, into scratch that all matrices share: so what is computed
 * is what would be with the decoded matrix, and memory has the blocks. W may be several matrices
 * stacked by rows (q, k, v), each of a type of its own. Only enqueues.
 */
#ifndef RUNTIME_MODEL_BLOCKS_H
#define RUNTIME_MODEL_BLOCKS_H

#include "runtime/model/batch.h"
#include "runtime/model/carve.h"
#include "runtime/model/internal.h"

struct blocks {       /* W (rows, in); rows 0: there is none in blocks */
    int64_t rows, in; /* of all pieces */
    int pieces;
    struct stored piece[LINEAR_PIECES];
    int64_t piece_rows[LINEAR_PIECES];
    int64_t most; /* rows decoded at once */
    void *panel;  /* (most, in) t: scratch */
    float *wide;  /* some rows on their way to 16 bits: scratch */
};

/* What a tensor of the base has on the device; of a model whose base is quantized. */
enum dtype blocks_type(
    const struct model_conf *c, const struct tensors *base, const struct tensor *p);
/* Cuts the place of every tensor of the base: blocks each by itself, what is not in blocks as in
   the table, joined where that joins. */
void blocks_carve_base(struct model *m, struct carve *c);
/* ERR_USER: the model has no matrix that could be in blocks, or is a mixture of experts. */
int blocks_check(const struct model *m, struct err *e);

/* The matrices of one linear, or one matrix (roles, 1), of a layer. */
void blocks_bind(struct blocks *b, const struct model *m, const enum tensor_role *roles, int pieces,
    int64_t layer);
/* Scratch for `most` rows at once. */
void blocks_carve(struct blocks *b, const struct batch *s, int64_t most, struct carve *scratch);
/* Rows [row, row + n) of W, n <= most: (n, in) t, good until the next call. */
const void *blocks_rows(const struct batch *s, const struct blocks *b, int64_t row, int64_t n);

#endif
