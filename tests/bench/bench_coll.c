/*
 * Prints the rates of collectives between two processes, over shared memory (one pod) and TCP (two
 * pods), from 1 KB to 128 MB. GB/s is the bytes of the whole range (of a message) over the median
 * time of a rank: what a training step sees. With arguments, `allreduce shared|private|tcp
 * BYTES...`, a line a size for allreduce.sh: bytes, and the median of rounds in us; private: memory
 * of one's own, not coll_alloc's, in a pod.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/coll/coll.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGEST ((size_t)128 << 20)

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* -- the operations: of two ranks, n elements of x; y has room for as many -- */

typedef int operation_fn(struct coll *c, int rank, float *x, float *y, int64_t n, struct err *e);

static int all_reduce(struct coll *c, int rank, float *x, float *y, int64_t n, struct err *e)
{
    (void)rank;
    (void)y;
    return coll_allreduce(c, x, n, DTYPE_F32, COLL_SUM, e);
}

static int reduce_scatter(struct coll *c, int rank, float *x, float *y, int64_t n, struct err *e)
{
    const int64_t counts[] = {n / 2, n - n / 2};
    (void)rank;
    (void)y;
    return coll_reduce_scatter_start(c, x, counts, DTYPE_F32, COLL_SUM, e);
}

static int all_gather(struct coll *c, int rank, float *x, float *y, int64_t n, struct err *e)
{
    const int64_t counts[] = {n / 2, n - n / 2};
    (void)rank;
    (void)y;
    return coll_all_gather_start(c, x, counts, DTYPE_F32, e);
}

static int all_to_all(struct coll *c, int rank, float *x, float *y, int64_t n, struct err *e)
{
    const int64_t counts[] = {n / 2, n / 2};
    (void)rank;
    return coll_all_to_all_start(c, x, counts, y, counts, DTYPE_F32, e);
}

static int shift(struct coll *c, int rank, float *x, float *y, int64_t n, struct err *e)
{
    size_t bytes = (size_t)n * sizeof *x;
    const struct coll_message m[] = {{x, bytes, !rank, false}, {y, bytes, !rank, true}};
    return coll_exchange_start(c, m, 2, e);
}

static int send(struct coll *c, int rank, float *x, float *y, int64_t n, struct err *e)
{
    size_t bytes = (size_t)n * sizeof *x;
    return rank ? coll_receive_start(c, y, bytes, 0, e) : coll_send_start(c, x, bytes, 1, e);
}

static const struct {
    const char *name;
    operation_fn *run;
} operations[] = {
    {"all-reduce", all_reduce},
    {"reduce-scatter", reduce_scatter},
    {"all-gather", all_gather},
    {"all-to-all", all_to_all},
    {"ring shift", shift},
    {"send, receive", send},
};

static int measure(
    struct coll *c, int rank, operation_fn *run, float *x, float *y, size_t bytes, struct err *e)
{
    int64_t ns[41];
    int rounds = bytes >= (16u << 20) ? 9 : 41;
    for (int i = -2; i < rounds; i++) {
        int rc = coll_barrier(c, e);
        int64_t begin = clock_ns();
        if (!rc)
            rc = run(c, rank, x, y, (int64_t)(bytes / 4), e);
        if (rc)
            return rc;
        if (i >= 0)
            ns[i] = clock_ns() - begin;
        x[0] = 1; /* keep values finite */
    }
    qsort(ns, (size_t)rounds, sizeof *ns, compare);
    if (rank == 1) /* who receives */
        printf("  %9zu B  %9.1f us  %6.2f GB/s\n", bytes, (double)ns[rounds / 2] / 1e3,
            (double)bytes / (double)ns[rounds / 2]);
    return 0;
}

static int measure_all(struct coll *c, int rank, const char *where, struct err *e)
{
    void *x = NULL, *y = NULL;
    int rc = coll_alloc(c, LARGEST, &x, e);
    if (rc || (rc = coll_alloc(c, LARGEST, &y, e)) || (rc = coll_connect(c, e)))
        return rc;
    memset(x, 0, LARGEST);
    memset(y, 0, LARGEST);
    for (size_t k = 0; k < sizeof operations / sizeof *operations; k++) {
        if (rank == 1)
            printf("%s, 2 processes, %s\n", operations[k].name, where);
        for (size_t bytes = 1024; bytes <= LARGEST; bytes *= bytes < (1 << 20) ? 32 : 128)
            if ((rc = measure(c, rank, operations[k].run, x, y, bytes, e)))
                return rc;
    }
    return 0;
}

/* -- for allreduce.sh: what other programs are measured by, too -- */

#define ROUNDS 41 /* of more than LARGE bytes a quarter of them */
#define LARGE  (4 << 20)

struct wanted {
    const char *way; /* shared, private, tcp */
    char **sizes;
    int count;
};

/* *us: what the slower rank takes for what both have just written. */
static int one(struct coll *c, float *x, int64_t count, bool own, float *us, struct err *e)
{
    for (int64_t i = 0; i < count; i++)
        x[i] = 1;
    int rc = coll_barrier(c, e);
    int64_t begin = clock_ns();
    if (!rc)
        rc = own ? coll_allreduce(c, x, count, DTYPE_F32, COLL_SUM, e)
                 : coll_reduce_start(c, x, count, DTYPE_F32, COLL_SUM, e);
    *us = (float)(clock_ns() - begin) * 1e-3f;
    return rc ? rc : coll_allreduce(c, us, 1, DTYPE_F32, COLL_MAX, e);
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int measure_wanted(struct coll *c, int rank, const struct wanted *w, struct err *e)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(rank, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    bool own = !strcmp(w->way, "private");
    for (int i = 0; i < w->count; i++) {
        int64_t bytes = strtol(w->sizes[i], NULL, 10);
        int rc = 0, rounds = bytes > LARGE ? ROUNDS / 4 : ROUNDS;
        mem_autofree void *mine = own ? mem_zalloc((size_t)bytes) : NULL;
        void *x = mine;
        float us[ROUNDS];
        if (own ? !x : coll_alloc(c, (size_t)bytes, &x, e))
            return 1;
        for (int k = -2; k < rounds && !rc; k++)
            rc = one(c, x, bytes / 4, own, &us[k < 0 ? 0 : k], e);
        if (rc)
            return rc;
        qsort(us, (size_t)rounds, sizeof *us, by_size);
        if (rank == 1)
            printf("%lld %.2f\n", (long long)bytes, (double)us[rounds / 2]);
    }
    return 0;
}

/* -- two ranks -- */

static int run_rank(int rank, const struct wire_peer *peers, const int *listen_fd,
    const char *where, const struct wanted *wanted)
{
    struct coll *c = NULL;
    struct err e = {0};
    io_close(listen_fd[!rank]);
    struct coll_conf conf = {.rank = rank,
        .world = 2,
        .peers = peers,
        .listen_fd = listen_fd[rank],
        .secret = "bench",
        .incarnation = 1,
        .timeout_ms = 30000};
    int rc = coll_create(&conf, &c, &e);
    if (!rc)
        rc = wanted ? measure_wanted(c, rank, wanted, &e) : measure_all(c, rank, where, &e);
    if (rc)
        fprintf(stderr, "rank %d: %s\n", rank, e.text);
    coll_destroy(c);
    return rc != 0;
}

static int run_world(const char *where, int second_replica, const struct wanted *wanted)
{
    struct wire_peer peers[2] = {{.rank = 0}, {.rank = 1, .replica = second_replica}};
    int listen_fd[2];
    struct err e = {0};
    for (int i = 0; i < 2; i++) {
        listen_fd[i] = io_listen("127.0.0.1", 0, &peers[i].port, &e);
        if (listen_fd[i] < 0) {
            fprintf(stderr, "%s\n", e.text);
            return 1;
        }
        snprintf(peers[i].host, sizeof peers[i].host, "127.0.0.1");
    }
    pid_t pid[2];
    for (int i = 0; i < 2; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            int failed = run_rank(i, peers, listen_fd, where, wanted);
            fflush(stdout);
            _exit(failed);
        }
    }
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        int status = 1;
        io_close(listen_fd[i]);
        waitpid(pid[i], &status, 0);
        failed |= status != 0;
    }
    return failed;
}

int main(int argc, char **argv)
{
    if (argc > 3 && !strcmp(argv[1], "allreduce")) {
        const struct wanted w = {argv[2], argv + 3, argc - 3};
        return run_world("", !strcmp(w.way, "tcp"), &w);
    }
    return run_world("shared memory", 0, NULL) | run_world("TCP on loopback", 1, NULL);
}
