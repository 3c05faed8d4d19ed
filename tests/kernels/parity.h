/*
 * parity: one run of one operation on one device, for the kernel tests. A case allocates its inputs
 * through it, calls the operation and names its outputs; the same case on two devices gives two
 * runs with equal inputs, which are compared. Inputs are pseudo-random, from the seed and the order
 * of the calls alone.
 */
#ifndef TESTS_KERNELS_PARITY_H
#define TESTS_KERNELS_PARITY_H

#include "kernels/ops.h"

#define PARITY_BUFFERS 24

struct parity_run {
    struct dev *d;
    const struct ops *ops;
    enum dtype t;
    uint64_t seed; /* advances */
    int buffers, outputs;
    void *buffer[PARITY_BUFFERS]; /* device */
    struct parity_output {
        float *value; /* host, F32 */
        int64_t count;
        double tolerance;
    } output[PARITY_BUFFERS];
};

void parity_begin(struct parity_run *r, struct dev *d, enum dtype t, uint64_t seed);
void parity_end(struct parity_run *r);

/* count elements of type t, uniform in [-range, range]; any type but the quantised ones. */
void *parity_input(struct parity_run *r, int64_t count, enum dtype t, float range);
/* count integers in [0, below). */
int32_t *parity_ids(struct parity_run *r, int64_t count, int32_t below);
/* Well-formed random blocks: any bits, scales of normal size. */
void *parity_blocks(struct parity_run *r, int64_t count, enum dtype t);
/* A buffer filled with NaN patterns: what the operation does not write shows. */
void *parity_space(struct parity_run *r, int64_t count, enum dtype t);
/* After the operation: keep p for the comparison. tolerance: of |a - b| / (|a| + root mean square
 * of a). */
void parity_output(
    struct parity_run *r, const void *p, int64_t count, enum dtype t, double tolerance);

/* Greatest error over tolerance of all outputs; above 1 they differ. Infinite when counts differ or
 * either has a NaN. */
double parity_error(const struct parity_run *want, const struct parity_run *got);
bool parity_equal(const struct parity_run *a, const struct parity_run *b); /* bitwise */

#endif
