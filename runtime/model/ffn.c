/*
 * ffn: what stands between its two products is the largest part of a layer's activations and the
 * cheapest to make again, so selective recomputation drops it (Korthikanti et al.,
 * arXiv:2205.05198, drop the scores of attention, which no kernel here ever stores).
 */
#include "runtime/model/ffn.h"

#include "runtime/model/sublayer.h"

static bool is_gated(const struct batch *s)
{
    return s->config->activation == ACTIVATION_SWIGLU;
}

static void ffn_bind(struct sublayer *u, const struct model *m, float *gradient)
{
    linear_bind(&u->ffn.w_up, m, LINEAR_GATE_UP, u->layer, gradient);
    linear_bind(&u->ffn.w_down, m, LINEAR_DOWN, u->layer, gradient);
}

static void ffn_carve(
    struct sublayer *u, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    struct ffn *f = &u->ffn;
    int64_t hidden = s->config->ffn_dim;
    if (s->train || is_gated(s))
        f->up = carve_tensor(kept, s->n, f->w_up.shape.out, s->t);
    f->activated = carve_tensor(is_gated(s) ? scratch : kept, s->n, hidden, s->t);
    if (s->train)
        f->dactivated = f->dup = carve_tensor(scratch, s->n, hidden, s->t);
    if (s->train && is_gated(s))
        f->dup = carve_tensor(scratch, s->n, 2 * hidden, s->t);
    linear_carve(&f->w_up, s, kept, scratch);
    linear_carve(&f->w_down, s, kept, scratch);
}

/* activated (N, F) = silu(gate) * up */
static void gate_up(const struct batch *s, const struct ffn *f)
{
    struct columns gate = linear_piece(s, &f->w_up, f->up, 0);
    struct columns up = linear_piece(s, &f->w_up, f->up, 1);
    OP(s, swiglu, .n = s->n, .f = s->config->ffn_dim, .ld = gate.ld, .gate = gate.at, .up = up.at,
        .y = f->activated, .t = s->t);
}

static void ffn_forward(const struct batch *s, const struct sublayer *u, void *y)
{
    const struct ffn *f = &u->ffn;
    if (is_gated(s)) {
        linear_forward(s, &f->w_up, s->h, f->up); /* (N, C) -> (N, 2 F) */
        gate_up(s, f);
    } else {
        linear_gelu(s, &f->w_up, s->h, f->up, f->activated); /* (N, C) -> (N, F) */
    }
    if (y)
        linear_add(s, &f->w_down, f->activated, y); /* (N, F) -> (N, C) */
    else
        linear_project(s, &f->w_down, f->activated);
}

static void gate_up_backward(const struct batch *s, const struct ffn *f)
{
    struct columns gate = linear_piece(s, &f->w_up, f->up, 0);
    struct columns up = linear_piece(s, &f->w_up, f->up, 1);
    struct columns dgate = linear_piece(s, &f->w_up, f->dup, 0);
    struct columns dup = linear_piece(s, &f->w_up, f->dup, 1);
    OP(s, swiglu_back, .n = s->n, .f = s->config->ffn_dim, .ld = gate.ld, .gate = gate.at,
        .up = up.at, .dy = f->dactivated, .dgate = dgate.at, .dup = dup.at, .t = s->t);
}

static void ffn_backward(const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    const struct ffn *f = &u->ffn;
    if (is_gated(s) && !again && linear_reads_input(&f->w_down))
        gate_up(s, f);
    linear_backward(s, &f->w_down, f->activated, s->dx, f->dactivated); /* (N, C) -> (N, F) */
    if (is_gated(s))
        gate_up_backward(s, f); /* (N, F) -> (N, 2 F) */
    else
        OP(s, gelu_back, .count = s->n * s->config->ffn_dim, .x = f->up, .dy = f->dactivated,
            .dx = f->dup, .erf = s->config->activation == ACTIVATION_GELU_ERF, .t = s->t);
    linear_backward(s, &f->w_up, s->h, f->dup, below ? s->dh : NULL); /* -> (N, C) */
}

static bool ffn_reads_input(const struct sublayer *u)
{
    return linear_reads_input(&u->ffn.w_up);
}

const struct sublayer_kind ffn_kind = {
    .norm = TENSOR_NORM_FFN,
    .selective = true,
    .bind = ffn_bind,
    .carve = ffn_carve,
    .forward = ffn_forward,
    .backward = ffn_backward,
    .reads_input = ffn_reads_input,
};
