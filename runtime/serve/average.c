/*
 * average: means of probabilities are made of their logarithms, so that none is too small.
 */
#include "runtime/serve/average.h"

#include "api/limits.h"

#include <assert.h>
#include <math.h>

#define ALONE 4096 /* so few are one thread's */

/* log(1/K sum e^l_k) */
static double log_of_mean(const double *l, int count)
{
    double most = l[0], sum = 0;
    for (int k = 1; k < count; k++)
        most = l[k] > most ? l[k] : most;
    if (isinf(most))
        return most;
    for (int k = 0; k < count; k++)
        sum += exp(l[k] - most);
    return most + log(sum / count);
}

/* log(sum e^x_i) */
static double log_of_sum(const float *x, int64_t n)
{
    double most = (double)x[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        most = (double)x[i] > most ? (double)x[i] : most;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - most);
    return most + log(sum);
}

static float mean_of_logits(const struct average_of *a, int64_t i)
{
    double sum = 0;
    for (int k = 0; k < a->count; k++)
        sum += (double)a->x[k][i];
    return (float)(sum / a->count);
}

static float mean_among_all(const struct average_of *a, const double *whole, int64_t i)
{
    double l[LIMIT_MEMBERS] = {0};
    for (int k = 0; k < a->count; k++)
        l[k] = (double)a->x[k][i] - whole[k];
    return (float)log_of_mean(l, a->count);
}

/* log p, p = 1 / (1 + e^-x) */
static double log_sigmoid(double x)
{
    return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x));
}

/* log(p / (1 - p)) */
static float mean_apart(const struct average_of *a, int64_t i)
{
    double is[LIMIT_MEMBERS] = {0}, is_not[LIMIT_MEMBERS] = {0};
    for (int k = 0; k < a->count; k++) {
        is[k] = log_sigmoid((double)a->x[k][i]);
        is_not[k] = log_sigmoid(-(double)a->x[k][i]);
    }
    return (float)(log_of_mean(is, a->count) - log_of_mean(is_not, a->count));
}

void average_logits(const struct average_of *a, float *y)
{
    double whole[LIMIT_MEMBERS] = {0};
    bool logits = a->what == AVERAGE_LOGITS, among = !logits && !a->apart;
    assert(a->count >= 1 && a->count <= LIMIT_MEMBERS && a->n >= 1);
#pragma omp parallel for schedule(static) if (a->n > ALONE)
    for (int k = 0; k < a->count; k++)
        if (among)
            whole[k] = log_of_sum(a->x[k], a->n);
#pragma omp parallel for schedule(static) if (a->n > ALONE)
    for (int64_t i = 0; i < a->n; i++)
        y[i] = logits ? mean_of_logits(a, i)
            : among   ? mean_among_all(a, whole, i)
                      : mean_apart(a, i);
}
