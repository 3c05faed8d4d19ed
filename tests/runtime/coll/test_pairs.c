/*
 * Goal: messages between members arrive whole and in order, in both directions at once and around a
 * ring whatever their size, and an all-to-all moves what loops over its counts say, over every
 * grouping of ranks into pods and over groups of a world; they disturb no collective; they end with
 * the right error when a peer dies, is silent, aborts, or sends what is not awaited. Method: worlds
 * of real processes (ranks.h).
 * needs: threads
 */
#include "runtime/coll/coll.h"

#include "base/mem.h"
#include "tests/runtime/coll/ranks.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define LARGE ((size_t)5000001) /* more than what sockets hold */

#define PERIOD ((size_t)65536)

/* What member `from` has for member `to`, PERIOD bytes over and over; the seed: of a call. They are
 * copied and compared whole: ThreadSanitizer looks at each access of a loop. */
static const uint8_t *bytes_of(int from, int to, int seed)
{
    static uint8_t all[2 * PERIOD];
    for (size_t i = 0; !all[1] && i < sizeof all; i++)
        all[sizeof all - 1 - i] = (uint8_t)((sizeof all - 1 - i) * 31 + (sizeof all - 1 - i) / 256);
    return all + (size_t)(from * 7 + to * 13 + seed) % 256 * 256;
}

static size_t period_at(size_t at, size_t n)
{
    return n - at < PERIOD ? n - at : PERIOD;
}

static void fill(uint8_t *p, size_t n, int from, int to, int seed)
{
    for (size_t at = 0; at < n; at += PERIOD)
        memcpy(p + at, bytes_of(from, to, seed), period_at(at, n));
}

static bool holds(const uint8_t *p, size_t n, int from, int to, int seed)
{
    for (size_t at = 0; at < n; at += PERIOD)
        if (memcmp(p + at, bytes_of(from, to, seed), period_at(at, n)) != 0)
            return false;
    return true;
}

static int finish(struct coll *c, struct err *e)
{
    coll_reduce_join(c);
    return coll_reduce_wait(c, e);
}

struct room { /* of LARGE bytes a member, and one more */
    uint8_t *out, *in;
};

/* Everyone sends to the next and receives from the one before, and the other way round. */
static int check_shifts(struct coll *c, const struct layout_group *g, struct room r, size_t n)
{
    struct err e = {0};
    int me = g->index, next = (me + 1) % g->size, before = (me + g->size - 1) % g->size;
    uint8_t *back_out = r.out + LARGE, *back_in = r.in + LARGE;
    const struct coll_message m[] = {{r.out, n, next, false}, {back_in, n / 2, next, true},
        {r.in, n, before, true}, {back_out, n / 2, before, false}};
    if (g->size == 1)
        return 0;
    fill(r.out, n, me, next, 1);
    fill(back_out, n / 2, me, before, 2);
    if (coll_exchange_start(c, m, 4, &e) || finish(c, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    if (!holds(r.in, n, before, me, 1))
        return 2;
    return holds(back_in, n / 2, next, me, 2) ? 0 : 3;
}

/* Each pair by itself, the lower one first; more messages of some pairs than of others, which the
 * collectives afterwards do not notice. */
static int check_sends(struct coll *c, const struct layout_group *g, struct room r)
{
    static const size_t lengths[] = {0, 1, 3, 4097, LARGE};
    struct err e = {0};
    for (int from = 0; from < g->size; from++)
        for (int to = 0; to < g->size; to++)
            for (int k = 0; k < (from ? 5 : 3) && from != to; k++) {
                if (g->index != from && g->index != to)
                    continue;
                fill(r.out, lengths[k], from, to, k);
                int rc = g->index == from ? coll_send_start(c, r.out, lengths[k], to, &e)
                                          : coll_receive_start(c, r.in, lengths[k], from, &e);
                if (rc || finish(c, &e))
                    return 1;
                if (g->index == to && !holds(r.in, lengths[k], from, to, k))
                    return 2;
            }
    return coll_barrier(c, &e) ? 3 : 0;
}

/* Two messages to a member in one exchange keep their order. */
static int check_order(struct coll *c, const struct layout_group *g, struct room r)
{
    struct err e = {0};
    uint8_t *second = r.out + LARGE, *second_in = r.in + LARGE;
    int last = g->size - 1;
    const struct coll_message out[] = {{r.out, LARGE, last, false}, {second, 5, last, false}};
    const struct coll_message in[] = {{r.in, LARGE, 0, true}, {second_in, 5, 0, true}};
    if (g->size == 1 || (g->index && g->index < last))
        return 0;
    fill(r.out, LARGE, 0, last, 1);
    fill(second, 5, 0, last, 2);
    if (coll_exchange_start(c, g->index ? in : out, 2, &e) || finish(c, &e))
        return 1;
    if (g->index && !(holds(r.in, LARGE, 0, last, 1) && holds(second_in, 5, 0, last, 2)))
        return 2;
    memset(r.in, 0, LARGE); /* those of host memory go the same way */
    if (coll_exchange(c, g->index ? in : out, 2, &e))
        return 3;
    return !g->index || holds(r.in, LARGE, 0, last, 1) ? 0 : 4;
}

/* How many elements `from` has for `to`: the same of all; nothing of most; growing; large. */
enum table { SAME, SPARSE, GROWING, EXPERTS, TABLES };
static int64_t count_of(enum table how, int from, int to)
{
    switch (how) {
    case SAME:
        return 1000;
    case SPARSE:
        return (from + to) % 3 ? 0 : 1;
    case GROWING:
        return from * 100 + to;
    default:
        return (from * 31 + to * 17) % 5 * 60007;
    }
}

static int check_all_to_all(
    struct coll *c, const struct layout_group *g, struct room r, enum table how)
{
    struct err e = {0};
    int64_t out[RANKS_MAX], in[RANKS_MAX], at = 0;
    for (int k = 0; k < g->size; k++) {
        out[k] = count_of(how, g->index, k);
        in[k] = count_of(how, k, g->index);
        fill(r.out + 4 * at, 4 * (size_t)out[k], g->index, k, 5);
        at += out[k];
    }
    if (coll_all_to_all_start(c, r.out, out, r.in, in, DTYPE_F32, &e) || finish(c, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    at = 0;
    for (int k = 0; k < g->size; k++) {
        if (!holds(r.in + 4 * at, 4 * (size_t)in[k], k, g->index, 5))
            return 2;
        at += in[k];
    }
    return 0;
}

static int check_members(struct coll *c, const struct layout_group *g)
{
    static const size_t lengths[] = {0, 1, 2, 1001, 70001, LARGE};
    struct err e = {0};
    size_t bytes = (size_t)(g->size + 2) * LARGE;
    mem_autofree uint8_t *out = mem_zalloc(bytes);
    mem_autofree uint8_t *in = mem_zalloc(bytes);
    struct room r = {out, in}, shared = {.in = in};
    void *p = NULL;
    if (!out || !in || coll_connect(c, &e) || coll_connect_host(c, &e) ||
        coll_alloc(c, bytes, &p, &e)) {
        fprintf(stderr, "rank %d: %s\n", g->first + g->index * g->stride, e.text);
        return 1;
    }
    shared.out = p;
    int wrong = 0;
    for (int k = 0; k < 6 && g->size > 2; k++) /* of two, next and before are the same */
        if ((wrong = check_shifts(c, g, r, lengths[k])))
            return 10 + wrong;
    for (int how = 0; how < TABLES; how++)
        if ((wrong = check_all_to_all(c, g, r, (enum table)how)) ||
            (wrong = check_all_to_all(c, g, shared, (enum table)how)))
            return 20 + wrong;
    if ((wrong = check_sends(c, g, r)))
        return 30 + wrong;
    return (wrong = check_order(c, g, r)) ? 40 + wrong : 0;
}

static int pairs_body(struct coll *c, int rank, const struct ranks *w)
{
    const struct layout_group all = {0, 1, w->size, rank};
    static float x[1000];
    int wrong = check_members(c, &all);
    return wrong ? wrong : ranks_check(c, rank, w, x, 1000);
}

static const struct ranks groupings[] = {
    {.size = 1, .replica = {0}},
    {.size = 2, .replica = {0, 0}},
    {.size = 2, .replica = {0, 1}},
    {.size = 3, .replica = {0, 1, 1}},
    {.size = 4, .replica = {0, 1, 2, 3}},
    {.size = 5, .replica = {0, 0, 3, 4, 4}},
};

START_TEST(test_pairs)
{
    ranks_run(groupings[_i], pairs_body);
}
END_TEST

/* Groups along two axes, each connected, beside each other. */
static int groups_body(struct coll *c, int rank, const struct ranks *w)
{
    static const struct layout layout = {.dp = 1, .tp = 2, .pp = 1, .cp = 3, .ep = 1};
    struct coll *group[2];
    struct layout_group g[2];
    struct err e;
    for (int i = 0; i < 2; i++) {
        g[i] = layout_group(&layout, rank, i ? LAYOUT_TENSOR : LAYOUT_CONTEXT);
        if (coll_group(c, &g[i], &group[i], &e))
            return 1;
    }
    int wrong = check_members(group[0], &g[0]);
    if (!wrong)
        wrong = check_members(group[1], &g[1]);
    static float x[1000];
    return wrong ? wrong : ranks_check(c, rank, w, x, 1000);
}

START_TEST(test_pairs_of_groups)
{
    ranks_run((struct ranks){.size = 6, .replica = {0, 0, 0, 1, 2, 2}}, groups_body);
}
END_TEST

/* -- failures -- */

static uint8_t room[2 * LARGE];

static int send_all(struct coll *c, struct err *e)
{
    for (int rc = 0;;) /* until the sockets take no more */
        if ((rc = coll_send_start(c, room, LARGE, 1, e)))
            return rc;
}

static int receive(struct coll *c, struct err *e)
{
    return coll_receive_start(c, room, 100, 1, e);
}

static int both(struct coll *c, struct err *e)
{
    const struct coll_message m[] = {{room, LARGE, 1, false}, {room + LARGE, 1, 1, true}};
    return coll_exchange_start(c, m, 2, e);
}

static int all_to_all(struct coll *c, struct err *e)
{
    const int64_t counts[] = {10, 1000};
    const int64_t in_counts[] = {10, 5};
    return coll_all_to_all_start(c, room, counts, room + LARGE, in_counts, DTYPE_U8, e);
}

static const struct ranks_operation operations[] = {
    {coll_connect, send_all, WIRE_EXCHANGE},
    {coll_connect, receive, WIRE_EXCHANGE},
    {coll_connect, both, WIRE_EXCHANGE},
    {coll_connect, all_to_all, WIRE_ALL_TO_ALL},
};

START_TEST(test_failures)
{
    ranks_run_failing(&operations[_i / RANKS_FAILURES], _i % RANKS_FAILURES, NULL, false);
}
END_TEST

/* What is sent is not what is awaited. */
static int mismatch_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    if (coll_connect(c, &e))
        return 1;
    if (rank == 0) {
        if (coll_send_start(c, room, 8, 1, &e) || coll_send_start(c, room, 100, 1, &e))
            return 2;
        ranks_stay_silent(w);
        return 0;
    }
    if (coll_receive_start(c, room, 8, 0, &e))
        return 3;
    if (coll_receive_start(c, room, 96, 0, &e) != -ERR_BUG)
        return 4;
    const char *want = "rank 0 sends message 2 of 100 bytes, message 2 of 96 bytes is awaited";
    return strcmp(e.text, want) ? 5 : 0;
}

START_TEST(test_mismatch)
{
    ranks_run((struct ranks){.size = 2, .replica = {0, _i}}, mismatch_body);
}
END_TEST

/* A message counts no collective on the page, an all-to-all does. */
static int page_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    const int64_t one[] = {1, 1};
    (void)w;
    if (coll_connect(c, &e))
        return 1;
    uint64_t before = atomic_load(&ranks_page.collective);
    int rc = rank ? coll_receive_start(c, room, 1, 0, &e) : coll_send_start(c, room, 1, 1, &e);
    if (rc || atomic_load(&ranks_page.collective) != before ||
        atomic_load(&ranks_page.operation) != WIRE_EXCHANGE)
        return 2;
    if (coll_all_to_all_start(c, room, one, room + LARGE, one, DTYPE_U8, &e))
        return 3;
    return atomic_load(&ranks_page.collective) == before + 1 &&
            atomic_load(&ranks_page.operation) == WIRE_ALL_TO_ALL &&
            !atomic_load(&ranks_page.in_collective)
        ? 0
        : 4;
}

START_TEST(test_page)
{
    ranks_run((struct ranks){.size = 2, .replica = {0, 0}}, page_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pairs");
    TCase *t = tcase_create("pairs");
    int operation_count = (int)(sizeof operations / sizeof *operations);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_pairs, 0, (int)(sizeof groupings / sizeof *groupings));
    tcase_add_test(t, test_pairs_of_groups);
    tcase_add_loop_test(t, test_failures, 0, operation_count * RANKS_FAILURES);
    tcase_add_loop_test(t, test_mismatch, 0, 2);
    tcase_add_test(t, test_page);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
