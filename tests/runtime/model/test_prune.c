/*
 * Goal: the weights that count least become zero, as many as were asked for in each group. Method:
 * random matrices with equal weights among them against a sort, by magnitude and by what comes in;
 * what is zero already; rows that cannot be cut.
 */
#include "runtime/model/prune.h"

#include "base/mem.h"
#include "base/random.h"
#include "tests/unit.h"

#include <math.h>

struct scored {
    double score;
    int64_t at;
};

static int compare(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

static void prune_by_sort(float *w, const float *mean, int64_t n, int64_t zeros)
{
    mem_autofree struct scored *s = mem_array((size_t)n, sizeof *s);
    for (int64_t i = 0; i < n; i++)
        s[i] = (struct scored){(double)(fabsf(w[i]) * (mean ? sqrtf(mean[i]) : 1)), i};
    qsort(s, (size_t)n, sizeof *s, compare);
    for (int64_t i = 0; i < zeros; i++)
        w[s[i].at] = 0;
}

/* Of few values, so that many are equal. */
static float draw(uint64_t i)
{
    return (float)((int)(random_mix(i) >> 40 & 63) - 32) * (i % 3 ? 1 : 1e-30f);
}

static void check(
    int64_t rows, int64_t columns, enum sparsity_pattern p, double share, bool weighed)
{
    int64_t group = p == SPARSITY_2_4 ? 4 : columns, n = rows * columns;
    int64_t zeros = llround(share * (double)group);
    mem_autofree float *w = mem_array((size_t)n, sizeof *w);
    mem_autofree float *want = mem_array((size_t)n, sizeof *want);
    mem_autofree float *mean = mem_array((size_t)columns, sizeof *mean);
    for (int64_t i = 0; i < n; i++)
        want[i] = w[i] = draw((uint64_t)(i + n));
    for (int64_t i = 0; i < columns; i++)
        mean[i] = fabsf(draw((uint64_t)i));
    for (int64_t i = 0; i < n; i += group)
        prune_by_sort(want + i, weighed ? mean + i % columns : NULL, group, zeros);
    prune_rows(w, rows, columns, p, share, weighed ? mean : NULL);
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(w[i] == want[i], "(%lld, %lld), element %lld: %g, not %g", (long long)rows,
            (long long)columns, (long long)i, (double)w[i], (double)want[i]);
}

START_TEST(the_least_go)
{
    for (int weighed = 0; weighed < 2; weighed++) {
        check(7, 100, SPARSITY_UNSTRUCTURED, 0.3, weighed);
        check(3, 1001, SPARSITY_UNSTRUCTURED, 0.999, weighed);
        check(5, 4, SPARSITY_UNSTRUCTURED, 0.5, weighed);
        check(2, 1, SPARSITY_UNSTRUCTURED, 0.2, weighed);
        check(9, 64, SPARSITY_2_4, 0.5, weighed);
        check(9, 64, SPARSITY_2_4, 0.2, weighed);
        check(9, 64, SPARSITY_2_4, 0, weighed);
    }
}
END_TEST

/* So that shares can grow. */
START_TEST(zeros_stay_when_more_are_made)
{
    enum { N = 256 };
    float once[N], twice[N];
    for (int i = 0; i < N; i++)
        once[i] = twice[i] = draw((uint64_t)i);
    prune_rows(twice, 4, N / 4, SPARSITY_UNSTRUCTURED, 0.3, NULL);
    ck_assert_int_ge(prune_zeros(twice, N), 4 * 19);
    prune_rows(twice, 4, N / 4, SPARSITY_UNSTRUCTURED, 0.75, NULL);
    prune_rows(once, 4, N / 4, SPARSITY_UNSTRUCTURED, 0.75, NULL);
    ck_assert_mem_eq(once, twice, sizeof once);
    ck_assert_int_eq(prune_zeros(once, N), N * 3 / 4);
}
END_TEST

START_TEST(rows_that_are_no_fours_are_refused)
{
    struct tensor t[2] = {{.name = "model.norm.weight", .role = TENSOR_NORM_FINAL, .shape = {6, 1}},
        {.name = "model.layers.0.mlp.up_proj.weight", .role = TENSOR_UP, .shape = {6, 6}}};
    struct tensors all = {.at = t, .count = 2};
    struct err e = {.text = ""};
    ck_assert_int_eq(prune_check(&all, SPARSITY_UNSTRUCTURED, "spec.x", &e), 0);
    ck_assert_int_eq(prune_check(&all, SPARSITY_2_4, "spec.x", &e), -ERR_USER);
    ck_assert_str_eq(e.text,
        "spec.x: 2:4 needs rows of whole fours, and model.layers.0.mlp.up_proj.weight has 6");
    t[0].role = TENSOR_ROUTER;
    ck_assert_int_eq(prune_check(&all, SPARSITY_NONE, "spec.x", &e), 0);
    ck_assert_int_eq(prune_check(&all, SPARSITY_UNSTRUCTURED, "spec.x", &e), -ERR_USER);
    ck_assert_str_eq(e.text, "spec.x: a mixture of experts is not pruned");
}
END_TEST

UNIT_MAIN("prune", the_least_go, zeros_stay_when_more_are_made, rows_that_are_no_fours_are_refused)
