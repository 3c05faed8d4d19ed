/*
 * ranking: only places of what is relevant count, so nothing but that is sorted: the place of the
 * i-th relevant one is behind those before it and behind every other that scores no less.
 */
#include "runtime/train/ranking.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TOP 10 /* places that MRR and NDCG look at */

const char *const ranking_names[RANKING_FIGURES] = {
    [RANKING_RECALL_1] = "recall@1",
    [RANKING_RECALL_5] = "recall@5",
    [RANKING_RECALL_10] = "recall@10",
    [RANKING_MRR] = "mrr@10",
    [RANKING_NDCG] = "ndcg@10",
};

/* Best first; there are few. */
static void sort_relevant(const float *scores, int32_t *relevant, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        int32_t x = relevant[i];
        int64_t k = i;
        for (; k > 0 && scores[relevant[k - 1]] < scores[x]; k--)
            relevant[k] = relevant[k - 1];
        relevant[k] = x;
    }
}

void ranking_of(
    const float *scores, int64_t m, int32_t *relevant, int64_t n, float figures[RANKING_FIGURES])
{
    static const int64_t firsts[] = {1, 5, 10}; /* of RANKING_RECALL_1 and on */
    int64_t hits[] = {0, 0, 0};
    double gain = 0, ideal = 0, first = 0;
    assert(n >= 1 && n <= m);
    sort_relevant(scores, relevant, n);
    for (int64_t i = 0, tied; i < n && i < TOP; i++) {
        float s = scores[relevant[i]];
        int64_t place = i + 1; /* all that score no less, but for relevant ones behind this one */
        for (int64_t k = 0; k < m; k++)
            place += !(scores[k] < s);
        for (tied = 0; tied < n && !(scores[relevant[tied]] < s); tied++)
            place--;
        if (place <= TOP) {
            gain += 1 / log2((double)place + 1);
            first = first > 0 ? first : 1 / (double)place;
        }
        for (int k = 0; k < 3; k++)
            hits[k] += place <= firsts[k];
    }
    for (int64_t i = 0; i < n && i < TOP; i++)
        ideal += 1 / log2((double)i + 2);
    for (int k = 0; k < 3; k++)
        figures[RANKING_RECALL_1 + k] = (float)((double)hits[k] / (double)n);
    figures[RANKING_MRR] = (float)first;
    figures[RANKING_NDCG] = (float)(gain / ideal);
}

/* -- correlations -- */

static double mean(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

double ranking_pearson(const double *x, const double *y, int64_t n)
{
    double mx = mean(x, n), my = mean(y, n), xx = 0, yy = 0, xy = 0;
    for (int64_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return n > 1 && xx > 0 && yy > 0 ? xy / sqrt(xx) / sqrt(yy) : NAN;
}

struct placed {
    double x;
    int64_t at;
};

static int by_value(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    return (x->x > y->x) - (x->x < y->x);
}

static void ranks_of(const double *x, int64_t n, struct placed *sorted, double *ranks)
{
    for (int64_t i = 0; i < n; i++)
        sorted[i] = (struct placed){x[i], i};
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && sorted[end].x == sorted[i].x;)
            end++;
        for (int64_t k = i; k < end; k++)
            ranks[sorted[k].at] = (double)(i + end - 1) / 2;
    }
}

static bool all_finite(const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

int ranking_spearman(const double *x, const double *y, int64_t n, double *out, struct err *e)
{
    mem_autofree struct placed *sorted = mem_array((size_t)n + 1, sizeof *sorted);
    mem_autofree double *ranks = mem_array(2 * (size_t)n + 1, sizeof *ranks);
    if (!sorted || !ranks)
        return err_set(e, ERR_MEMORY, "no memory to rank %lld pairs", (long long)n);
    ranks_of(x, n, sorted, ranks);
    ranks_of(y, n, sorted, ranks + n);
    *out = all_finite(x, n) && all_finite(y, n) ? ranking_pearson(ranks, ranks + n, n) : NAN;
    return 0;
}
