/*
 * histogram: how F32 numbers are spread, in memory that does not grow with them. A bucket is a
 * quarter of the way from one power of two to the next, on either side of zero, so a number's
 * bucket is the top of its bits: counting is exact, and bucket i holds those with bound(i - 1) <= x
 * < bound(i), as numpy.histogram counts them. What is below 2^-126 in size is in the buckets beside
 * zero. Pure.
 */
#ifndef RUNTIME_TRAIN_HISTOGRAM_H
#define RUNTIME_TRAIN_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SIDE    1020 /* buckets above zero, and as many below */
#define HISTOGRAM_BUCKETS (2 * HISTOGRAM_SIDE)

struct histogram {
    int64_t counts[HISTOGRAM_BUCKETS];
    int64_t count; /* of all; what is not finite is left out */
    double min, max, sum, squares;
};

void histogram_clear(struct histogram *h);
void histogram_add(struct histogram *h, const float *x, int64_t n);
/* What bucket i ends before; of the last one 2^128. */
double histogram_bound(int i);
/* The same from the first bucket that holds a number to the last, with runs of empty ones joined:
   bounds and counts have room for HISTOGRAM_BUCKETS. Returns how many. */
int histogram_buckets(const struct histogram *h, double *bounds, double *counts);

#endif
