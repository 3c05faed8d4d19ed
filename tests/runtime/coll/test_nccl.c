/*
 * Goal: device memory that the host cannot read is summed over NCCL and, staged, by way of the
 * host, over whole worlds and groups of them; a dead, silent or aborted peer ends the wait and
 * leaves nothing on the device that waits; and what NCCL knows of a wait stands on the page.
 * Method: worlds of real processes (ranks.h) on the plugin of tests/cudasim; the processor's
 * memory by the same calls. Under ThreadSanitizer a sample of the worlds.
 * needs: cuda sample threads
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/coll/coll.h"
#include "tests/fakeras.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/sample.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const struct ranks devices[] = {
    {.size = 1, .replica = {0}, .kind = "cuda"},
    {.size = 2, .replica = {0, 0}, .kind = "cuda"},
    {.size = 3, .replica = {0, 0, 1}, .kind = "cuda"},
    {.size = 2, .replica = {0, 0}, .kind = "cuda", .staged = true},
    {.size = 3, .replica = {0, 1, 1}, .kind = "cuda", .staged = true},
    {.size = 2, .replica = {0, 0}, .kind = "cpu"},
    {.size = 3, .replica = {0, 1, 1}, .kind = "cpu"},
};

#define MOST 2200001 /* more than what is staged at once */
#define MANY 300001  /* more than a chunk of the simulated NCCL's */

/* [0, cut) and [cut, n) are reduced beside each other; what follows the join on the device sees
 * both results. */
static int check_device(struct coll *c, int rank, const struct ranks *w, float *x, float *copy,
    float *host, int64_t n, int64_t cut)
{
    struct err e;
    ranks_fill(host, rank, 0, n);
    dev_upload(ranks_device, x, host, (size_t)n * sizeof *x);
    if (coll_reduce_start(c, x + cut, n - cut, DTYPE_F32, COLL_SUM, &e) ||
        coll_reduce_start(c, x, cut, DTYPE_F32, COLL_SUM, &e))
        return 1;
    coll_reduce_join(c);
    dev_copy(ranks_device, copy, x, (size_t)n * sizeof *x);
    /* Nobody fails here: the device may wait by itself, and so show what the join orders. */
    if (n % 2 && dev_sync(ranks_device, &e))
        return 5;
    if (coll_reduce_wait(c, &e) || dev_sync(ranks_device, &e))
        return 2;
    dev_download(ranks_device, host, copy, (size_t)n * sizeof *x);
    if (!ranks_are_sums(host, 0, 1, w->size, n))
        return 3;
    return ranks_same(c, host, (size_t)n * sizeof *x, w) ? 0 : 4;
}

RANKS_PRIVATE static bool are_zero(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != 0)
            return false;
    return true;
}

static int device_sums_body(struct coll *c, int rank, const struct ranks *w)
{
    static const int64_t sizes[][2] = {
        {1, 0}, {1, 1}, {5, 3}, {1000, 64}, {70001, 33}, {MOST, MOST / 2 + 1}};
    struct err e;
    void *x = NULL, *copy = NULL;
    mem_autofree float *host = mem_array(MOST, sizeof *host);
    if (coll_alloc(c, MOST * sizeof(float), &x, &e) ||
        dev_alloc(ranks_device, MOST * sizeof(float), &copy, &e))
        return 10;
    dev_download(ranks_device, host, x, MOST * sizeof *host);
    if (!are_zero(host, MOST))
        return 11;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int r = check_device(c, rank, w, x, copy, host, sizes[k][0], sizes[k][1]);
        if (r)
            return 20 + r;
    }
    bool nccl = !strcmp(w->kind, "cuda") && !w->staged;
    if (strcmp(coll_transport(c), w->staged ? "staged" : nccl ? "nccl" : "host") != 0)
        return 30;
    if (coll_overlaps(c) != (nccl && w->size > 1))
        return 31;
    dev_free(ranks_device, copy);
    return 0;
}

START_TEST(test_sums)
{
    if (sample_takes_traced((uint64_t)_i))
        ranks_run(devices[_i], device_sums_body);
}
END_TEST

/* Device memory of two axes' groups, each by a reduction of its own. */
static int device_groups_body(struct coll *c, int rank, const struct ranks *w)
{
    static const struct layout layout = {.dp = 2, .tp = 2, .pp = 1, .cp = 1, .ep = 1};
    static const enum layout_axis axes[] = {LAYOUT_TENSOR, LAYOUT_DATA};
    static float host[1000];
    struct err e = {0};
    for (int k = 0; k < 2; k++) {
        struct coll *group;
        struct layout_group g = layout_group(&layout, rank, axes[k]);
        void *x;
        if (coll_group(c, &g, &group, &e) || group == c || g.size != 2 ||
            coll_alloc(group, sizeof host, &x, &e))
            return 1;
        if (strcmp(coll_transport(group), coll_transport(c)) != 0)
            return 2;
        ranks_fill(host, rank, 0, 1000);
        dev_upload(ranks_device, x, host, sizeof host);
        if (coll_reduce_start(group, x, 1000, DTYPE_F32, COLL_SUM, &e))
            return 3;
        coll_reduce_join(group);
        if (coll_reduce_wait(group, &e) || dev_sync(ranks_device, &e))
            return 4;
        dev_download(ranks_device, host, x, sizeof host);
        for (int i = 0; i < 1000; i++)
            if (host[i] != ranks_value(g.first, i) + ranks_value(g.first + g.stride, i))
                return 10 + k;
    }
    return strcmp(coll_transport(c), w->staged ? "staged" : "nccl") ? 5 : 0;
}

START_TEST(test_groups)
{
    ranks_run((struct ranks){.size = 4, .replica = {0, 0, 0, 1}, .kind = "cuda", .staged = _i},
        device_groups_body);
}
END_TEST

/* -- slices, messages -- */

struct room { /* of the device, and of the host */
    float *x, *whole;
    float *host, *want;
};

static int open_room(struct coll *c, struct room *r)
{
    struct err e;
    void *x = NULL, *whole = NULL;
    *r = (struct room){
        .host = mem_array(MOST, sizeof *r->host), .want = mem_array(MOST, sizeof *r->want)};
    if (!r->host || !r->want || coll_alloc(c, MOST * sizeof(float), &x, &e) ||
        coll_alloc(c, MOST * sizeof(float), &whole, &e))
        return 1;
    r->x = x;
    r->whole = whole;
    return 0;
}

static void close_room(struct room *r)
{
    mem_free(r->host);
    mem_free(r->want);
}

static int finish(struct coll *c)
{
    struct err e = {0};
    coll_reduce_join(c);
    if (!coll_reduce_wait(c, &e) && !dev_sync(ranks_device, &e))
        return 0;
    fprintf(stderr, "%s\n", e.text);
    return 1;
}

/* n elements in slices of which the first is the k-th of the cut's: even, growing, of one owner. */
static void cut_range(int64_t n, int how, int members, int64_t *counts)
{
    int64_t at = 0;
    for (int i = 0; i < members; i++) {
        int64_t end = how == 0 ? n / members * (i + 1)
            : how == 1         ? n * (i + 1) * (i + 1) / (members * members)
                               : (i < members / 2 ? 0 : n);
        counts[i] = end - at;
        at = end;
    }
}

static int check_slices(
    struct coll *c, int rank, const struct ranks *w, struct room *r, int64_t n, int how)
{
    struct err e;
    int64_t counts[RANKS_MAX], at = 0, total = 0;
    cut_range(n, how, w->size, counts);
    for (int i = 0; i < w->size; i++) {
        at += i < rank ? counts[i] : 0;
        total += counts[i];
    }
    size_t bytes = (size_t)total * sizeof *r->x, mine = (size_t)counts[rank] * sizeof *r->x;
    ranks_fill(r->host, rank, 0, total);
    dev_upload(ranks_device, r->x, r->host, bytes);
    dev_copy(ranks_device, r->whole, r->x, bytes);
    if (coll_reduce_start(c, r->whole, total, DTYPE_F32, COLL_SUM, &e) ||
        coll_reduce_scatter_start(c, r->x, counts, DTYPE_F32, COLL_SUM, &e) || finish(c))
        return 1;
    dev_download(ranks_device, r->want, r->whole, bytes);
    dev_download(ranks_device, r->host, r->x, bytes);
    if (dev_sync(ranks_device, &e) || memcmp(r->host + at, r->want + at, mine) != 0)
        return 2;
    dev_zero(ranks_device, r->x, bytes); /* but for the slice */
    dev_upload(ranks_device, r->x + at, r->want + at, mine);
    if (coll_all_gather_start(c, r->x, counts, DTYPE_F32, &e) || finish(c))
        return 3;
    dev_download(ranks_device, r->host, r->x, bytes);
    return dev_sync(ranks_device, &e) || memcmp(r->host, r->want, bytes) != 0 ? 4 : 0;
}

static int slices_body(struct coll *c, int rank, const struct ranks *w)
{
    static const int64_t sizes[] = {0, 6, 1000, 70001};
    struct room r;
    if (open_room(c, &r))
        return 10;
    int wrong = check_slices(c, rank, w, &r, w->staged ? MOST : MANY, w->size % 2);
    for (size_t k = 0; !wrong && k < sizeof sizes / sizeof *sizes; k++)
        for (int how = 0; !wrong && how < 3; how++)
            wrong = check_slices(c, rank, w, &r, sizes[k], how);
    close_room(&r);
    return wrong;
}

START_TEST(test_slices)
{
    if (sample_takes_traced((uint64_t)_i + 8))
        ranks_run(devices[_i], slices_body);
}
END_TEST

/* i of what `from` has for `to`. */
RANKS_PRIVATE static float passed(int from, int to, int64_t i)
{
    return (float)(i * 10 + from) + (float)to / 8;
}

RANKS_PRIVATE static void fill(float *x, int64_t n, int from, int to)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = passed(from, to, i);
}

RANKS_PRIVATE static bool holds(const float *x, int64_t n, int from, int to)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != passed(from, to, i))
            return false;
    return true;
}

/* Around the ring, and back, and what the others of a pair of ranks do not see. */
static int check_messages(
    struct coll *c, int rank, const struct ranks *w, struct room *r, int64_t n)
{
    struct err e;
    int next = (rank + 1) % w->size, before = (rank + w->size - 1) % w->size;
    size_t bytes = (size_t)n * sizeof *r->x;
    const struct coll_message m[] = {{r->x, bytes, next, false}, {r->whole, bytes, before, true}};
    fill(r->host, n, rank, next);
    dev_upload(ranks_device, r->x, r->host, bytes);
    if (coll_exchange_start(c, m, 2, &e) || finish(c))
        return 1;
    if (rank < 2) { /* back to whom it came from */
        int rc = rank ? coll_send_start(c, r->whole, bytes, 0, &e)
                      : coll_receive_start(c, r->x, bytes, 1, &e);
        if (rc || finish(c))
            return 2;
    }
    dev_download(ranks_device, r->host, r->whole, bytes);
    dev_download(ranks_device, r->want, r->x, bytes);
    if (dev_sync(ranks_device, &e))
        return 3;
    return holds(r->host, n, before, rank) && holds(r->want, n, rank, next) ? 0 : 4;
}

static int check_all_to_all(struct coll *c, int rank, const struct ranks *w, struct room *r)
{
    struct err e;
    int64_t out[RANKS_MAX], in[RANKS_MAX], sent = 0, received = 0;
    for (int k = 0; k < w->size; k++) {
        out[k] = (rank * 31 + k * 17) % 3 * 70001;
        in[k] = (k * 31 + rank * 17) % 3 * 70001;
        fill(r->host + sent, out[k], rank, k);
        sent += out[k];
        received += in[k];
    }
    dev_upload(ranks_device, r->x, r->host, (size_t)sent * sizeof *r->x);
    if (coll_all_to_all_start(c, r->x, out, r->whole, in, DTYPE_F32, &e) || finish(c))
        return 5;
    dev_download(ranks_device, r->host, r->whole, (size_t)received * sizeof *r->x);
    if (dev_sync(ranks_device, &e))
        return 6;
    for (int64_t k = 0, at = 0; k < w->size; at += in[k++])
        if (!holds(r->host + at, in[k], (int)k, rank))
            return 7;
    return 0;
}

static int messages_body(struct coll *c, int rank, const struct ranks *w)
{
    const int64_t sizes[] = {0, 1, 1001, w->staged ? MOST : MANY};
    struct room r;
    struct err e;
    if (open_room(c, &r) || coll_connect(c, &e))
        return 10;
    int wrong = check_all_to_all(c, rank, w, &r);
    for (size_t k = 0; !wrong && w->size > 1 && k < sizeof sizes / sizeof *sizes; k++)
        wrong = check_messages(c, rank, w, &r, sizes[k]);
    int32_t word = rank; /* what went between two of them disturbs nothing */
    if (!wrong && (coll_allreduce(c, &word, 1, DTYPE_I32, COLL_MAX, &e) || word != w->size - 1))
        wrong = 8;
    close_room(&r);
    return wrong;
}

START_TEST(test_messages)
{
    if (sample_takes_traced((uint64_t)_i + 16))
        ranks_run(devices[_i], messages_body);
}
END_TEST

/* -- what ends a wait -- */

static float *prepared;

static int prepare(struct coll *c, struct err *e)
{
    void *x = NULL;
    int rc = coll_alloc(c, 4000, &x, e);
    prepared = x;
    return rc ? rc : coll_connect(c, e);
}

static int end_of(struct coll *c, int rc, struct err *e)
{
    if (rc)
        return rc;
    coll_reduce_join(c);
    rc = coll_reduce_wait(c, e);
    struct err stuck;
    return dev_sync(ranks_device, &stuck) ? -ERR_BUG : rc; /* nothing on the device waits */
}

static int run_reduce_scatter(struct coll *c, struct err *e)
{
    const int64_t counts[] = {1, 999};
    return end_of(c, coll_reduce_scatter_start(c, prepared, counts, DTYPE_F32, COLL_SUM, e), e);
}

static int run_all_gather(struct coll *c, struct err *e)
{
    const int64_t counts[] = {500, 500};
    return end_of(c, coll_all_gather_start(c, prepared, counts, DTYPE_F32, e), e);
}

static int run_exchange(struct coll *c, struct err *e)
{
    const struct coll_message m[] = {{prepared, 4, 1, false}, {prepared + 1, 4, 1, true}};
    return end_of(c, coll_exchange_start(c, m, 2, e), e);
}

static int run_all_to_all(struct coll *c, struct err *e)
{
    const int64_t counts[] = {10, 400};
    return end_of(
        c, coll_all_to_all_start(c, prepared, counts, prepared + 500, counts, DTYPE_F32, e), e);
}

static const struct ranks_operation operations[] = {
    {prepare, run_reduce_scatter, WIRE_REDUCE_SCATTER},
    {prepare, run_all_gather, WIRE_ALLGATHER},
    {prepare, run_exchange, WIRE_EXCHANGE},
    {prepare, run_all_to_all, WIRE_ALL_TO_ALL},
};
#define OPERATIONS (int)(sizeof operations / sizeof *operations)

START_TEST(test_failures)
{
    ranks_run_failing(&operations[_i / RANKS_FAILURES], _i % RANKS_FAILURES, "cuda", false);
}
END_TEST

/* The others are the host's there (test_slices). */
START_TEST(test_failures_staged)
{
    static const struct ranks_operation exchange = {prepare, run_exchange, WIRE_EXCHANGE};
    ranks_run_failing(&exchange, _i, "cuda", true);
}
END_TEST

static int reduce(struct coll *c, void *x, struct err *e)
{
    int r = coll_reduce_start(c, x, 1000, DTYPE_F32, COLL_SUM, e);
    if (r)
        return r;
    coll_reduce_join(c);
    return coll_reduce_wait(c, e);
}

static int reduce_some(struct coll *c, struct err *e)
{
    void *x = NULL;
    if (coll_alloc(c, 4000, &x, e))
        return 0; /* no failure of a reduction */
    return reduce(c, x, e);
}

static int device_death_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    if (coll_barrier(c, &e))
        return 1;
    if (rank == w->size - 1) {
        void *x;
        if (coll_alloc(c, 4000, &x, &e)) /* which the others may need it for */
            return 4;
        _exit(0);
    }
    int64_t begin_ms = clock_ms();
    if (reduce_some(c, &e) != -ERR_PEER)
        return 2;
    if (dev_sync(ranks_device, &e)) /* nothing on the device waits for the dead one */
        return 5;
    return clock_ms() - begin_ms < 15000 ? 0 : 3;
}

START_TEST(test_death)
{
    ck_assert_int_gt(devices[_i].size, 1);
    ranks_run(devices[_i], device_death_body);
}
END_TEST

static int device_silence_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    if (rank == w->size - 1) {
        void *x;
        if (coll_alloc(c, 4000, &x, &e))
            return 1;
        ranks_stay_silent(w);
        return 0;
    }
    if (reduce_some(c, &e) != -ERR_HANG)
        return 2;
    if (!atomic_load(&ranks_page.in_collective) ||
        atomic_load(&ranks_page.operation) != WIRE_ALLREDUCE)
        return 3;
    return dev_sync(ranks_device, &e) ? 5 : 0;
}

START_TEST(test_silence)
{
    struct ranks w = {.size = 2, .replica = {0, _i}, .timeout_ms = 3000, .kind = "cuda"};
    ranks_run(w, device_silence_body);
}
END_TEST

static int ras = -1; /* the listener of NCCL's RAS */
#define RAS_ERROR  "Missing communicator data from 1 job process"
#define RAS_ANSWER FAKERAS_HEAD "Errors\n======\n\n" RAS_ERROR "\n\nWarnings\n========\n\n"

/* Rank 1 stays away until rank 0's NCCL has said so, and then for ever or not. */
static int explained(struct coll *c, int rank, const struct ranks *w, bool comes)
{
    struct err e = {0};
    char note[WIRE_NOTE_BYTES];
    if (rank == 1) {
        void *x;
        int r = comes ? 0 : coll_alloc(c, 4000, &x, &e);
        if (r || fakeras_answer(ras, 2, RAS_ANSWER))
            return 1;
        if (comes && reduce_some(c, &e))
            return 2;
        ranks_stay_silent(w); /* one that left would be a lost peer to rank 0 */
        return 0;
    }
    if (reduce_some(c, &e) != (comes ? 0 : -ERR_HANG))
        return 3;
    wire_page_noted(&ranks_page, note);
    if (strcmp(note, comes ? "" : "NCCL: " RAS_ERROR) != 0)
        return 4;
    return atomic_load(&ranks_page.note_writes) == (comes ? 4 : 2) ? 0 : 5;
}

static int stays_away_body(struct coll *c, int rank, const struct ranks *w)
{
    return explained(c, rank, w, false);
}

static int comes_late_body(struct coll *c, int rank, const struct ranks *w)
{
    return explained(c, rank, w, true);
}

/* What NCCL knows stands on the page while the wait lasts. */
START_TEST(test_explained)
{
    struct ranks w = {.size = 2, .replica = {0, 1}, .timeout_ms = 7000, .kind = "cuda"};
    char address[32];
    uint16_t port = 0;
    struct err e = {0};
    ras = io_listen("127.0.0.1", 0, &port, &e);
    ck_assert_msg(ras >= 0, "%s", e.text);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    setenv("NCCL_RAS_ADDR", address, 1);
    w.timeout_ms = _i ? 60000 : 7000;
    ranks_run(w, _i ? comes_late_body : stays_away_body);
    io_close(ras);
}
END_TEST

static int device_abort_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    pthread_t t;
    void *x;
    if (coll_alloc(c, 4000, &x, &e))
        return 1;
    if (rank == 1) {
        ranks_stay_silent(w);
        return 0;
    }
    if (pthread_create(&t, NULL, ranks_abort_soon, c))
        return 1;
    int64_t begin_ms = clock_ms();
    int r = reduce(c, x, &e);
    pthread_join(t, NULL);
    if (dev_sync(ranks_device, &e))
        return 5;
    return r == -ERR_DRAINED && clock_ms() - begin_ms < 10000 ? 0 : 2;
}

START_TEST(test_abort)
{
    struct ranks w = {.size = 2, .replica = {0, 0}, .kind = "cuda", .staged = _i};
    ranks_run(w, device_abort_body);
}
END_TEST

int main(void)
{
    sample_print();
    Suite *s = suite_create("nccl");
    TCase *t = tcase_create("nccl");
    int n = sizeof devices / sizeof *devices;
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_sums, 0, n);
    tcase_add_loop_test(t, test_groups, 0, 2);
    tcase_add_loop_test(t, test_slices, 0, n);
    tcase_add_loop_test(t, test_messages, 0, n);
    tcase_add_loop_test(t, test_failures, 0, OPERATIONS * RANKS_FAILURES);
    tcase_add_loop_test(t, test_failures_staged, 0, RANKS_FAILURES);
    tcase_add_loop_test(t, test_death, 1, n);
    tcase_add_loop_test(t, test_silence, 0, 2);
    tcase_add_loop_test(t, test_abort, 0, 2);
    tcase_add_loop_test(t, test_explained, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
