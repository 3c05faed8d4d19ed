/*
 * rows: sums of columns, which the gradients of biases and of the weights of norms are
 * (columns.cu). Both functions only enqueue; a failure sticks to the device. The order of every sum
 * is fixed, so results are repeatable bit for bit. For the .cu files of row-wise operations.
 *
 * A sum of n rows needs two steps: slices of rows are summed side by side into scratch, then the
 * slices in their order.
 */
#ifndef KERNELS_CUDA_ROWS_H
#define KERNELS_CUDA_ROWS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out (c) += the sum over the rows of dy (n, c), ld elements apart; with x (n, c) of the same
   stride not NULL, of dy * (x - mean) * rstd, mean and rstd (n); NULL: 0, and 1. Takes scratch from
   its beginning. The order of summation is fixed. */
struct cuda_columns {
    int64_t n, c, ld;
    const void *dy, *x;
    const float *mean, *rstd;
    float *out;
    enum dtype t; /* of dy and x */
};
void cuda_columns(struct dev *d, const struct cuda_columns *a);

/* out (c) += the sum of the rows of part (slices, c), in their order. */
void cuda_add_slices(struct dev *d, const float *part, int64_t slices, int64_t c, float *out);

#ifdef __cplusplus
}
#endif
#endif
