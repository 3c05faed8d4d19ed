/*
 * Goal: collectives give the right sums, bitwise the same on every rank, over every grouping of
 * ranks into pods and over groups of a world, end with the right error when a peer dies, is silent
 * or aborts, and tell the heartbeat page. Method: worlds of real processes (ranks.h).
 * needs: threads
 */
#include "runtime/coll/coll.h"

#include "base/clock.h"
#include "base/mem.h"
#include "tests/runtime/coll/ranks.h"

#include <check.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int sums_body(struct coll *c, int rank, const struct ranks *w)
{
    static const int64_t sizes[] = {0, 1, 5, 63, 1000, 262144, 700001};
    struct err e;
    void *shared = NULL;
    if (coll_alloc(c, 700001 * sizeof(float) + 256, &shared, &e))
        return 10;
    mem_autofree float *plain = mem_array(700001, sizeof *plain);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int r = ranks_check(c, rank, w, plain, sizes[k]);
        if (!r)
            r = ranks_check(c, rank, w, shared, sizes[k]);
        if (!r) /* inside a region, off its 64-byte lines */
            r = ranks_check(c, rank, w, (float *)shared + 3, sizes[k]);
        if (r)
            return 20 + r;
    }
    int32_t big[777];
    for (int i = 0; i < 777; i++)
        big[i] = (rank * 31 + i) % 1000;
    if (coll_allreduce(c, big, 777, DTYPE_I32, COLL_MAX, &e))
        return 30;
    for (int i = 0; i < 777; i++) {
        int32_t want = 0;
        for (int r = 0; r < w->size; r++)
            want = want > (r * 31 + i) % 1000 ? want : (r * 31 + i) % 1000;
        if (big[i] != want)
            return 31;
    }
    static const enum dtype of_16_bits[] = {DTYPE_BF16, DTYPE_F16};
    for (int k = 0; k < 2; k++) {
        enum dtype t = of_16_bits[k];
        uint16_t half[333];
        for (int i = 0; i < 333; i++)
            half[i] = f32_to_half(t, (float)(i % 7 + rank)); /* small integers: exact in both */
        if (coll_allreduce(c, half, 333, t, COLL_SUM, &e))
            return 40;
        for (int i = 0; i < 333; i++)
            if (half_to_f32(t, half[i]) != (float)(w->size * (i % 7) + w->size * (w->size - 1) / 2))
                return 41;
    }
    return 0;
}

static const struct ranks groupings[] = {
    {.size = 1, .replica = {0}},
    {.size = 2, .replica = {0, 0}},
    {.size = 2, .replica = {0, 1}},
    {.size = 3, .replica = {0, 1, 2}},
    {.size = 3, .replica = {0, 0, 1}},
    {.size = 4, .replica = {0, 0, 0, 0}},
    {.size = 4, .replica = {0, 0, 3, 3}}, /* replica numbers may have gaps */
    {.size = 4, .replica = {0, 1, 2, 3}},
    {.size = 6, .replica = {0, 1, 1, 2, 2, 2}},
};

START_TEST(test_coll_sums)
{
    ranks_run(groupings[_i], sums_body);
}
END_TEST

START_TEST(test_coll_others)
{
    ranks_run(groupings[_i], ranks_others_body);
}
END_TEST

/* -- groups -- */

static int group_of(struct coll *c, const struct layout *l, int rank, enum layout_axis axis,
    struct layout_group *g, struct coll **out)
{
    struct err e = {0};
    *g = layout_group(l, rank, axis);
    if (!coll_group(c, g, out, &e))
        return 0;
    fprintf(stderr, "rank %d, axis %d: %s\n", rank, (int)axis, e.text);
    return 1;
}

/* Sums, and what every member says, among the members alone. */
static int check_group(struct coll *c, const struct layout_group *g, int rank)
{
    static float x[5000];
    struct err e;
    ranks_fill(x, rank, 0, 5000);
    if (coll_allreduce(c, x, 5000, DTYPE_F32, COLL_SUM, &e))
        return 1;
    if (!ranks_are_sums(x, g->first, g->stride, g->size, 5000))
        return 2;
    int32_t all[RANKS_MAX], word = rank;
    if (coll_allgather(c, &rank, sizeof rank, all, &e))
        return 3;
    for (int k = 0; k < g->size; k++)
        if (all[k] != g->first + k * g->stride)
            return 4;
    if (coll_broadcast(c, &word, sizeof word, g->size - 1, &e))
        return 5;
    return word == g->first + (g->size - 1) * g->stride ? 0 : 6;
}

static const struct layout layouts[] = {
    /* of six ranks */
    {.dp = 6, .tp = 1, .pp = 1, .cp = 1, .ep = 1},
    {.dp = 3, .tp = 2, .pp = 1, .cp = 1, .ep = 1},
    {.dp = 2, .tp = 3, .pp = 1, .cp = 1, .ep = 1},
    {.dp = 1, .tp = 1, .pp = 2, .cp = 3, .ep = 1},
    {.dp = 1, .tp = 2, .pp = 1, .cp = 1, .ep = 3},
};
static const struct layout *layout; /* of the world that runs */

/* All axes' groups exist beside each other and beside their world. */
static int groups_body(struct coll *c, int rank, const struct ranks *w)
{
    struct coll *group[LAYOUT_AXES];
    struct layout_group g[LAYOUT_AXES];
    for (int axis = 0; axis < LAYOUT_AXES; axis++)
        if (group_of(c, layout, rank, (enum layout_axis)axis, &g[axis], &group[axis]))
            return 1;
    for (int axis = 0; axis < LAYOUT_AXES; axis++) {
        if ((group[axis] == c) != (g[axis].size == w->size))
            return 2;
        int wrong = check_group(group[axis], &g[axis], rank);
        if (wrong)
            return 10 + 10 * axis + wrong;
    }
    static float x[1000];
    return ranks_check(c, rank, w, x, 1000);
}

START_TEST(test_coll_groups)
{
    static const struct ranks pods[] = {
        {.size = 6, .replica = {0, 0, 0, 0, 0, 0}},
        {.size = 6, .replica = {0, 1, 2, 3, 4, 5}},
        {.size = 6, .replica = {0, 1, 1, 2, 2, 2}},
    };
    layout = &layouts[_i / 3];
    ranks_run(pods[_i % 3], groups_body);
}
END_TEST

/* Around a ring of a group beside, on another thread. */
struct ring {
    struct coll *c;
    struct layout_group g;
    int wrong;
};

static void *go_round(void *user)
{
    struct ring *r = user;
    struct err e;
    for (int i = 0; i < 40 && !r->wrong; i++) {
        int32_t mine = 100 * i + r->g.index, is = -1;
        const int before = (r->g.index + r->g.size - 1) % r->g.size;
        const struct coll_message m[] = {{&mine, sizeof mine, (r->g.index + 1) % r->g.size, false},
            {&is, sizeof is, before, true}};
        r->wrong = coll_exchange_start(r->c, m, 2, &e) || is != 100 * i + before;
    }
    return NULL;
}

/* Two members and four, while all are in the world's collectives. */
static int beside_body(struct coll *c, int rank, const struct ranks *w)
{
    static float x[1000];
    struct ring r = {.g = rank < 2 ? (struct layout_group){0, 1, 2, rank}
                                   : (struct layout_group){2, 1, 4, rank - 2}};
    struct err e;
    pthread_t thread;
    if (coll_group_beside(c, &r.g, &r.c, &e) || r.c == c || coll_connect(r.c, &e) ||
        pthread_create(&thread, NULL, go_round, &r))
        return 1;
    uint64_t counted = atomic_load(&ranks_page.collective);
    int wrong = 0;
    for (int i = 0; i < 40 && !wrong; i++)
        wrong = ranks_check(c, rank, w, x, 1000);
    pthread_join(thread, NULL);
    return r.wrong ? 2 : wrong ? wrong : atomic_load(&ranks_page.collective) <= counted;
}

START_TEST(test_coll_group_beside)
{
    static const struct ranks pods[] = {
        {.size = 6, .replica = {0, 1, 2, 3, 4, 5}}, {.size = 6, .replica = {0, 1, 2, 2, 3, 3}}};
    ranks_run(pods[_i], beside_body);
}
END_TEST

/* The last rank leaves. Those who share a group with it, of size two here, are told its number in
 * the world, also by the page; the others' groups go on. */
static int group_death_body(struct coll *c, int rank, const struct ranks *w)
{
    struct coll *pair;
    struct layout_group g;
    struct err e = {0};
    float x[10] = {0};
    if (group_of(c, layout, rank, LAYOUT_DATA, &g, &pair))
        return 1;
    if (rank == w->size - 1)
        _exit(0);
    int rc = coll_allreduce(pair, x, 10, DTYPE_F32, COLL_SUM, &e);
    if (g.first + g.stride != w->size - 1)
        return rc ? 2 : 0;
    if (rc != -ERR_PEER || !strstr(e.text, "rank 5 closed its connection"))
        return 3;
    return atomic_load(&ranks_page.in_collective) ? 0 : 4;
}

START_TEST(test_coll_group_death)
{
    layout = &layouts[2];
    ranks_run((struct ranks){.size = 6, .replica = {0, 1, 2, 3, 4, 5}}, group_death_body);
}
END_TEST

/* The last rank leaves without a word; every other must fail with ERR_PEER (or be told by its
 * leader's end). */
static int death_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    if (coll_barrier(c, &e))
        return 1;
    if (rank == w->size - 1)
        _exit(0);
    float x[1000] = {0};
    int64_t begin_ms = clock_ms();
    int r = coll_allreduce(c, x, 1000, DTYPE_F32, COLL_SUM, &e);
    if (r != -ERR_PEER)
        return 2;
    return clock_ms() - begin_ms < 15000 ? 0 : 3; /* not by the deadline */
}

START_TEST(test_coll_death)
{
    ck_assert_int_gt(groupings[_i].size, 1);
    ranks_run(groupings[_i], death_body);
}
END_TEST

/* Rank 1 passes the last phase of a reduction that has two and ends while rank 0, which has looked
 * at that phase before, has not yet looked at the connection: rank 0 passes, too. Both are held
 * where they come to their first poll: rank 1 in the first phase, until rank 0 is in the last. */
static const struct ranks *_Atomic held; /* in its next poll */
static int held_rank, polls[2][2];

int poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
    const struct ranks *w = atomic_exchange(&held, NULL);
    char c = 0;
    if (w &&
        (write(polls[held_rank][1], &c, 1) != 1 || (held_rank && read(polls[0][0], &c, 1) != 1)))
        _exit(98);
    if (w && !held_rank)
        ranks_stay_silent(w);
    struct timespec t = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    return ppoll(p, n, timeout_ms < 0 ? NULL : &t, NULL);
}

#define END_COUNT 100000 /* elements of the pod's mapping */

static int end_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e;
    char said;
    void *x = NULL;
    if (coll_alloc(c, 4 * END_COUNT, &x, &e) || (!rank && read(polls[1][0], &said, 1) != 1))
        return 1;
    held_rank = rank;
    held = w;
    return coll_allreduce(c, x, END_COUNT, DTYPE_F32, COLL_SUM, &e) ? 2 : held ? 3 : 0;
}

START_TEST(test_coll_end)
{
    ck_assert(!pipe(polls[0]) && !pipe(polls[1]));
    ranks_run((struct ranks){.size = 2}, end_body);
}
END_TEST

/* -- what ends each kind of collective, beside those of slices and messages -- */

static float some[3000];

static int reduce_some(struct coll *c, struct err *e)
{
    return coll_allreduce(c, some, 3000, DTYPE_F32, COLL_SUM, e);
}

static int gather_some(struct coll *c, struct err *e)
{
    char mine[100] = {0}, all[200];
    return coll_allgather(c, mine, sizeof mine, all, e);
}

static int broadcast_some(struct coll *c, struct err *e)
{
    return coll_broadcast(c, some, sizeof some, 0, e);
}

/* What is started on a thread of its own is waited for; in one pod there is none. */
static int reduce_beside(struct coll *c, struct err *e)
{
    int rc = coll_reduce_start(c, some, 3000, DTYPE_F32, COLL_SUM, e);
    coll_reduce_join(c);
    return rc ? rc : coll_reduce_wait(c, e);
}

static int scatter_beside(struct coll *c, struct err *e)
{
    const int64_t counts[] = {1000, 2000};
    int rc = coll_reduce_scatter_start(c, some, counts, DTYPE_F32, COLL_SUM, e);
    return rc ? rc : coll_reduce_wait(c, e);
}

static const struct ranks_operation operations[] = {
    {NULL, reduce_some, WIRE_ALLREDUCE},
    {NULL, gather_some, WIRE_ALLGATHER},
    {NULL, broadcast_some, WIRE_BROADCAST},
    {NULL, coll_barrier, WIRE_BARRIER},
    {coll_overlap, reduce_beside, WIRE_ALLREDUCE},
    {coll_overlap, scatter_beside, WIRE_REDUCE_SCATTER},
};
#define OPERATIONS (int)(sizeof operations / sizeof *operations)

/* Death and silence, in one pod and in two. */
START_TEST(test_coll_failing)
{
    static const int which[] = {0, 4, 5}; /* the others are reductions, too */
    ranks_run_failing(&operations[which[_i / 4]], _i % 4, NULL, false);
}
END_TEST

START_TEST(test_coll_abort)
{
    ranks_run_failing(&operations[_i / 2], RANKS_FAILURES - 2 + _i % 2, NULL, false);
}
END_TEST

/* -- reductions beside the caller -- */

#define MANY 200 /* more than are under way at once */
#define EACH 1000

/* Behind a long one that nobody waits for. */
static int many_body(struct coll *c, int rank, const struct ranks *w)
{
    static float first[700001], x[MANY * EACH];
    struct err e;
    ranks_fill(first, rank, 0, 700001);
    ranks_fill(x, rank, 0, MANY * EACH);
    if (coll_overlap(c, &e) || coll_overlaps(c) != (w->replica[w->size - 1] > 0) ||
        coll_reduce_start(c, first, 700001, DTYPE_F32, COLL_SUM, &e))
        return 1;
    for (int i = 0; i < MANY; i++)
        if (coll_reduce_start(c, x + i * EACH, EACH, DTYPE_F32, COLL_SUM, &e))
            return 2;
    if (w->size % 2 && coll_barrier(c, &e)) /* waits for them as join does */
        return 3;
    coll_reduce_join(c);
    if (!ranks_are_sums(first, 0, 1, w->size, 700001) ||
        !ranks_are_sums(x, 0, 1, w->size, MANY * EACH))
        return 4;
    return coll_reduce_wait(c, &e) ? 5 : ranks_same(c, x, sizeof x, w) ? 0 : 6;
}

START_TEST(test_coll_beside)
{
    ranks_run(groupings[_i], many_body);
}
END_TEST

/* It is destroyed while what was started still waits for others. */
static int left_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e;
    if (coll_overlap(c, &e) || (!rank && coll_reduce_start(c, some, 10, DTYPE_F32, COLL_SUM, &e)))
        return 1;
    if (rank)
        ranks_stay_silent(w);
    return 0;
}

START_TEST(test_coll_left)
{
    ranks_run((struct ranks){.size = 2, .replica = {0, 1}}, left_body);
}
END_TEST

/* Rank 0 waits for rank 1 in a group; aborting the world frees it. */
static int group_abort_body(struct coll *c, int rank, const struct ranks *w)
{
    struct coll *pair;
    struct layout_group g;
    struct err e = {0};
    float x[10] = {0};
    pthread_t t;
    if (group_of(c, layout, rank, LAYOUT_TENSOR, &g, &pair) || pair == c)
        return 1;
    if (rank) {
        ranks_stay_silent(w);
        return 0;
    }
    atomic_store(&ranks_page.in_collective, 0);
    if (pthread_create(&t, NULL, ranks_abort_soon, c))
        return 2;
    int64_t begin_ms = clock_ms();
    int rc = coll_allreduce(pair, x, 10, DTYPE_F32, COLL_SUM, &e);
    pthread_join(t, NULL);
    return rc == -ERR_DRAINED && clock_ms() - begin_ms < 10000 ? 0 : 3;
}

START_TEST(test_coll_group_abort)
{
    layout = &(struct layout){.dp = 2, .tp = 2, .pp = 1, .cp = 1, .ep = 1};
    ranks_run((struct ranks){.size = 4, .replica = {0, 0, 1, 1}}, group_abort_body);
}
END_TEST

/* The heartbeat page counts and names collectives. */
START_TEST(test_coll_page)
{
    struct ranks w = {.size = 1, .replica = {0}};
    ranks_open(&w);
    struct coll *c = NULL;
    struct err e = {0};
    ck_assert_int_eq(ranks_create(&w, 0, "5ec7e7", &c, &e), 0);
    float x = 1;
    ck_assert_int_eq(coll_allreduce(c, &x, 1, DTYPE_F32, COLL_SUM, &e), 0);
    ck_assert_uint_eq(atomic_load(&ranks_page.collective), 1);
    ck_assert_uint_eq(atomic_load(&ranks_page.operation), WIRE_ALLREDUCE);
    ck_assert_uint_eq(atomic_load(&ranks_page.in_collective), 0);
    ck_assert_int_eq(coll_barrier(c, &e), 0);
    ck_assert_uint_eq(atomic_load(&ranks_page.collective), 2);
    ck_assert_uint_ge(atomic_load(&ranks_page.beats), 4);
    coll_destroy(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("coll");
    TCase *t = tcase_create("coll");
    int n = sizeof groupings / sizeof *groupings;
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_coll_sums, 0, n);
    tcase_add_loop_test(t, test_coll_others, 0, n);
    tcase_add_loop_test(t, test_coll_death, 1, n);
    tcase_add_loop_test(t, test_coll_groups, 0, 3 * (int)(sizeof layouts / sizeof *layouts));
    tcase_add_loop_test(t, test_coll_group_beside, 0, 2);
    tcase_add_test(t, test_coll_group_death);
    tcase_add_test(t, test_coll_group_abort);
    tcase_add_test(t, test_coll_end);
    tcase_add_loop_test(t, test_coll_failing, 0, 3 * 4);
    tcase_add_loop_test(t, test_coll_abort, 0, 2 * OPERATIONS);
    tcase_add_loop_test(t, test_coll_beside, 1, n);
    tcase_add_test(t, test_coll_left);
    tcase_add_test(t, test_coll_page);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
