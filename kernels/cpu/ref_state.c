/*
 * ref_state: blocks of what optimizers keep, as numbers and back, by their definition in ops.h. The
 * nearest value of a code is found by looking at all of them.
 */
#include "kernels/cpu/ref.h"

void ref_state_read(const struct ref_state *s, int64_t from, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        if (s->t == DTYPE_U8)
            out[i] = op_code_value(s->first, ((const uint8_t *)s->at)[from + i]) *
                s->scale[from / OP_STATE_BLOCK];
        else
            out[i] = ref_load(s->t, s->at, from + i);
    }
}

static uint8_t nearest(const float value[256], float x)
{
    int best = 0;
    for (int i = 1; i < 256; i++)
        if (fabsf(value[i] - x) < fabsf(value[best] - x))
            best = i;
    return (uint8_t)best;
}

static void encode(const struct ref_state *s, int64_t from, int64_t n, const float *x)
{
    uint8_t *to = (uint8_t *)s->at + from;
    float value[256], top = 0;
    for (int i = 0; i < 256; i++)
        value[i] = op_code_value(s->first, i);
    for (int64_t i = 0; i < n; i++)
        top = fmaxf(top, fabsf(x[i]));
    s->scale[from / OP_STATE_BLOCK] = top;
    for (int64_t i = 0; i < n; i++) {
        to[i] = nearest(value, top > 0 ? x[i] / top : 0);
        if (!s->first && x[i] > 0 && !to[i])
            to[i] = 1;
    }
}

void ref_state_write(const struct ref_state *s, int64_t from, int64_t n, const float *x)
{
    if (s->t == DTYPE_U8)
        encode(s, from, n, x);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = op_random(s->seed, (uint64_t)(from + i)) >> (s->first ? 0 : 16);
        if (s->t == DTYPE_BF16)
            ((uint16_t *)s->at)[from + i] = op_round_bf16(x[i], bits);
        else if (s->t == DTYPE_F32)
            ((float *)s->at)[from + i] = x[i];
    }
}
