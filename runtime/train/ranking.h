/*
 * ranking: how well texts are matched by what they score. Of a query among candidates, some of
 * which are relevant, as sentence-transformers' InformationRetrievalEvaluator has it: recall@k, the
 * share of the relevant ones among the first k; MRR@10, one over the place of the first relevant
 * one, 0 where that is beyond; NDCG@10 with gains of 1 (Jarvelin and Kekalainen 2002). Of equal
 * scores what is not relevant comes first, so that a model that tells nothing apart gets nothing.
 * Of scores against labels Pearson's and Spearman's correlations, as scipy has them. Pure.
 */
#ifndef RUNTIME_TRAIN_RANKING_H
#define RUNTIME_TRAIN_RANKING_H

#include "base/err.h"

#include <stdint.h>

enum ranking_figure {
    RANKING_RECALL_1,
    RANKING_RECALL_5,
    RANKING_RECALL_10,
    RANKING_MRR,
    RANKING_NDCG,
    RANKING_FIGURES
};
extern const char *const ranking_names[RANKING_FIGURES]; /* "recall@1" */

/* scores (m); relevant (n): which of them are, each once, 1 to m; reordered. */
void ranking_of(
    const float *scores, int64_t m, int32_t *relevant, int64_t n, float figures[RANKING_FIGURES]);

/* NaN: fewer than two, one of both is constant, or one is no number. */
double ranking_pearson(const double *x, const double *y, int64_t n);
/* Of the ranks, ties sharing the mean of theirs. ERR_MEMORY. */
int ranking_spearman(const double *x, const double *y, int64_t n, double *out, struct err *e);

#endif
