/*
 * moe: the sub-layer of a mixture of experts (Shazeer et al., arXiv:1701.06538; as in Mixtral,
 * arXiv:2401.04088): a router chooses k of E feed-forwards for each token, y += sum over those
 * chosen of weight * down (silu(gate h) * up h). No token is dropped: each expert multiplies as
 * many rows as have chosen it. Forward and backward. Only enqueues: how many rows an expert has,
 * the device alone knows. The experts that are here are a range; where that is not all of them,
 * rows come from and go to the ranks that have the others (dispatch.h), and forward waits for the
 * device.
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

struct moe_order { /* of rows by expert, as expert_sort has it */
    int32_t *row, *place, *offset;
};

/* R = N * k rows of this rank's tokens; M rows of the experts that are here, which are the same
   rows in the same order unless other ranks have experts, too. F is the share's. */
struct moe {
    int64_t layer;
    int64_t first, count; /* experts that are here */
    struct linear router; /* (E, C) */
    struct expert_matrix up, down;
    /* kept */
    float *p;               /* (N, E) what the router gives, then its softmax */
    int32_t *expert;        /* (N, k) */
    float *weight;          /* (N, k) */
    struct moe_order order; /* (R), (R), (E + 1) */
    struct moe_order here;  /* (M), (M), (count + 1) */
    float *weight_here;     /* (M), as they arrive; (N, k) */
    void *gate_up;          /* (M, 2 F); serving: (M, F) twice */
    /* scratch */
    void *rows, *drows;           /* (M, C) in the order of experts */
    void *activated, *dactivated; /* (M, F) */
    void *dgate_up;               /* (M, 2 F) */
    float *dweight;               /* (N, k) */
    float *dweight_here;          /* as weight_here */
    void *dlogits;                /* (N, E) t */
    void *sum;                    /* (N, C) of a share of columns: what is added up; else NULL */
    /* on the way, where there is one */
    void *sent, *arrived;    /* (R, C), (M, C) */
    float *weight_sent;      /* (R) */
    int32_t *expert_arrived; /* (M) */
};

extern const struct sublayer_kind moe_kind;

#endif
