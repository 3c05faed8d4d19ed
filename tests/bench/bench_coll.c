/*
 * Prints the all-reduce rate between two processes, over shared memory (one pod) and TCP (two
 * pods), from 1 KB to 128 MB. GB/s is message bytes over the median time of a rank: what a training
 * step sees.
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

static int measure(struct coll *c, float *x, size_t bytes, bool print, struct err *e)
{
    int64_t ns[41];
    int rounds = bytes >= (16u << 20) ? 9 : 41;
    for (int i = -2; i < rounds; i++) {
        int r = coll_barrier(c, e);
        int64_t begin = clock_ns();
        if (!r)
            r = coll_allreduce(c, x, (int64_t)(bytes / 4), DTYPE_F32, COLL_SUM, e);
        if (r)
            return r;
        if (i >= 0)
            ns[i] = clock_ns() - begin;
        x[0] = 1; /* keep values finite */
    }
    qsort(ns, (size_t)rounds, sizeof *ns, compare);
    if (print)
        printf("  %9zu B  %9.1f us  %6.2f GB/s\n", bytes, (double)ns[rounds / 2] / 1e3,
            (double)bytes / (double)ns[rounds / 2]);
    return 0;
}

static int run_rank(int rank, const struct wire_peer *peers, const int *listen_fd)
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
    void *x = NULL;
    int r = coll_create(&conf, &c, &e);
    if (!r)
        r = coll_alloc(c, LARGEST, &x, &e);
    if (!r)
        memset(x, 0, LARGEST);
    for (size_t bytes = 1024; !r && bytes <= LARGEST; bytes *= bytes < (1 << 20) ? 8 : 4)
        r = measure(c, x, bytes, rank == 0, &e);
    if (!r)
        r = measure(c, x, LARGEST, rank == 0, &e);
    if (r)
        fprintf(stderr, "rank %d: %s\n", rank, e.text);
    coll_destroy(c);
    return r != 0;
}

static int run_world(const char *title, int second_replica)
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
    printf("all-reduce, 2 processes, %s\n", title);
    fflush(stdout);
    pid_t pid[2];
    for (int i = 0; i < 2; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            int failed = run_rank(i, peers, listen_fd);
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
