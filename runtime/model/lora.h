/*
 * lora: low-rank adapters, as peft defines them (Hu et al., arXiv:2106.09685): y = x W^T + (alpha /
 * r) (x A^T) B^T, A (r, in) uniform in +-1/sqrt(in) (kaiming with a = sqrt 5), B (out, r) zero, W
 * frozen. The adapters of matrices that share an input (q, k, v) have their A factors stacked, so x
 * A^T is one product for all of them.
 *
 * Dropout is of A's input alone: x A^T becomes dropout(x) A^T, x W^T stays (peft's lora_dropout;
 * here matrices that share an input share what is left out of it). What is left out of an element
 * depends on the seed, the layer, the matrix and the place of its row in the order of training, and
 * on nothing else: not on world, micro-batch or pass.
 *
 * AdaLoRA (Zhang et al., arXiv:2303.10512, as peft has it) puts singular values E (r) between the
 * factors: y = x W^T + s ((x A^T) * E) B^T, A and B normal(0, 0.02), E zero, r the rank that the
 * training begins with; which of them stay is runtime/train/adalora.h's affair. E is read from its
 * masters, as DoRA's lengths are.
 */
#ifndef RUNTIME_MODEL_LORA_H
#define RUNTIME_MODEL_LORA_H

#include "base/err.h"
#include "runtime/family/tensors.h"
#include "runtime/model/batch.h"
#include "runtime/model/carve.h"
#include "runtime/model/model.h"

struct lora_factor {
    int64_t row, rows; /* the rows of the joined matrix that it adapts */
    const void *b;     /* (rows, r) t */
    float *db;         /* (rows, r) F32 */
};

struct lora { /* the adapters of one joined matrix (out, in); count 0: none */
    int count;
    int64_t in, out, r, rank; /* rank = count * r */
    float scale;              /* of lora_scale */
    float dropout;            /* of A's input */
    uint64_t seed;            /* its own, of lora_seed */
    const void *a;            /* (rank, in) t */
    float *da;                /* (rank, in) F32 */
    bool adaptive;            /* there are singular values */
    const float *e;           /* (rank) F32 */
    float *de;                /* (rank) F32 */
    struct lora_factor factor[LINEAR_PIECES];
    void *u;       /* (N, rank) t: x A^T, saved by forward */
    void *du;      /* (N, rank) t: scratch */
    void *v;       /* (N, rank) t: scratch: u * E; NULL: no E */
    void *dropped; /* (N, in) t: scratch; NULL: no dropout */
};

/* What is trained: the factors for c's targets, per joined matrix its A's, then its B's; behind
   them a classifier; then singular values, or lengths. ERR_USER: a target no matrix has. */
int lora_tensors(const struct model_conf *c, struct tensors *out, struct err *e);
/* What B A is multiplied with: alpha / r, or alpha / sqrt(r) when rank-stabilized (Kalajdzievski,
   arXiv:2312.03732); of AdaLoRA lora_adaptive_scale. */
float lora_scale(const struct model_conf *c);
/* peft's alpha / (r + 1e-5), alpha 0 meaning r. */
float lora_adaptive_scale(double alpha, double rank);
/* The seed of dropout in one joined matrix. */
uint64_t lora_seed(uint64_t seed, int64_t layer, enum linear_kind kind);

/* u is kept from forward to backward. */
void lora_carve(struct lora *l, const struct batch *s, struct carve *kept, struct carve *scratch);

/* u = x A^T alone, which is all that lora_backward needs of forward */
void lora_project(const struct batch *s, const struct lora *l, const void *x);
/* y (n, out) += scale * x A^T B^T, or = (set; then y is one piece) */
void lora_forward(const struct batch *s, const struct lora *l, const void *x, void *y, bool set);
/* dA, dB, and dx +=, unless NULL, from dy (n, out) */
void lora_backward(
    const struct batch *s, const struct lora *l, const void *x, const void *dy, void *dx);

/* w (out, in) += scale * B A, on the host (export). */
void lora_merge(
    float *w, const float *a, const float *b, int64_t out, int64_t in, int64_t r, float scale);
/* a (r, in): row j *= e[j], on the host. */
void lora_apply_values(float *a, const float *e, int64_t r, int64_t in);

#endif
