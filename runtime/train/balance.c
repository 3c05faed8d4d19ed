/*
 * balance: by the time in which all could be done at the earliest, found by halving: in it each
 * share can do so many sequences, together as many as there are or a few more, which those give
 * back that would be done just then, the last first.
 */
#include "runtime/train/balance.h"

#include <assert.h>
#include <stdlib.h>

static int64_t bounded(int64_t ns)
{
    return ns < 1 ? 1 : ns < BALANCE_NS_MOST ? ns : BALANCE_NS_MOST;
}

/* Sequences that a share does in a time; at least 1, whatever it takes. */
static int64_t done_in(int64_t time_ns, int64_t ns)
{
    int64_t n = time_ns / bounded(ns);
    return n > 1 ? n : 1;
}

/* No more than are asked for, so that nothing overflows. */
static bool is_enough(int64_t batch, int parts, const int64_t *ns, int64_t time_ns)
{
    int64_t sum = 0;
    for (int i = 0; i < parts && sum < batch; i++)
        sum += done_in(time_ns, ns[i]);
    return sum >= batch;
}

void balance_divide(int64_t batch, int parts, const int64_t *ns, int64_t *counts)
{
    assert(parts > 0 && batch >= parts && batch < INT64_MAX / BALANCE_NS_MOST);
    int64_t low = 0, high = batch * BALANCE_NS_MOST, sum = 0;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (is_enough(batch, parts, ns, middle))
            high = middle;
        else
            low = middle + 1;
    }
    for (int i = 0; i < parts; i++)
        sum += counts[i] = done_in(high, ns[i]);
    for (int i = parts - 1; i >= 0 && sum > batch; i--) {
        if (counts[i] > 1 && counts[i] * bounded(ns[i]) == high) {
            counts[i]--;
            sum--;
        }
    }
    assert(sum == batch);
}

int64_t balance_slowest(int parts, const int64_t *ns, const int64_t *counts)
{
    int64_t most = 0;
    for (int i = 0; i < parts; i++) {
        int64_t time_ns = counts[i] * bounded(ns[i]);
        most = time_ns > most ? time_ns : most;
    }
    return most;
}

bool balance_change(
    int64_t batch, int parts, const int64_t *ns, int gain, int64_t *counts, int64_t *spare)
{
    balance_divide(batch, parts, ns, spare);
    int64_t now = balance_slowest(parts, ns, counts), then = balance_slowest(parts, ns, spare);
    if (now <= then + then / 100 * gain)
        return false;
    for (int i = 0; i < parts; i++)
        counts[i] = spare[i];
    return true;
}

static int by_figure(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int balance_odd(int n, const double *figures, double *spare, double *median)
{
    int most = 0;
    for (int i = 0; i < n; i++) {
        most = figures[i] > figures[most] ? i : most;
        spare[i] = figures[i];
    }
    qsort(spare, (size_t)n, sizeof *spare, by_figure);
    *median = spare[(n - 1) / 2];
    return figures[most] > BALANCE_ODD * *median ? most : -1;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int64_t balance_median(int64_t *values, int n)
{
    assert(n > 0);
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[(n - 1) / 2];
}
