/*
 * sublayer: half of a layer, where f is a kind: attention, a feed-forward, or a mixture of them.
 * Its norm stands behind the residual, y = norm(x + f(x)), as in Vaswani et al. (arXiv:1706.03762,
 * 3.1), or before f, y = x + f(norm(x)), as in GPT-2. What every kind has in common stands here
 * once: the residual, the norm, what backward makes again. A kind reads s->h and adds to y,
 * wherever the norm is. An adapter may stand behind f (bottleneck.h).
 *
 * A kind is a row of functions and a member of the union. It owns its tensors, what its forward
 * keeps for its backward, and its scratch, which the next sub-layer may use again.
 */
#ifndef RUNTIME_MODEL_SUBLAYER_H
#define RUNTIME_MODEL_SUBLAYER_H

#include "runtime/model/attention.h"
#include "runtime/model/bottleneck.h"
#include "runtime/model/dropout.h"
#include "runtime/model/ffn.h"
#include "runtime/model/moe.h"
#include "runtime/model/norm.h"

struct sublayer {
    const struct sublayer_kind *kind;
    int64_t layer;
    void *x; /* (N, C) its input, kept or made again with what is below it */
    void *z; /* (N, C) x + f(x), where the norm is behind it: kept as what is below is */
    struct norm norm;
    struct bottleneck adapter; /* behind f */
    struct dropout dropout;    /* of f(x) */
    void *dropped;             /* (N, C) f(x), or its gradient, less that; scratch */
    bool kept;                 /* from forward to backward; else made again by backward */
    union {
        struct attention attention;
        struct ffn ffn;
        struct moe moe;
    };
};

struct sublayer_kind {
    enum tensor_role norm;
    bool selective; /* RECOMPUTE_SELECTIVE makes it again: large, and cheap to compute */
    void (*bind)(struct sublayer *u, const struct model *m, float *gradient);
    void (*carve)(
        struct sublayer *u, const struct batch *s, struct carve *kept, struct carve *scratch);
    /* y += f(h); y NULL: only what its backward reads */
    void (*forward)(const struct batch *s, const struct sublayer *u, void *y);
    /* dh from dx, and every gradient of its own. again: forward has just run, its scratch is there.
       below: dh is wanted. */
    void (*backward)(const struct batch *s, const struct sublayer *u, bool again, bool below);
    /* Does backward read h? */
    bool (*reads_input)(const struct sublayer *u);
};

void sublayer_bind(struct sublayer *u, const struct model *m, float *gradient);
/* All but x. */
void sublayer_carve(
    struct sublayer *u, const struct batch *s, struct carve *kept, struct carve *scratch);
/* y from x; y may be x where the norm is before f. y NULL: only what backward reads. */
void sublayer_forward(const struct batch *s, const struct sublayer *u, void *y);
/* s->dx, the gradient of y, becomes that of x. again: sublayer_forward has just run. below false:
   nothing below is trained, and s->dx is of no more use. */
void sublayer_backward(const struct batch *s, const struct sublayer *u, bool again, bool below);

#endif
