/*
 * Goal: reduce-scatter leaves in each rank's slice, to the bit, what the all-reduce of the same
 * memory leaves there, and all-gather gives every rank every slice: of any cut of any size, over
 * every grouping of ranks into pods and over groups of a world; both end with the right error when
 * a peer dies, is silent or aborts. Method: worlds of real processes (ranks.h); host memory of
 * every kind, and the processor's. Under ThreadSanitizer a sample of the cuts.
 * needs: sample threads
 */
#include "runtime/coll/coll.h"

#include "base/mem.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/sample.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define MOST 700001 /* more than what is staged at once, and no multiple of anything */

static const int64_t sizes[] = {0, 1, 5, 63, 1000, 70001, MOST};

/* The cut of n elements into as many slices as there are members: even; whole pages, as the state
 * of a training is cut; one slice that has all; growing, some of them empty. */
enum cut { EVEN, PAGES, ONE, GROWING, CUTS };

static void cut_range(enum cut how, int64_t n, int members, int64_t *counts)
{
    int64_t blocks = (n + 1023) / 1024, at = 0;
    for (int i = 0; i < members; i++) {
        int64_t end = how == EVEN ? n * (i + 1) / members
            : how == PAGES        ? blocks * (i + 1) / members * 1024
            : how == ONE          ? (i < members / 2 ? 0 : n)
                                  : n * i * i / (members * members);
        if (i == members - 1 || end > n)
            end = n;
        counts[i] = end - at;
        at = end;
    }
}

struct memory { /* of one kind, twice */
    float *x, *whole;
};

/* What all-reduce makes of the same memory is what is expected. */
static int check_reduce_scatter(struct coll *c, const struct layout_group *g, struct memory m,
    int64_t n, const int64_t *counts, enum dtype t)
{
    struct err e;
    size_t element = t == DTYPE_F32 ? 4 : 2;
    int rank = g->first + g->index * g->stride;
    for (int64_t i = 0; t != DTYPE_F32 && i < n; i++)
        ((uint16_t *)m.x)[i] = f32_to_half(t, ranks_value(rank, i));
    if (t == DTYPE_F32)
        ranks_fill(m.x, rank, 0, n);
    memcpy(m.whole, m.x, (size_t)n * element);
    enum coll_reduce op = n % 2 ? COLL_SUM : COLL_MAX;
    if (coll_reduce_start(c, m.whole, n, t, op, &e) ||
        coll_reduce_scatter_start(c, m.x, counts, t, op, &e))
        return 1;
    coll_reduce_join(c);
    if (coll_reduce_wait(c, &e))
        return 2;
    int64_t at = 0;
    for (int i = 0; i < g->index; i++)
        at += counts[i];
    return memcmp((char *)m.x + (size_t)at * element, (char *)m.whole + (size_t)at * element,
               (size_t)counts[g->index] * element)
        ? 3
        : 0;
}

static int check_all_gather(
    struct coll *c, const struct layout_group *g, struct memory m, int64_t n, const int64_t *counts)
{
    struct err e;
    memset(m.x, 0x55, (size_t)n * sizeof *m.x);
    int64_t at = 0;
    for (int k = 0; k < g->size; k++) {
        ranks_fill(m.whole + at, g->first + k * g->stride, at, counts[k]);
        if (k == g->index)
            memcpy(m.x + at, m.whole + at, (size_t)counts[k] * sizeof *m.x);
        at += counts[k];
    }
    if (coll_all_gather_start(c, m.x, counts, DTYPE_F32, &e))
        return 5;
    coll_reduce_join(c);
    if (coll_reduce_wait(c, &e))
        return 6;
    return memcmp(m.x, m.whole, (size_t)n * sizeof *m.x) ? 7 : 0;
}

static int check_memory(struct coll *c, const struct layout_group *g, struct memory m)
{
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int how = 0; how < CUTS; how++) {
            int64_t counts[RANKS_MAX];
            if ((sizes[k] == MOST && how % 2 != g->size % 2) ||
                !sample_takes_traced(k * CUTS + (size_t)how))
                continue;
            cut_range((enum cut)how, sizes[k], g->size, counts);
            int wrong = check_reduce_scatter(c, g, m, sizes[k], counts, DTYPE_F32);
            if (!wrong && sizes[k] < MOST)
                wrong = check_reduce_scatter(
                    c, g, m, sizes[k], counts, how % 2 ? DTYPE_F16 : DTYPE_BF16);
            if (!wrong)
                wrong = check_all_gather(c, g, m, sizes[k], counts);
            if (!wrong)
                continue;
            fprintf(stderr, "rank %d: %lld elements, cut %d: %d\n", g->first + g->index * g->stride,
                (long long)sizes[k], how, wrong);
            return wrong;
        }
    return 0;
}

static int check_members(struct coll *c, const struct layout_group *g)
{
    struct err e;
    void *shared[2];
    for (int i = 0; i < 2; i++)
        if (coll_alloc(c, (MOST + 16) * sizeof(float), &shared[i], &e))
            return 10;
    mem_autofree float *plain = mem_array(MOST, sizeof *plain);
    mem_autofree float *other = mem_array(MOST, sizeof *other);
    if (!plain || !other)
        return 11;
    int wrong = check_memory(c, g, (struct memory){plain, other});
    if (!wrong) /* inside a region, off its 64-byte lines */
        wrong = check_memory(c, g, (struct memory){(float *)shared[0] + 3, (float *)shared[1] + 3});
    return wrong ? 20 + wrong : 0;
}

static int slices_body(struct coll *c, int rank, const struct ranks *w)
{
    const struct layout_group all = {0, 1, w->size, rank};
    return check_members(c, &all);
}

/* The same on a thread of its own, where there is one. */
static int beside_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e;
    return coll_overlap(c, &e) ? 99 : slices_body(c, rank, w);
}

static const struct ranks groupings[] = {
    {.size = 1, .replica = {0}},
    {.size = 2, .replica = {0, 0}},
    {.size = 2, .replica = {0, 1}},
    {.size = 3, .replica = {0, 1, 2}},
    {.size = 3, .replica = {0, 0, 1}},
    {.size = 4, .replica = {0, 0, 0, 0}},
    {.size = 4, .replica = {0, 1, 2, 3}},
    {.size = 5, .replica = {0, 0, 3, 4, 4}},
};

START_TEST(test_slices)
{
    ranks_run(groupings[_i / 2], _i % 2 ? beside_body : slices_body);
}
END_TEST

/* Groups whose members are not neighbours, of ranks of two pods. */
static int groups_body(struct coll *c, int rank, const struct ranks *w)
{
    static const struct layout layout = {.dp = 3, .tp = 2, .pp = 1, .cp = 1, .ep = 1};
    struct coll *group;
    struct err e;
    (void)w;
    struct layout_group g = layout_group(&layout, rank, LAYOUT_DATA);
    return coll_group(c, &g, &group, &e) ? 1 : check_members(group, &g);
}

START_TEST(test_slices_of_groups)
{
    ranks_run((struct ranks){.size = 6, .replica = {0, 0, 0, 1, 2, 2}}, groups_body);
}
END_TEST

/* -- failures -- */

static int reduce_scatter(struct coll *c, struct err *e)
{
    static float x[1000];
    const int64_t counts[] = {0, 1000};
    return coll_reduce_scatter_start(c, x, counts, DTYPE_F32, COLL_SUM, e);
}

static int all_gather(struct coll *c, struct err *e)
{
    static float x[1000];
    const int64_t counts[] = {0, 1000};
    return coll_all_gather_start(c, x, counts, DTYPE_F32, e);
}

static const struct ranks_operation operations[] = {
    {.run = reduce_scatter, .operation = WIRE_REDUCE_SCATTER},
    {.run = all_gather, .operation = WIRE_ALLGATHER},
};

START_TEST(test_failures)
{
    ranks_run_failing(&operations[_i / RANKS_FAILURES], _i % RANKS_FAILURES, NULL, false);
}
END_TEST

int main(void)
{
    sample_print();
    Suite *s = suite_create("slices");
    TCase *t = tcase_create("slices");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_slices, 0, 2 * (int)(sizeof groupings / sizeof *groupings));
    tcase_add_test(t, test_slices_of_groups);
    tcase_add_loop_test(t, test_failures, 0, 2 * RANKS_FAILURES);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
