/*
 * moe: the sub-layer of a mixture of experts (Shazeer et al., arXiv:1701.06538; as in Mixtral,
 * arXiv:2401.04088): a router chooses k of E feed-forwards for each token, y += sum over those
 * chosen of weight * down (silu(gate h) * up h). No token is dropped: each expert multiplies as
 * many rows as have chosen it. Forward and backward. Only enqueues: how many rows an expert has,
 * the device alone knows. The experts that are here are a range.
 */
#ifndef RUNTIME_MODEL_MOE_H
#define RUNTIME_MODEL_MOE_H

#include "runtime/model/linear.h"

struct expert_matrix { /* the same of each expert here, one behind the other: gate and up; down */
    int64_t in, out;   /* of all pieces */
    int pieces;
    /* training: (out, in) t of the first, ld elements from one to the next */
    const void *w;
    float *dw; /* NULL when frozen */
    int64_t ld;
    /* serving: piece i of the first as on disk, stride bytes from one expert to the next */
    struct stored piece[2];
    int64_t stride;
};

struct moe {
    int64_t first, count; /* experts that are here */
    struct linear router; /* (E, C) */
    struct expert_matrix up, down;
    /* kept; R = N * k rows, in the order of experts */
    float *p;                      /* (N, E) what the router gives, then its softmax */
    int32_t *expert;               /* (N, k) */
    float *weight;                 /* (N, k) */
    int32_t *row, *place, *offset; /* (R), (R), (E + 1) */
    void *gate_up;                 /* (R, 2 F); serving: (R, F) twice */
    /* scratch */
    void *rows, *drows;           /* (R, C) */
    void *activated, *dactivated; /* (R, F) */
    void *dgate_up;               /* (R, 2 F) */
    float *dweight;               /* (N, k) */
    void *dlogits;                /* (N, E) t */
};

extern const struct sublayer_kind moe_kind;

#endif
