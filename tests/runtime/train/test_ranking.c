/*
 * Goal: rankings are told as sentence-transformers' InformationRetrievalEvaluator and scikit-learn
 * tell them, correlations as scipy does; a model that tells nothing apart gets nothing. Method:
 * random scores with their figures (tests/golden/ranking.json); ties, no numbers and constants by
 * hand.
 * needs: faults
 */
#include "runtime/train/ranking.h"

#include "base/mem.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define MOST 128

static struct err e;

static int64_t numbers(const struct json *list, double out[MOST])
{
    int64_t n = 0;
    ck_assert_uint_le(json_count(list), MOST);
    json_each (v, list)
        out[n++] = json_number_value(v);
    return n;
}

START_TEST(rankings_are_sentence_transformers)
{
    json_auto struct json *root = golden_json(GOLDEN "ranking.json");
    double values[MOST];
    int compared = 0;
    json_each (c, json_get(root, "rankings")) {
        float scores[MOST], figures[RANKING_FIGURES];
        int32_t relevant[MOST];
        int64_t m = numbers(json_get(c, "scores"), values);
        for (int64_t i = 0; i < m; i++)
            scores[i] = (float)values[i];
        int64_t n = numbers(json_get(c, "relevant"), values);
        for (int64_t i = 0; i < n; i++)
            relevant[n - 1 - i] = (int32_t)values[i];
        ranking_of(scores, m, relevant, n, figures);
        ck_assert_int_eq(numbers(json_get(c, "figures"), values), RANKING_FIGURES);
        for (int i = 0; i < RANKING_FIGURES; i++)
            ck_assert_msg(fabs((double)figures[i] - values[i]) < 1e-6, "%d: %s is %.9g, not %.9g",
                compared, ranking_names[i], (double)figures[i], values[i]);
        compared++;
    }
    ck_assert_int_gt(compared, 30);
}
END_TEST

static void check_one(const float *scores, int64_t m, int32_t relevant, double mrr)
{
    float figures[RANKING_FIGURES];
    ranking_of(scores, m, &relevant, 1, figures);
    ck_assert_double_eq_tol((double)figures[RANKING_MRR], mrr, 1e-7);
    ck_assert((figures[RANKING_RECALL_1] > 0) == (mrr > 0.9));
}

START_TEST(a_tie_is_lost)
{
    check_one((const float[]){1, 1, 1, 0}, 4, 0, 1.0 / 3);
    check_one((const float[]){1, 1, 1, 0}, 4, 3, 1.0 / 4);
    check_one((const float[]){2, 1, 1, 0}, 4, 0, 1);
    check_one((const float[]){NAN, NAN}, 2, 0, 0.5);
    float same[20], figures[RANKING_FIGURES];
    for (int i = 0; i < 20; i++)
        same[i] = NAN;
    int32_t three[] = {3, 9, 4};
    ranking_of(same, 20, three, 3, figures);
    for (int i = 0; i < RANKING_FIGURES; i++)
        ck_assert(figures[i] == 0);
    /* Relevant ones that tie stand behind one another. */
    float pair[] = {1, 1, 0};
    int32_t both[] = {1, 0};
    ranking_of(pair, 3, both, 2, figures);
    ck_assert(figures[RANKING_RECALL_1] == 0.5f && figures[RANKING_RECALL_5] == 1);
    ck_assert(figures[RANKING_NDCG] == 1);
}
END_TEST

START_TEST(correlations_are_scipys)
{
    json_auto struct json *root = golden_json(GOLDEN "ranking.json");
    int compared = 0;
    json_each (c, json_get(root, "correlations")) {
        double x[MOST], y[MOST], spearman;
        int64_t n = numbers(json_get(c, "x"), x);
        ck_assert_int_eq(numbers(json_get(c, "y"), y), n);
        ck_assert(!ranking_spearman(x, y, n, &spearman, &e));
        ck_assert_double_eq_tol(spearman, json_num(c, "spearman", 9), 1e-12);
        ck_assert_double_eq_tol(ranking_pearson(x, y, n), json_num(c, "pearson", 9), 1e-12);
        compared++;
    }
    ck_assert_int_gt(compared, 15);
}
END_TEST

START_TEST(what_says_nothing_has_no_correlation)
{
    const double same[] = {2, 2, 2}, up[] = {1, 2, 3}, none[] = {1, NAN, 3};
    double spearman;
    ck_assert(isnan(ranking_pearson(same, up, 3)) && isnan(ranking_pearson(up, none, 3)));
    ck_assert(isnan(ranking_pearson(up, up, 1)) && isnan(ranking_pearson(up, up, 0)));
    ck_assert(!ranking_spearman(up, same, 3, &spearman, &e) && isnan(spearman));
    ck_assert(!ranking_spearman(up, none, 3, &spearman, &e) && isnan(spearman));
    ck_assert(!ranking_spearman(up, up, 0, &spearman, &e) && isnan(spearman));
}
END_TEST

static int spearman_once(void *user)
{
    const double up[] = {1, 2, 3};
    return ranking_spearman(up, up, 3, user, &e);
}

START_TEST(failed_calls_are_reported)
{
    double spearman;
    fault_each(FAULT_MEM, spearman_once, &spearman);
}
END_TEST

UNIT_MAIN("ranking", rankings_are_sentence_transformers, a_tie_is_lost, correlations_are_scipys,
    what_says_nothing_has_no_correlation, failed_calls_are_reported)
