/*
 * quant: decoding of GGUF weight blocks, one plain function a format. Formats: ggml's ggml-common.h
 * and ggml-quants.c; the golden test (tests/golden/make_quants.py) compares with the reference
 * decoder of the gguf package. The fast products (cpu/quant_body.h) decode in registers and are
 * tested against this file.
 */
#ifndef KERNELS_QUANT_H
#define KERNELS_QUANT_H

#include "kernels/ops.h"

/* out (count) F32 = the elements of src, of any type; count is a multiple of dtype_block(t). */
void quant_decode(enum dtype t, const void *src, int64_t count, float *out);

/* The 6-bit scale and minimum of sub-block j (0..7) of a Q4_K or Q5_K super-block, from its 12
 * packed bytes. */
static inline void quant_q4_k_scale(const uint8_t *packed, int j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (uint8_t)((packed[j + 4] & 15) | (packed[j - 4] >> 6 << 4));
        *min = (uint8_t)((packed[j + 4] >> 4) | (packed[j] >> 6 << 4));
    }
}

static inline float quant_f16_at(const uint8_t *p)
{
    uint16_t h;
    __builtin_memcpy(&h, p, 2);
    return f16_to_f32(h);
}

#endif
