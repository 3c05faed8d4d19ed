/*
 * Goal: the communicators of the CUDA driver sum, gather and broadcast beside the device's work and
 * in order with it, split, hand out memory, and come back from a peer that does not take part: by a
 * deadline while connecting, by abort() from another thread afterwards. Method: the plugin beside
 * this program: a GPU's (make gpu-check) with NCCL itself, or that of tests/cudasim, whose NCCL
 * connects processes of this machine; a rank is a process, its device the one of its number.
 * needs: cuda gpu
 */
#include "kernels/driver.h"

#include "base/clock.h"
#include "tests/cudasim/control.h"
#include "tests/gpu/gpu.h"
#include "tests/unit.h"

#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 60000 /* for what must succeed, on a busy machine */
#define HANG_MS 700
#define TOLD_MS 5000 /* for NCCL to see that a peer is gone; inside of a host it may never */
#define COUNT   1001

struct shared { /* between the ranks of a test */
    _Atomic int ready;
    uint8_t id[DRIVER_COMM_ID_BYTES];
    _Atomic int arrived;
};
static struct shared *shared;

static void setup(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void all_arrive(int world)
{
    int target = (atomic_fetch_add(&shared->arrived, 1) / world + 1) * world;
    while (atomic_load(&shared->arrived) < target)
        nap();
}

struct rank {
    struct dev *d;
    const struct driver_comms *c;
    struct driver_comm *comm;
    int rank, world;
};

static void connect_ranks(struct rank *r, int rank, int world)
{
    struct err e = {0};
    *r = (struct rank){.rank = rank, .world = world};
    ck_assert_msg(!dev_open("cuda", rank % gpu()->devices, 0, &r->d, &e), "%s", e.text);
    r->c = dev_comms(r->d);
    if (rank == 0) {
        ck_assert_msg(!r->c->unique_id(shared->id, &e), "%s", e.text);
        atomic_store(&shared->ready, 1);
    }
    while (!atomic_load(&shared->ready))
        nap();
    ck_assert_msg(
        !r->c->create(r->d, shared->id, rank, world, WAIT_MS, &r->comm, &e), "%s", e.text);
}

/* Polling keeps no error, where it is to be seen. */
static void no_error_kept(const struct rank *r)
{
    cudasim_control_fn *control;
    *(void **)&control = dlsym(r->d->plugin, CUDASIM_CONTROL);
    if (control)
        ck_assert_str_eq(control()->last_error(), "");
}

static void disconnect(struct rank *r)
{
    r->c->destroy(r->comm);
    no_error_kept(r);
    dev_close(r->d);
}

/* Runs each rank in a process of its own; all must succeed. */
static void in_world(int world, void (*fn)(int rank, int world))
{
    pid_t children[8];
    for (int i = 0; i < world; i++) {
        children[i] = fork();
        if (!children[i]) {
            fn(i, world);
            _exit(0);
        }
    }
    for (int i = 0; i < world; i++) {
        int status = -1;
        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert_msg(!status, "rank %d: status %x", i, (unsigned)status);
    }
}

static void until_done(struct rank *r, struct driver_comm *comm)
{
    struct err e = {0};
    int64_t start_ms = clock_ms();
    int s;
    while ((s = r->c->poll(comm, &e)) > 0) {
        ck_assert_int_lt(clock_ms() - start_ms, WAIT_MS);
        nap();
    }
    ck_assert_msg(!s, "%s", e.text);
    no_error_kept(r);
}

/* y = a * y on the device: work before and after a collective. */
static void scale(struct rank *r, float *y, float a)
{
    dev_ops(r->d)->axpby(r->d,
        &(struct op_axpby){.count = COUNT,
            .x = y,
            .x_type = DTYPE_F32,
            .y = y,
            .y_type = DTYPE_F32,
            .a = a,
            .b = 0});
}

static void *alloc(struct rank *r, size_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    ck_assert_msg(!r->c->alloc(r->comm, bytes, &p, &e), "%s", e.text);
    return p;
}

static void sums(int rank, int world)
{
    struct rank r;
    struct err e = {0};
    float host[COUNT], back[COUNT];
    connect_ranks(&r, rank, world);
    float *p = alloc(&r, sizeof host);
    dev_download(r.d, back, p, sizeof back);
    for (int i = 0; i < COUNT; i++) {
        ck_assert(back[i] == 0);
        host[i] = (float)(i * (rank + 1));
    }
    dev_upload(r.d, p, host, sizeof host);
    scale(&r, p, 2); /* the sum is behind it, and before the next */
    ck_assert_msg(!r.c->allreduce(r.comm, p, COUNT, DTYPE_F32, DRIVER_SUM, &e), "%s", e.text);
    r.c->join(r.comm);
    scale(&r, p, 0.5f);
    dev_download(r.d, back, p, sizeof back);
    ck_assert_msg(!dev_sync(r.d, &e), "%s", e.text);
    for (int i = 0; i < COUNT; i++)
        ck_assert(back[i] == (float)(i * (world * (world + 1) / 2)));
    until_done(&r, r.comm);
    disconnect(&r);
}

START_TEST(test_sum_of_one)
{
    in_world(1, sums);
}
END_TEST

START_TEST(test_sum_of_two)
{
    in_world(2, sums);
}
END_TEST

START_TEST(test_sum_of_more)
{
    in_world(3, sums);
    setup();
    in_world(4, sums);
}
END_TEST

static void kinds(int rank, int world)
{
    struct rank r;
    struct err e = {0};
    int32_t i32[3] = {rank, -rank, 7}, all[24] = {0};
    uint16_t bf16[2] = {f32_to_bf16((float)rank), f32_to_bf16(-3)};
    connect_ranks(&r, rank, world);
    char *p = alloc(&r, 256);
    dev_upload(r.d, p, i32, sizeof i32);
    dev_upload(r.d, p + 64, bf16, sizeof bf16);
    ck_assert(!r.c->allreduce(r.comm, p, 3, DTYPE_I32, DRIVER_MAX, &e));
    ck_assert(!r.c->allreduce(r.comm, p + 64, 2, DTYPE_BF16, DRIVER_SUM, &e));
    ck_assert_int_eq(r.c->allreduce(r.comm, p, 32, DTYPE_Q8_0, DRIVER_SUM, &e), -ERR_BUG);
    r.c->join(r.comm);
    dev_download(r.d, all, p, sizeof i32);
    dev_download(r.d, bf16, p + 64, sizeof bf16);
    ck_assert_msg(!dev_sync(r.d, &e), "%s", e.text);
    ck_assert(all[0] == world - 1 && all[1] == 0 && all[2] == 7);
    ck_assert(bf16_to_f32(bf16[0]) == (float)(world * (world - 1) / 2));
    ck_assert(bf16_to_f32(bf16[1]) == (float)(-3 * world));
    dev_upload(r.d, p, i32, sizeof i32);
    const int64_t first[] = {0, 3, 6, 9};
    dev_upload(r.d, p + 128 + (size_t)rank * sizeof i32, i32, sizeof i32);
    ck_assert(!r.c->allgather(r.comm, p + 128, first, 4, &e));
    ck_assert(!r.c->broadcast(r.comm, p, 5, world - 1, &e));
    until_done(&r, r.comm);
    dev_download(r.d, all, p + 128, sizeof i32 * (size_t)world);
    dev_download(r.d, i32, p, 4);
    ck_assert_msg(!dev_sync(r.d, &e), "%s", e.text);
    for (int i = 0; i < world; i++)
        ck_assert(all[3 * i] == i && all[3 * i + 1] == -i && all[3 * i + 2] == 7);
    ck_assert_int_eq(i32[0], world - 1);
    disconnect(&r);
}

START_TEST(test_kinds)
{
    in_world(3, kinds);
}
END_TEST

/* Slices of eight numbers, even and uneven, and messages around the ring, both ways at once. */
static void slices(int rank, int world)
{
    static const int64_t cuts[][4] = {{0, 2, 4, 6}, {0, 1, 1, 8}, {0, 0, 5, 6}};
    struct rank r;
    struct err e = {0};
    int32_t host[8], got[8];
    connect_ranks(&r, rank, world);
    int32_t *p = alloc(&r, 256);
    for (int k = 0; k < 3; k++) {
        const int64_t *first = cuts[k];
        for (int i = 0; i < 8; i++)
            host[i] = 100 * rank + i;
        dev_upload(r.d, p, host, sizeof host);
        ck_assert(!r.c->reduce_scatter(r.comm, p, first, DTYPE_I32, DRIVER_SUM, &e));
        ck_assert(!r.c->allgather(r.comm, p, first, 4, &e));
        until_done(&r, r.comm);
        dev_download(r.d, got, p, sizeof got);
        ck_assert_msg(!dev_sync(r.d, &e), "%s", e.text);
        for (int i = 0; i < first[world]; i++)
            ck_assert_int_eq(got[i], 100 * world * (world - 1) / 2 + world * i);
    }
    int next = (rank + 1) % world, before = (rank + world - 1) % world;
    const struct driver_message m[] = {{p, 12, next, false}, {p + 16, 12, before, true},
        {p + 24, 4, next, true}, {p + 1, 4, before, false}, {p + 30, 0, next, false}};
    dev_upload(r.d, p, host, sizeof host);
    ck_assert(!r.c->exchange(r.comm, m, 5, &e));
    r.c->join(r.comm);
    dev_download(r.d, got, p + 16, 12);
    dev_download(r.d, got + 3, p + 24, 4);
    ck_assert_msg(!dev_sync(r.d, &e), "%s", e.text);
    ck_assert(got[0] == 100 * before && got[2] == 100 * before + 2 && got[3] == 100 * next + 1);
    ck_assert_int_eq(r.c->reduce_scatter(r.comm, p, cuts[0], DTYPE_Q8_0, DRIVER_SUM, &e), -ERR_BUG);
    disconnect(&r);
}

START_TEST(test_slices)
{
    in_world(3, slices);
}
END_TEST

/* Four ranks in two axes of two: rows {0, 1}, {2, 3} in reverse order, columns {0, 2}, {1, 3}. */
static void axes(int rank, int world)
{
    struct rank r;
    struct err e = {0};
    struct driver_comm *row = NULL, *column = NULL;
    int32_t mine = rank, got[2];
    connect_ranks(&r, rank, world);
    ck_assert_msg(!r.c->split(r.comm, rank / 2, -rank, WAIT_MS, &row, &e), "%s", e.text);
    ck_assert_msg(!r.c->split(r.comm, rank % 2, rank, WAIT_MS, &column, &e), "%s", e.text);
    int32_t *p = alloc(&r, 64);
    const int64_t first[] = {0, 1, 2};
    dev_upload(r.d, p + 1 + (rank % 2 == 0), &mine, 4);
    dev_upload(r.d, p + 3 + rank / 2, &mine, 4);
    ck_assert(!r.c->allgather(row, p + 1, first, 4, &e));
    until_done(&r, row);
    ck_assert(!r.c->allgather(column, p + 3, first, 4, &e));
    until_done(&r, column);
    dev_download(r.d, got, p + 1, 8);
    ck_assert(got[0] == rank / 2 * 2 + 1 && got[1] == rank / 2 * 2);
    dev_download(r.d, got, p + 3, 8);
    ck_assert(got[0] == rank % 2 && got[1] == rank % 2 + 2);
    ck_assert_msg(!dev_sync(r.d, &e), "%s", e.text);
    r.c->destroy(row);
    r.c->destroy(column);
    disconnect(&r);
}

START_TEST(test_split)
{
    in_world(4, axes);
}
END_TEST

/* Nobody else comes: the deadline. */
START_TEST(test_alone)
{
    struct err e = {0};
    struct dev *d = NULL;
    struct driver_comm *comm = NULL;
    uint8_t id[DRIVER_COMM_ID_BYTES];
    ck_assert_msg(!dev_open("cuda", 0, 0, &d, &e), "%s", e.text);
    ck_assert_msg(!dev_comms(d)->unique_id(id, &e), "%s", e.text);
    int64_t start_ms = clock_ms();
    ck_assert_int_eq(dev_comms(d)->create(d, id, 0, 2, HANG_MS, &comm, &e), -ERR_HANG);
    ck_assert_int_ge(clock_ms() - start_ms, HANG_MS);
    ck_assert_int_lt(clock_ms() - start_ms, WAIT_MS);
    ck_assert_msg(strstr(e.text, "forming a communicator took more than 700 ms"), "%s", e.text);
    dev_comms(d)->destroy(comm);
    dev_close(d);
}
END_TEST

/* The first collective connects: it waits for the peers itself. */
static void connect_all(struct rank *r, float *p)
{
    struct err e = {0};
    ck_assert_msg(!r->c->allreduce(r->comm, p, COUNT, DTYPE_F32, DRIVER_SUM, &e), "%s", e.text);
    until_done(r, r->comm);
}

static void abort_it(union sigval v)
{
    struct rank *r = v.sival_ptr;
    r->c->abort(r->comm);
}

/* A peer never takes part: poll says "not yet" until another thread aborts; then every call fails
   at once, and neither the device nor destroy waits for the peer. */
static void deserted(int rank, int world)
{
    struct rank r;
    struct err e = {0};
    timer_t timer;
    connect_ranks(&r, rank, world);
    float *p = alloc(&r, 4 * COUNT);
    connect_all(&r, p);
    if (rank == 1) {
        all_arrive(world); /* lives on until the others gave up */
        r.c->abort(r.comm);
        disconnect(&r);
        return;
    }
    ck_assert(!r.c->allreduce(r.comm, p, COUNT, DTYPE_F32, DRIVER_SUM, &e));
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(r.c->poll(r.comm, &e), 1);
    struct sigevent how = {.sigev_notify = SIGEV_THREAD,
        .sigev_notify_function = abort_it,
        .sigev_value.sival_ptr = &r};
    const struct itimerspec when = {.it_value.tv_nsec = 200000000};
    ck_assert(!timer_create(CLOCK_MONOTONIC, &how, &timer));
    ck_assert(!timer_settime(timer, 0, &when, NULL));
    int64_t start_ms = clock_ms();
    int s;
    while ((s = r.c->poll(r.comm, &e)) > 0) {
        ck_assert_int_lt(clock_ms() - start_ms, WAIT_MS);
        nap();
    }
    ck_assert_int_eq(s, -ERR_PEER);
    ck_assert_msg(strstr(e.text, "aborted"), "%s", e.text);
    e = (struct err){0};
    ck_assert_int_eq(r.c->allreduce(r.comm, p, COUNT, DTYPE_F32, DRIVER_SUM, &e), -ERR_PEER);
    ck_assert_int_eq(r.c->poll(r.comm, NULL), -ERR_PEER);
    r.c->join(r.comm);
    scale(&r, p, 1);
    dev_sync(r.d, NULL);
    timer_delete(timer);
    disconnect(&r);
    ck_assert_int_lt(clock_ms() - start_ms, WAIT_MS);
    all_arrive(world);
}

START_TEST(test_deserted)
{
    in_world(2, deserted);
}
END_TEST

/* A peer dies: NCCL says so, or the communicator is aborted when it does not; destroying aborts. */
static void bereft(int rank, int world)
{
    struct rank r;
    struct err e = {0};
    connect_ranks(&r, rank, world);
    float *p = alloc(&r, 4 * COUNT);
    connect_all(&r, p);
    all_arrive(world);
    if (rank == 1)
        _exit(0);
    int s = r.c->allreduce(r.comm, p, COUNT, DTYPE_F32, DRIVER_SUM, &e);
    int64_t start_ms = clock_ms();
    bool aborted = false;
    while (s >= 0) {
        ck_assert_int_lt(clock_ms() - start_ms, WAIT_MS);
        nap();
        if (!aborted && clock_ms() - start_ms > TOLD_MS) {
            aborted = true;
            r.c->abort(r.comm);
        }
        s = r.c->poll(r.comm, &e);
    }
    ck_assert_int_eq(s, -ERR_PEER);
    ck_assert_msg(
        strstr(e.text, "cuda:0: ") && strstr(e.text, aborted ? "aborted" : "NCCL: "), "%s", e.text);
    disconnect(&r);
}

START_TEST(test_bereft)
{
    in_world(2, bereft);
}
END_TEST

/* tests/cuda/fake_nvml.c, which says that the first GPU has fallen off the bus; false where it is
   not beside this program (the rehearsal of make gpu-check). */
static bool load_fake_nvml(void)
{
    char path[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    ck_assert_int_gt(n, 0);
    path[n] = 0;
    snprintf(strrchr(path, '/'), 32, "/fake/libnvidia-ml.so.1");
    setenv("FAKE_NVML_XIDS", "79", 1);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

/* A failure that NCCL puts down to the device names it as others do, NVML's part included. */
static void at_odds(int rank, int world)
{
    struct rank r;
    struct err e = {0};
    bool faked = load_fake_nvml();
    connect_ranks(&r, rank, world);
    float *p = alloc(&r, 64);
    int s = rank ? r.c->broadcast(r.comm, p, 64, 0, &e)
                 : r.c->allreduce(r.comm, p, 16, DTYPE_F32, DRIVER_SUM, &e);
    int64_t start_ms = clock_ms();
    while (s >= 0) {
        ck_assert_int_lt(clock_ms() - start_ms, WAIT_MS);
        nap();
        s = r.c->poll(r.comm, &e);
    }
    ck_assert_int_eq(s, -ERR_DEVICE);
    ck_assert_msg(strstr(e.text, ", GPU-6c6c6d6a-"), "%s", e.text);
    ck_assert_msg(strstr(e.text, ": NCCL: invalid usage: the ranks call different"), "%s", e.text);
    ck_assert_msg(rank || !faked || strstr(e.text, "; XID 79 (fallen off the bus)"), "%s", e.text);
    all_arrive(world);
    disconnect(&r);
}

START_TEST(test_at_odds)
{
    in_world(2, at_odds);
}
END_TEST

int main(void)
{
    gpu_open();
    return unit_run_with(&(struct unit){"cuda_nccl", 150, setup, NULL},
        GPU_TESTS(GPU_RANKS(test_sum_of_one, 1), GPU_RANKS(test_sum_of_two, 2),
            GPU_RANKS(test_sum_of_more, 4), GPU_RANKS(test_kinds, 3), GPU_RANKS(test_slices, 3),
            GPU_RANKS(test_split, 4), GPU_ANY(test_alone), GPU_RANKS(test_deserted, 2),
            GPU_RANKS(test_bereft, 2), {test_at_odds, 2, true}));
}
