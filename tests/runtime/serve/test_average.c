/*
 * Goal: the average is y = 1/K sum y_k, of logits or of the probabilities that they come to,
 * whatever their size. Method: random logits of one to eight models, averages made here from their
 * definitions in long double; what is averaged is far apart, and far from 0; rows of many.
 */
#include "runtime/serve/average.h"

#include "api/limits.h"
#include "base/random.h"
#include "tests/sample.h"
#include "tests/unit.h"

#include <math.h>

#define MOST 5000

static float x[LIMIT_MEMBERS][MOST], y[MOST];

static const float *const *rows(void)
{
    static const float *row[LIMIT_MEMBERS];
    for (int k = 0; k < LIMIT_MEMBERS; k++)
        row[k] = x[k];
    return row;
}

static void fill(uint64_t *random, int64_t n, double width)
{
    for (int k = 0; k < LIMIT_MEMBERS; k++)
        for (int64_t i = 0; i < n; i++)
            x[k][i] = (float)(width * ((double)(random_next(random) >> 11) * 0x1p-52 - 1));
}

/* exp(x_i) over the sum of all, or by itself */
static long double probability(const float *l, int64_t n, int64_t i, bool apart)
{
    long double sum = 0;
    if (apart)
        return 1 / (1 + expl(-(long double)l[i]));
    for (int64_t k = 0; k < n; k++)
        sum += expl((long double)l[k]);
    return expl((long double)l[i]) / sum;
}

static void compare(int count, int64_t n, int64_t step)
{
    struct average_of a = {.count = count, .x = rows(), .n = n};
    average_logits(&a, y);
    for (int64_t i = 0; i < n; i += step) {
        long double sum = 0;
        for (int k = 0; k < count; k++)
            sum += (long double)x[k][i];
        ck_assert_double_eq_tol((double)y[i], (double)(sum / count), 1e-5);
    }
    a.what = AVERAGE_PROBABILITIES;
    for (int apart = 0; apart < 2; apart++) {
        a.apart = apart;
        average_logits(&a, y);
        for (int64_t i = 0; i < n; i += step) {
            long double p = 0;
            for (int k = 0; k < count; k++)
                p += probability(x[k], n, i, apart) / count;
            double is = (double)(apart ? logl(p / (1 - p)) : logl(p));
            ck_assert_double_eq_tol((double)y[i], is, 1e-5 + 1e-6 * fabs(is));
            ck_assert_double_eq_tol((double)probability(y, n, i, apart), (double)p, 1e-6);
        }
    }
}

START_TEST(it_is_the_mean)
{
    uint64_t random = random_mix(sample_setting("LLMJOB_SEED"));
    sample_print();
    for (int count = 1; count <= LIMIT_MEMBERS; count++) {
        fill(&random, 40, 12);
        compare(count, 40, 1);
    }
    fill(&random, 3, 25); /* what one is sure of, another is sure that it is not */
    compare(2, 3, 1);
    fill(&random, MOST, 10);
    compare(3, MOST, 997);
}
END_TEST

/* Beyond what a float's exponent holds, and where nothing is left. */
START_TEST(nothing_is_too_small)
{
    struct average_of a = {.what = AVERAGE_PROBABILITIES, .count = 2, .x = rows(), .n = 3};
    const float one[] = {0, -200, -INFINITY}, other[] = {0, -400, -INFINITY};
    memcpy(x[0], one, sizeof one);
    memcpy(x[1], other, sizeof other);
    average_logits(&a, y);
    ck_assert_float_eq(y[0], 0);
    ck_assert_double_eq_tol((double)y[1], -200 - log(2), 1e-4);
    ck_assert(isinf(y[2]) && y[2] < 0);
    a.what = AVERAGE_LOGITS;
    average_logits(&a, y);
    ck_assert_float_eq(y[1], -300);
    ck_assert(isinf(y[2]) && y[2] < 0);
}
END_TEST

UNIT_MAIN("average", it_is_the_mean, nothing_is_too_small)
