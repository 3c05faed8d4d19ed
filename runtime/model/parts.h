/*
 * parts: which named tensors a model has and where each stands in one flat range of elements. Pure.
 *
 * Matrices that read the same input stand one behind the other (q, k, v; gate, up), so one product
 * serves them while every name stays separate in checkpoints and exports; so do their biases.
 * Matrices come first and vectors (norms, biases) last: what weight decay applies to is one run. A
 * group begins at a multiple of PARTS_ALIGN elements; the gaps hold zeros for ever. Used by model,
 * memplan (sizes) and lora (whose factors are a table of the same kind).
 */
#ifndef RUNTIME_MODEL_PARTS_H
#define RUNTIME_MODEL_PARTS_H

#include "base/err.h"
#include "runtime/model/model.h"

#define PARTS_ALIGN 32

/* LINEAR_GATE_UP is up alone where the activation has no gate. */
enum linear_kind { LINEAR_QKV, LINEAR_O, LINEAR_GATE_UP, LINEAR_DOWN, LINEARS };
#define LINEAR_PIECES 3

struct linear_shape { /* (out, in): `pieces` named matrices stacked by rows */
    int64_t in, out;
    int pieces;
    int64_t rows[LINEAR_PIECES];
    const char *name[LINEAR_PIECES]; /* "self_attn.q_proj" */
    bool bias;
};
void parts_linear(const struct model_config *c, enum linear_kind kind, struct linear_shape *out);

struct parts {
    struct model_part *at;
    int count, capacity;
    int64_t elements; /* of the flat range, gaps included */
};
void parts_done(struct parts *p);
/* Every tensor of the model itself. */
int parts_base(const struct model_config *c, struct parts *out, struct err *e);
/* Appends one; cols 0: a vector of `rows`; joined: directly behind the one before. */
int parts_add(
    struct parts *p, const char *name, int64_t rows, int64_t cols, bool joined, struct err *e);
const struct model_part *parts_find(const struct parts *p, const char *name); /* or NULL */
/* "model.layers.<layer>.<piece>.<suffix>" */
void parts_name(char out[128], int64_t layer, const char *piece, const char *suffix);

/* Where the tensors that model resolves by position stand in parts_base's table. A norm's bias
   stands behind it; so do a matrix' other pieces. */
int parts_index_positions(const struct model_config *c); /* learned positions; -1: none */
int parts_index_linear(const struct model_config *c, int64_t layer, enum linear_kind kind);
int parts_index_bias(const struct model_config *c, int64_t layer, enum linear_kind kind);
int parts_index_norm(
    const struct model_config *c, int64_t layer, int which); /* 0 before attention, 1 before ffn */
int parts_index_final_norm(const struct model_config *c);
int parts_index_head(const struct model_config *c); /* the embedding (0) when tied */

#endif
