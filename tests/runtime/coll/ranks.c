/*
 * ranks: see ranks.h. Expected sums are computed here, in F64.
 */
#include "tests/runtime/coll/ranks.h"

#include "base/clock.h"
#include "base/io.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
/* The simulated GPU opens its memory in the handler of the very access that needs it, and may
 * allocate there. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "report_signal_unsafe=0";
}
#endif

struct wire_page ranks_page;
struct dev *ranks_device;
_Atomic int64_t ranks_aborted_ms;

void ranks_open(struct ranks *w)
{
    struct err e = {0};
    ck_assert_int_eq(pipe(w->ended), 0);
    for (int r = 0; r < w->size; r++) {
        uint16_t port = 0;
        w->listen[r] = io_listen("127.0.0.1", 0, &port, &e);
        ck_assert_msg(w->listen[r] >= 0, "%s", e.text);
        w->peers[r] = (struct wire_peer){.rank = r, .replica = w->replica[r], .port = port};
        snprintf(w->peers[r].host, sizeof w->peers[r].host, "127.0.0.1");
    }
}

int ranks_create(
    const struct ranks *w, int rank, const char *secret, struct coll **c, struct err *e)
{
    for (int r = 0; r < w->size; r++)
        if (r != rank)
            io_close(w->listen[r]);
    struct coll_conf conf = {.rank = rank,
        .world = w->size,
        .peers = w->peers,
        .listen_fd = w->listen[rank],
        .secret = secret,
        .incarnation = 7,
        .timeout_ms = w->timeout_ms ? w->timeout_ms : 20000,
        .page = &ranks_page,
        .dev = ranks_device,
        .staged = w->staged};
    return coll_create(&conf, c, e);
}

pid_t ranks_start(const struct ranks *w, int rank, ranks_body_fn *body)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    struct coll *c = NULL;
    struct err e = {0};
    bool gpu = w->kind && strcmp(w->kind, "cpu") != 0;
    if ((w->kind && dev_open(w->kind, gpu ? rank : 0, 1, &ranks_device, &e)) ||
        ranks_create(w, rank, RANKS_SECRET, &c, &e)) {
        fprintf(stderr, "rank %d: %s\n", rank, e.text);
        _exit(99);
    }
    int status = body(c, rank, w);
    coll_destroy(c);
    dev_close(ranks_device);
    _exit(status);
}

void ranks_run(struct ranks w, ranks_body_fn *body)
{
    ranks_open(&w);
    pid_t pid[RANKS_MAX];
    for (int r = 0; r < w.size; r++)
        pid[r] = ranks_start(&w, r, body);
    for (int r = 0; r < w.size; r++)
        io_close(w.listen[r]);
    close(w.ended[1]);
    for (int r = 0; r < w.size; r++) {
        int status = -1;
        waitpid(pid[r], &status, 0);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "rank %d of %d: status %#x", r,
            w.size, status);
    }
}

/* -- values -- */

#define PERIOD 1009

RANKS_PRIVATE static const float *values_of(int rank)
{
    static float all[RANKS_MAX][PERIOD];
    float *x = all[rank];
    for (int i = PERIOD - 1; !x[1] && i >= 0; i--)
        x[i] = sinf((float)i * 0.37f + (float)rank) * (1.0f + (float)rank);
    return x;
}

RANKS_PRIVATE float ranks_value(int rank, int64_t i)
{
    return values_of(rank)[i % PERIOD];
}

void ranks_fill(float *x, int rank, int64_t first, int64_t n)
{
    for (int64_t at = 0, some; at < n; at += some) {
        int64_t from = (first + at) % PERIOD;
        some = PERIOD - from < n - at ? PERIOD - from : n - at;
        memcpy(x + at, values_of(rank) + from, (size_t)some * sizeof *x);
    }
}

RANKS_PRIVATE static void add_values(double *sum, int rank)
{
    for (int i = 0; i < PERIOD; i++)
        sum[i] += (double)values_of(rank)[i];
}

RANKS_PRIVATE static bool are_near(const float *x, const double *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - want[i]) <= 1e-5 * (fabs(want[i]) + 1)))
            return false;
    return true;
}

bool ranks_are_sums(const float *x, int first, int stride, int size, int64_t n)
{
    float own[PERIOD];
    double want[PERIOD] = {0};
    bool near = true;
    for (int k = 0; k < size; k++)
        add_values(want, first + k * stride);
    for (int64_t at = 0; near && at < n; at += PERIOD) {
        int64_t some = n - at < PERIOD ? n - at : PERIOD;
        memcpy(own, x + at, (size_t)some * sizeof *x);
        near = are_near(own, want, some);
    }
    return near;
}

RANKS_PRIVATE static uint64_t add_bytes(uint64_t sum, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ p[i]) * 1099511628211u;
    return sum;
}

/* By gathering a checksum. */
int ranks_same(struct coll *c, const void *p, size_t bytes, const struct ranks *w)
{
    uint64_t sum = 1469598103934665603u, all[RANKS_MAX];
    uint8_t own[4096];
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < sizeof own ? bytes - at : sizeof own;
        memcpy(own, (const uint8_t *)p + at, n);
        sum = add_bytes(sum, own, n);
    }
    struct err e;
    if (coll_allgather(c, &sum, sizeof sum, all, &e))
        return 0;
    for (int r = 0; r < w->size; r++)
        if (all[r] != sum)
            return 0;
    return 1;
}

int ranks_check(struct coll *c, int rank, const struct ranks *w, float *x, int64_t n)
{
    struct err e;
    ranks_fill(x, rank, 0, n);
    if (coll_allreduce(c, x, n, DTYPE_F32, COLL_SUM, &e))
        return 1;
    if (!ranks_are_sums(x, 0, 1, w->size, n))
        return 2;
    return ranks_same(c, x, (size_t)n * sizeof *x, w) ? 0 : 3;
}

int ranks_others_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e;
    char text[40000];
    for (int root = 0; root < w->size; root++) {
        memset(text, rank == root ? 'a' + root : 0, sizeof text);
        if (coll_broadcast(c, text, sizeof text - 3, root, &e))
            return 1;
        for (size_t i = 0; i < sizeof text - 3; i++)
            if (text[i] != 'a' + root)
                return 2;
    }
    char mine[5] = {(char)('A' + rank), 'x', 'y', (char)rank, 'z'}, all[5 * RANKS_MAX];
    if (coll_allgather(c, mine, sizeof mine, all, &e))
        return 3;
    for (int r = 0; r < w->size; r++)
        if (all[5 * r] != 'A' + r || all[5 * r + 3] != r || all[5 * r + 4] != 'z')
            return 4;
    for (int i = 0; i < 200; i++)
        if (coll_barrier(c, &e))
            return 5;
    return 0;
}

void ranks_stay_silent(const struct ranks *w)
{
    char c;
    close(w->ended[1]);
    ck_assert_int_eq(read(w->ended[0], &c, 1), 0);
}

void *ranks_abort_soon(void *c)
{
    for (int64_t until_ms = clock_ms() + 10000;
         !atomic_load(&ranks_page.in_collective) && clock_ms() < until_ms;)
        usleep(1000);
    usleep(50000);
    atomic_store(&ranks_aborted_ms, clock_ms());
    coll_abort(c);
    return NULL;
}

/* -- failures -- */

static const struct ranks_operation *failing;

/* Rank 1 of a wait that NCCL knows of is nobody in particular. */
static int stuck(struct coll *c)
{
    if (!atomic_load(&ranks_page.in_collective) ||
        atomic_load(&ranks_page.operation) != failing->operation)
        return 11;
    int whom = strcmp(coll_transport(c), "nccl") ? 1 : -1;
    return atomic_load(&ranks_page.waiting_for) == whom ? 0 : 12;
}

static int prepare(struct coll *c)
{
    struct err e = {0};
    return (failing->prepare && failing->prepare(c, &e)) || coll_barrier(c, &e);
}

static int death_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    (void)w;
    if (prepare(c))
        return 1;
    if (rank == 1)
        _exit(0);
    int64_t begin_ms = clock_ms();
    if (failing->run(c, &e) != -ERR_PEER)
        return 2;
    if (clock_ms() - begin_ms > 10000)
        return 3;
    return strstr(e.text, "rank 1 closed its connection") ? stuck(c) : 4;
}

static int silence_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    if (prepare(c))
        return 1;
    if (rank == 1) {
        ranks_stay_silent(w);
        return 0;
    }
    if (failing->run(c, &e) != -ERR_HANG)
        return 2;
    return strstr(e.text, "rank") ? stuck(c) : 4;
}

static int abort_body(struct coll *c, int rank, const struct ranks *w)
{
    struct err e = {0};
    pthread_t t;
    if (prepare(c))
        return 1;
    if (rank == 1) {
        ranks_stay_silent(w);
        return 0;
    }
    if (pthread_create(&t, NULL, ranks_abort_soon, c))
        return 5;
    int rc = failing->run(c, &e);
    int64_t late_ms = clock_ms() - atomic_load(&ranks_aborted_ms);
    pthread_join(t, NULL);
    if (rc != -ERR_DRAINED)
        return 2;
    return late_ms < ABORT_MS ? stuck(c) : 3;
}

void ranks_run_failing(
    const struct ranks_operation *operation, int failure, const char *kind, bool staged)
{
    ranks_body_fn *const bodies[] = {death_body, silence_body, abort_body};
    struct ranks w = {.size = 2,
        .replica = {0, failure % 2},
        .timeout_ms = failure / 2 == 1 ? 1500 : 0,
        .kind = kind,
        .staged = staged};
    failing = operation;
    ranks_run(w, bodies[failure / 2]);
}
