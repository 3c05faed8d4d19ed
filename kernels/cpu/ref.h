/*
 * ref: single elements of any floating type, and blocks of an optimizer's state, for the reference
 * operations (cpu/ref*.c) and those that memory bounds (cpu/experts.c), which alone include this.
 */
#ifndef KERNELS_CPU_REF_H
#define KERNELS_CPU_REF_H

#include "kernels/ops.h"
#include "kernels/quant.h"

#include <math.h>

static inline float ref_load(enum dtype t, const void *p, int64_t i)
{
    if (t == DTYPE_F32)
        return ((const float *)p)[i];
    uint16_t h = ((const uint16_t *)p)[i];
    return t == DTYPE_BF16 ? bf16_to_f32(h) : f16_to_f32(h);
}

static inline void ref_store(enum dtype t, void *p, int64_t i, float v)
{
    if (t == DTYPE_F32)
        ((float *)p)[i] = v;
    else
        ((uint16_t *)p)[i] = t == DTYPE_BF16 ? f32_to_bf16(v) : f32_to_f16(v);
}

/* GELU, tanh form: x * ref_gelu_gate(x). */
static inline double ref_gelu_gate(double x)
{
    return 0.5 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* Exact: x * ref_phi(x), by the distribution function of the normal distribution. */
static inline double ref_phi(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

/* What an update keeps of its elements, see op_adamw; ref_state.c. */
struct ref_state {
    enum dtype t;
    void *at;
    float *scale;
    uint64_t seed;
    bool first; /* a first moment; else a second */
};
/* Elements [from, from + n) as F32, and back; n <= OP_STATE_BLOCK, from a multiple of it. */
void ref_state_read(const struct ref_state *s, int64_t from, int64_t n, float *out);
void ref_state_write(const struct ref_state *s, int64_t from, int64_t n, const float *x);

#endif
