/*
 * Goal: a number is counted in the bucket whose bounds it lies between, and no other. Method: every
 * bound of the table, and the numbers beside it; random bits beside a search of the bounds, as
 * numpy.histogram counts; what is told of runs of empty buckets.
 */
#include "runtime/train/histogram.h"

#include "base/random.h"
#include "tests/unit.h"

#include <math.h>
#include <stdlib.h>

/* The bucket with bound(i - 1) <= x < bound(i). */
static int place_of(double x)
{
    int low = 0, high = HISTOGRAM_BUCKETS - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (x < histogram_bound(middle))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int only_bucket(const struct histogram *h)
{
    int found = -1;
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (h->counts[i]) {
            ck_assert_int_eq(found, -1);
            found = i;
        }
    return found;
}

static void check_number(float x)
{
    static struct histogram h;
    histogram_clear(&h);
    histogram_add(&h, &x, 1);
    ck_assert_msg(only_bucket(&h) == place_of((double)x), "%a: bucket %d, not %d", (double)x,
        only_bucket(&h), place_of((double)x));
    ck_assert(h.count == 1 && h.min == (double)x && h.max == (double)x && h.sum == (double)x);
}

START_TEST(bounds_belong_to_the_bucket_above)
{
    ck_assert(histogram_bound(HISTOGRAM_BUCKETS - 1) == 0x1p128);
    for (int i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        float x = (float)histogram_bound(i);
        ck_assert_msg(histogram_bound(i) < histogram_bound(i + 1), "bound %d", i);
        check_number(x);
        check_number(nextafterf(x, INFINITY));
        check_number(nextafterf(x, -INFINITY));
    }
    check_number(-0.0f);
    ck_assert(histogram_bound(HISTOGRAM_SIDE - 1) == 0);
    ck_assert(histogram_bound(place_of(1)) == 1.25);
    ck_assert(histogram_bound(place_of(-1)) == -0.875 && histogram_bound(place_of(-1) - 1) == -1);
}
END_TEST

START_TEST(random_bits_are_counted_as_numpy_does)
{
    static struct histogram h;
    static float x[20000];
    static int64_t want[HISTOGRAM_BUCKETS];
    int64_t finite = 0;
    double squares = 0;
    for (int i = 0; i < 20000; i++) {
        uint32_t bits = (uint32_t)(random_mix((uint64_t)i) >> 32);
        memcpy(&x[i], &bits, sizeof bits);
        if (!isfinite(x[i]))
            continue;
        want[place_of((double)x[i])]++;
        squares += (double)x[i] * (double)x[i];
        finite++;
    }
    ck_assert_int_lt(finite, 20000);
    histogram_clear(&h);
    histogram_add(&h, x, 777);
    histogram_add(&h, x + 777, 20000 - 777);
    ck_assert_int_eq(h.count, finite);
    ck_assert(h.squares == squares);
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
        ck_assert_int_eq(h.counts[i], want[i]);
}
END_TEST

START_TEST(empty_buckets_are_joined)
{
    static const float x[] = {-1, 0.5f, 0.5f, 0.625f, 3};
    static double bounds[HISTOGRAM_BUCKETS], counts[HISTOGRAM_BUCKETS];
    static struct histogram h;
    histogram_clear(&h);
    ck_assert_int_eq(histogram_buckets(&h, bounds, counts), 0);
    histogram_add(&h, x, 5);
    ck_assert_int_eq(histogram_buckets(&h, bounds, counts), 6);
    const double want_bounds[] = {-0.875, 0.5, 0.625, 0.75, 3, 3.5};
    const double want_counts[] = {1, 0, 2, 1, 0, 1};
    for (int i = 0; i < 6; i++)
        ck_assert(bounds[i] == want_bounds[i] && counts[i] == want_counts[i]);
}
END_TEST

UNIT_MAIN("histogram", bounds_belong_to_the_bucket_above, random_bits_are_counted_as_numpy_does,
    empty_buckets_are_joined)
