/*
 * quant_encode: numbers to GGUF weight blocks, what kernels/quant.h decodes. Q8_0, Q4_0 and Q5_0
 * round to nearest, to the bit as ggml's reference and the gguf package do, unless it is known what
 * each number counts. Q5_1, Q4_K and Q6_K search for the scales that give the least weighted square
 * error, by least squares over a grid of roundings; formats and idea: ggml's ggml-quants.c.
 */
#ifndef KERNELS_QUANT_ENCODE_H
#define KERNELS_QUANT_ENCODE_H

#include "kernels/dev.h"

/* Whether there is an encoder: F32, BF16, F16, Q8_0, Q4_0, Q5_0, Q5_1, Q4_K, Q6_K. */
bool quant_encodes(enum dtype t);
/* count (a multiple of dtype_block(t)) numbers of one row or of several to `out`, dtype_bytes(t,
   count) bytes. What is not finite becomes 0 in blocks. importance: of each of the count numbers,
   not negative, what its square error counts, which all but Q8_0 then search by; NULL: unknown. */
void quant_encode(enum dtype t, const float *x, int64_t count, const float *importance, void *out);

#endif
