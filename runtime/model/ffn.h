/*
 * ffn: the feed-forward of a layer. SwiGLU (arXiv:2002.05202, as in Llama): f(h) = (silu(h W_gate)
 * * (h W_up)) W_down. GELU: f(h) = gelu(h W_up) W_down, in its tanh form (GPT-2) or by erf (BERT),
 * an epilogue of the first product.
 */
#ifndef RUNTIME_MODEL_FFN_H
#define RUNTIME_MODEL_FFN_H

#include "runtime/model/linear.h"

struct ffn {              /* F: the hidden size */
    struct linear w_up;   /* SwiGLU: gate and up (2 F, C); GELU: (F, C) */
    struct linear w_down; /* (C, F) */
    /* kept */
    void *up; /* SwiGLU: (N, 2 F); GELU, in training: (N, F), what it is applied to */
    /* kept for GELU; of SwiGLU made again, a pass over memory */
    void *activated; /* (N, F) */
    /* scratch of backward */
    void *dactivated; /* (N, F) */
    void *dup;        /* SwiGLU: (N, 2 F); GELU: dactivated */
};

struct sublayer_kind;
extern const struct sublayer_kind ffn_kind;

#endif
