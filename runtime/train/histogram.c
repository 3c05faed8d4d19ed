/*
 * histogram: the top bits of an F32 below its sign are its exponent and the first two digits of its
 * fraction. Below zero a bucket holds its own lower bound, too, so sizes are counted from one bit
 * pattern above the bound.
 */
#include "runtime/train/histogram.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define SIGN   0x80000000u
#define FINITE 0x7f800000u /* sizes below it */
#define SHIFT  21

_Static_assert(HISTOGRAM_SIDE == FINITE >> SHIFT, "a bucket for each finite number");

void histogram_clear(struct histogram *h)
{
    *h = (struct histogram){.min = INFINITY, .max = -INFINITY};
}

/* Of a finite number's bits. */
static int bucket_of(uint32_t bits)
{
    uint32_t size = bits & ~SIGN;
    if (bits & SIGN && size)
        return HISTOGRAM_SIDE - 1 - (int)((size - 1) >> SHIFT);
    return HISTOGRAM_SIDE + (int)(size >> SHIFT);
}

void histogram_add(struct histogram *h, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        double v = (double)x[i];
        memcpy(&bits, &x[i], sizeof bits);
        if ((bits & ~SIGN) >= FINITE)
            continue;
        h->counts[bucket_of(bits)]++;
        h->count++;
        h->min = v < h->min ? v : h->min;
        h->max = v > h->max ? v : h->max;
        h->sum += v;
        h->squares += v * v;
    }
}

/* The number whose top bits these are. */
static double number_at(int top)
{
    float x;
    uint32_t bits = (uint32_t)top << SHIFT;
    memcpy(&x, &bits, sizeof x);
    return top == HISTOGRAM_SIDE ? 0x1p128 : (double)x;
}

double histogram_bound(int i)
{
    int above = i + 1 - HISTOGRAM_SIDE;
    return above > 0 ? number_at(above) : above < 0 ? -number_at(-above) : 0;
}

int histogram_buckets(const struct histogram *h, double *bounds, double *counts)
{
    int first = 0, end = HISTOGRAM_BUCKETS, n = 0;
    while (first < end && !h->counts[first])
        first++;
    while (end > first && !h->counts[end - 1])
        end--;
    for (int i = first; i < end; i++) {
        bool joined = i > first && !h->counts[i] && !h->counts[i - 1];
        n -= joined;
        bounds[n] = histogram_bound(i);
        counts[n++] = (double)h->counts[i];
    }
    return n;
}
