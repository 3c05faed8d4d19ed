/*
 * Prints the rates of collectives between two processes, over shared memory (one pod) and TCP (two
 * pods), from 1 KB to 128 MB. GB/s is the bytes of the whole range (of a message) over the median
 * time of a rank: what a training step sees.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/coll/coll.h"

#include <stdio.h>
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

static int run_rank(
    int rank, const struct wire_peer *peers, const int *listen_fd, const char *where)
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
        rc = measure_all(c, rank, where, &e);
    if (rc)
        fprintf(stderr, "rank %d: %s\n", rank, e.text);
    coll_destroy(c);
    return rc != 0;
}

static int run_world(const char *where, int second_replica)
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
            int failed = run_rank(i, peers, listen_fd, where);
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

int main(void)
{
    return run_world("shared memory", 0) | run_world("TCP on loopback", 1);
}
