/*
 * bottleneck: adapters behind whole sub-layers, as AdapterHub's `adapters` defines them, beside a
 * model that is frozen. With z = x + f(x) what a sub-layer adds up to, z becomes z + U act(D a + d)
 * + u, D (r, C), U (C, r). Houlsby (Houlsby et al., arXiv:1902.00751): behind attention and
 * feed-forward, a = f(x). Pfeiffer (Pfeiffer et al., arXiv:2005.00247): behind the feed-forward
 * alone, a = z, and where the sub-layer's norm stands behind the residual a = norm(z) by its
 * weights, which then follow the adapter once more.
 *
 * D and U begin as normal(0, 0.02), d and u as zero: the model begins nearly as it was. Only
 * enqueues. Mixtures of experts are refused.
 */
#ifndef RUNTIME_MODEL_BOTTLENECK_H
#define RUNTIME_MODEL_BOTTLENECK_H

#include "runtime/model/batch.h"
#include "runtime/model/carve.h"
#include "runtime/model/model.h"
#include "runtime/model/norm.h"

struct bottleneck_matrix { /* (out, in) */
    int64_t in, out;
    const void *w, *bias; /* (out, in), (out) t */
    float *dw, *dbias;    /* F32; NULL when nothing is trained */
};

struct bottleneck { /* of one sub-layer; r 0: none */
    int64_t r;
    bool of_sum; /* a is made of z, not of f(x) */
    enum adapter_activation activation;
    struct bottleneck_matrix down, up;
    struct norm norm; /* of z, where sum is kept: the sub-layer's weights, statistics of its own */
    /* kept */
    void *in;  /* (N, C) a */
    void *sum; /* (N, C) z, where a is its norm; else NULL */
    void *pre; /* (N, r) D a + d */
    void *act; /* (N, r) */
    /* scratch of backward */
    void *dact; /* (N, r) */
    void *din;  /* (N, C) */
};

/* What is trained: matrices layer by layer, a classifier, then their biases. ERR_USER: a mixture of
   experts. */
int bottleneck_tensors(const struct model_conf *c, struct tensors *out, struct err *e);

/* norm: the sub-layer's role of it, by which the sub-layer is known. */
void bottleneck_bind(struct bottleneck *a, const struct model *m, enum tensor_role norm,
    int64_t layer, float *gradient);
void bottleneck_carve(
    struct bottleneck *a, const struct batch *s, struct carve *kept, struct carve *scratch);

/* z (N, C) += U act(D a + d) + u, of a->in; z NULL: only what backward reads */
void bottleneck_forward(const struct batch *s, const struct bottleneck *a, void *z);
/* din from dz, and every gradient of its own */
void bottleneck_backward(const struct batch *s, const struct bottleneck *a, const void *dz);

#endif
