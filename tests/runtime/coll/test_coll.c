/*
 * Goal: collectives give the right sums, bitwise the same on every rank, over every grouping of
 * ranks into pods and over groups of a world, end with the right error when a peer dies, is silent,
 * or does not know the secret, and form whoever else knocks. Method: real processes. Each case
 * binds one listener a rank, forks the ranks, and each child runs a body that exits 0 or a step
 * number; the parent checks every status. Expected sums are computed in the body. Device memory:
 * that of the plugin of tests/cudasim, which the host cannot read, over the host version of NCCL
 * and staged; and the processor's by the same calls.
 * needs: cuda threads
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/coll/coll.h"
#include "tests/fakeras.h"

#include <arpa/inet.h>
#include <check.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_WORLD 6

#ifdef __SANITIZE_THREAD__
/* The simulated GPU opens its memory in the handler of the very access that needs it, and may
 * allocate there. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "report_signal_unsafe=0";
}
#endif

struct world {
    int size;
    int replica[MAX_WORLD]; /* of each rank */
    int64_t timeout_ms;
    const char *kind; /* of the devices; NULL: none */
    bool staged;
    int listen[MAX_WORLD];
    int ended[2]; /* a pipe whose writers are the ranks: end of file tells that they ended */
    struct wire_peer peers[MAX_WORLD];
};

static struct wire_page page; /* of this process's rank */
static struct dev *device;    /* the same */

typedef int body_fn(struct coll *c, int rank, const struct world *w);

static void world_open(struct world *w)
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

static int create(
    const struct world *w, int rank, const char *secret, struct coll **c, struct err *e)
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
        .page = &page,
        .dev = device,
        .staged = w->staged};
    return coll_create(&conf, c, e);
}

static pid_t start(const struct world *w, int rank, body_fn *body)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    struct coll *c = NULL;
    struct err e = {0};
    bool gpu = w->kind && strcmp(w->kind, "cpu") != 0;
    if ((w->kind && dev_open(w->kind, gpu ? rank : 0, 1, &device, &e)) ||
        create(w, rank, "5ec7e7", &c, &e)) {
        fprintf(stderr, "rank %d: %s\n", rank, e.text);
        _exit(99);
    }
    int status = body(c, rank, w);
    coll_destroy(c);
    dev_close(device);
    _exit(status);
}

static void world_run(struct world w, body_fn *body)
{
    world_open(&w);
    pid_t pid[MAX_WORLD];
    for (int r = 0; r < w.size; r++)
        pid[r] = start(&w, r, body);
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

static float value_of(int rank, int64_t i)
{
    return sinf((float)(i % 1009) * 0.37f + (float)rank) * (1.0f + (float)rank);
}

/* All ranks must hold the same bytes: compare by gathering a checksum. */
static int same_everywhere(struct coll *c, const void *p, size_t bytes, const struct world *w)
{
    uint64_t sum = 1469598103934665603u, all[MAX_WORLD];
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ ((const uint8_t *)p)[i]) * 1099511628211u;
    struct err e;
    if (coll_allgather(c, &sum, sizeof sum, all, &e))
        return 0;
    for (int r = 0; r < w->size; r++)
        if (all[r] != sum)
            return 0;
    return 1;
}

static int check_f32(struct coll *c, int rank, const struct world *w, float *x, int64_t n)
{
    struct err e;
    for (int64_t i = 0; i < n; i++)
        x[i] = value_of(rank, i);
    if (coll_allreduce(c, x, n, DTYPE_F32, COLL_SUM, &e))
        return 1;
    for (int64_t i = 0; i < n; i++) {
        double want = 0;
        for (int r = 0; r < w->size; r++)
            want += (double)value_of(r, i);
        if (fabs((double)x[i] - want) > 1e-5 * (fabs(want) + 1))
            return 2;
    }
    return same_everywhere(c, x, (size_t)n * sizeof *x, w) ? 0 : 3;
}

static int sums_body(struct coll *c, int rank, const struct world *w)
{
    static const int64_t sizes[] = {0, 1, 5, 63, 1000, 262144, 700001};
    struct err e;
    void *shared = NULL;
    if (coll_alloc(c, 700001 * sizeof(float) + 256, &shared, &e))
        return 10;
    mem_autofree float *plain = mem_array(700001, sizeof *plain);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int r = check_f32(c, rank, w, plain, sizes[k]);
        if (!r)
            r = check_f32(c, rank, w, shared, sizes[k]);
        if (!r) /* inside a region, off its 64-byte lines */
            r = check_f32(c, rank, w, (float *)shared + 3, sizes[k]);
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
    uint16_t half[333];
    for (int i = 0; i < 333; i++)
        half[i] = f32_to_bf16((float)(i % 7 + rank)); /* small integers: exact in BF16 */
    if (coll_allreduce(c, half, 333, DTYPE_BF16, COLL_SUM, &e))
        return 40;
    for (int i = 0; i < 333; i++)
        if (bf16_to_f32(half[i]) != (float)(w->size * (i % 7) + w->size * (w->size - 1) / 2))
            return 41;
    return 0;
}

static int others_body(struct coll *c, int rank, const struct world *w)
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
    char mine[5] = {(char)('A' + rank), 'x', 'y', (char)rank, 'z'}, all[5 * MAX_WORLD];
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

static const struct world groupings[] = {
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
    world_run(groupings[_i], sums_body);
}
END_TEST

START_TEST(test_coll_others)
{
    world_run(groupings[_i], others_body);
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
    for (int i = 0; i < 5000; i++)
        x[i] = value_of(rank, i);
    if (coll_allreduce(c, x, 5000, DTYPE_F32, COLL_SUM, &e))
        return 1;
    for (int i = 0; i < 5000; i++) {
        double want = 0;
        for (int k = 0; k < g->size; k++)
            want += (double)value_of(g->first + k * g->stride, i);
        if (fabs((double)x[i] - want) > 1e-5 * (fabs(want) + 1))
            return 2;
    }
    int32_t all[MAX_WORLD], word = rank;
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
static int groups_body(struct coll *c, int rank, const struct world *w)
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
    return check_f32(c, rank, w, x, 1000);
}

START_TEST(test_coll_groups)
{
    static const struct world pods[] = {
        {.size = 6, .replica = {0, 0, 0, 0, 0, 0}},
        {.size = 6, .replica = {0, 1, 2, 3, 4, 5}},
        {.size = 6, .replica = {0, 1, 1, 2, 2, 2}},
    };
    layout = &layouts[_i / 3];
    world_run(pods[_i % 3], groups_body);
}
END_TEST

/* The last rank leaves. Those who share a group with it, of size two here, are told its number in
 * the world, also by the page; the others' groups go on. */
static int group_death_body(struct coll *c, int rank, const struct world *w)
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
    return atomic_load(&page.in_collective) ? 0 : 4;
}

START_TEST(test_coll_group_death)
{
    layout = &layouts[2];
    world_run((struct world){.size = 6, .replica = {0, 1, 2, 3, 4, 5}}, group_death_body);
}
END_TEST

/* The last rank leaves without a word; every other must fail with ERR_PEER (or be told by its
 * leader's end). */
static int death_body(struct coll *c, int rank, const struct world *w)
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
    return clock_ms() - begin_ms < 5000 ? 0 : 3;
}

START_TEST(test_coll_death)
{
    ck_assert_int_gt(groupings[_i].size, 1);
    world_run(groupings[_i], death_body);
}
END_TEST

/* Stays connected without a word until every other rank has ended. */
static void stay_silent(const struct world *w)
{
    char c;
    close(w->ended[1]);
    ck_assert_int_eq(read(w->ended[0], &c, 1), 0);
}

/* The last rank never joins: the wait ends at the deadline, and the page names the rank awaited. */
static int silence_body(struct coll *c, int rank, const struct world *w)
{
    struct err e = {0};
    if (rank == w->size - 1) {
        stay_silent(w);
        return 0;
    }
    float x[10] = {0};
    if (coll_allreduce(c, x, 10, DTYPE_F32, COLL_SUM, &e) != -ERR_HANG)
        return 2;
    if (!atomic_load(&page.in_collective) || atomic_load(&page.operation) != WIRE_ALLREDUCE)
        return 3;
    return atomic_load(&page.waiting_for) == w->size - 1 ? 0 : 4;
}

START_TEST(test_coll_silence)
{
    struct world w = {.size = 2, .replica = {0, _i}, .timeout_ms = 3000};
    world_run(w, silence_body);
}
END_TEST

/* Once the rank is in a collective, and a moment later. */
static void *abort_soon(void *c)
{
    for (int64_t until_ms = clock_ms() + 10000;
         !atomic_load(&page.in_collective) && clock_ms() < until_ms;)
        usleep(1000);
    usleep(50000);
    coll_abort(c);
    return NULL;
}

/* Rank 0 waits in a collective that rank 1 never joins, and is freed by coll_abort from a second
 * thread. */
static int abort_body(struct coll *c, int rank, const struct world *w)
{
    struct err e = {0};
    if (rank == 1) {
        stay_silent(w);
        return 0;
    }
    pthread_t t;
    if (pthread_create(&t, NULL, abort_soon, c))
        return 1;
    float x[10] = {0};
    int64_t begin_ms = clock_ms();
    int r = coll_allreduce(c, x, 10, DTYPE_F32, COLL_SUM, &e);
    pthread_join(t, NULL);
    return r == -ERR_DRAINED && clock_ms() - begin_ms < 10000 ? 0 : 2;
}

START_TEST(test_coll_abort)
{
    struct world w = {.size = 2, .replica = {0, _i}};
    world_run(w, abort_body);
}
END_TEST

/* Rank 0 waits for rank 1 in a group; aborting the world frees it. */
static int group_abort_body(struct coll *c, int rank, const struct world *w)
{
    struct coll *pair;
    struct layout_group g;
    struct err e = {0};
    float x[10] = {0};
    pthread_t t;
    if (group_of(c, layout, rank, LAYOUT_TENSOR, &g, &pair) || pair == c)
        return 1;
    if (rank) {
        stay_silent(w);
        return 0;
    }
    atomic_store(&page.in_collective, 0);
    if (pthread_create(&t, NULL, abort_soon, c))
        return 2;
    int64_t begin_ms = clock_ms();
    int rc = coll_allreduce(pair, x, 10, DTYPE_F32, COLL_SUM, &e);
    pthread_join(t, NULL);
    return rc == -ERR_DRAINED && clock_ms() - begin_ms < 10000 ? 0 : 3;
}

START_TEST(test_coll_group_abort)
{
    layout = &(struct layout){.dp = 2, .tp = 2, .pp = 1, .cp = 1, .ep = 1};
    world_run((struct world){.size = 4, .replica = {0, 0, 1, 1}}, group_abort_body);
}
END_TEST

/* -- device memory -- */

static const struct world devices[] = {
    {.size = 1, .replica = {0}, .kind = "cuda"},
    {.size = 2, .replica = {0, 0}, .kind = "cuda"},
    {.size = 3, .replica = {0, 0, 1}, .kind = "cuda"},
    {.size = 2, .replica = {0, 0}, .kind = "cuda", .staged = true},
    {.size = 3, .replica = {0, 1, 1}, .kind = "cuda", .staged = true},
    {.size = 2, .replica = {0, 0}, .kind = "cpu"},
    {.size = 3, .replica = {0, 1, 1}, .kind = "cpu"},
};

#define MOST 2200001 /* more than what is staged at once */

/* [0, cut) and [cut, n) are reduced beside each other; what follows the join on the device sees
 * both results. */
static int check_device(struct coll *c, int rank, const struct world *w, float *x, float *copy,
    float *host, int64_t n, int64_t cut)
{
    struct err e;
    for (int64_t i = 0; i < n; i++)
        host[i] = value_of(rank, i);
    dev_upload(device, x, host, (size_t)n * sizeof *x);
    if (coll_reduce_start(c, x + cut, n - cut, DTYPE_F32, COLL_SUM, &e) ||
        coll_reduce_start(c, x, cut, DTYPE_F32, COLL_SUM, &e))
        return 1;
    coll_reduce_join(c);
    dev_copy(device, copy, x, (size_t)n * sizeof *x);
    /* Nobody fails here: the device may wait by itself, and so show what the join orders. */
    if (n % 2 && dev_sync(device, &e))
        return 5;
    if (coll_reduce_wait(c, &e) || dev_sync(device, &e))
        return 2;
    dev_download(device, host, copy, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        double want = 0;
        for (int r = 0; r < w->size; r++)
            want += (double)value_of(r, i);
        if (!(fabs((double)host[i] - want) <= 1e-5 * (fabs(want) + 1)))
            return 3;
    }
    return same_everywhere(c, host, (size_t)n * sizeof *x, w) ? 0 : 4;
}

static int device_sums_body(struct coll *c, int rank, const struct world *w)
{
    static const int64_t sizes[][2] = {
        {1, 0}, {1, 1}, {5, 3}, {1000, 64}, {70001, 33}, {MOST, MOST / 2 + 1}};
    struct err e;
    void *x = NULL, *copy = NULL;
    mem_autofree float *host = mem_array(MOST, sizeof *host);
    if (coll_alloc(c, MOST * sizeof(float), &x, &e) ||
        dev_alloc(device, MOST * sizeof(float), &copy, &e))
        return 10;
    dev_download(device, host, x, MOST * sizeof *host);
    for (int64_t i = 0; i < MOST; i++)
        if (host[i] != 0)
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
    dev_free(device, copy);
    return 0;
}

START_TEST(test_coll_device_sums)
{
    world_run(devices[_i], device_sums_body);
}
END_TEST

/* Device memory of two axes' groups, each by a reduction of its own. */
static int device_groups_body(struct coll *c, int rank, const struct world *w)
{
    static const enum layout_axis axes[] = {LAYOUT_TENSOR, LAYOUT_DATA};
    static float host[1000];
    struct err e = {0};
    for (int k = 0; k < 2; k++) {
        struct coll *group;
        struct layout_group g;
        void *x;
        if (group_of(c, layout, rank, axes[k], &g, &group) || group == c || g.size != 2 ||
            coll_alloc(group, sizeof host, &x, &e))
            return 1;
        if (strcmp(coll_transport(group), coll_transport(c)) != 0)
            return 2;
        for (int i = 0; i < 1000; i++)
            host[i] = value_of(rank, i);
        dev_upload(device, x, host, sizeof host);
        if (coll_reduce_start(group, x, 1000, DTYPE_F32, COLL_SUM, &e))
            return 3;
        coll_reduce_join(group);
        if (coll_reduce_wait(group, &e) || dev_sync(device, &e))
            return 4;
        dev_download(device, host, x, sizeof host);
        for (int i = 0; i < 1000; i++)
            if (host[i] != value_of(g.first, i) + value_of(g.first + g.stride, i))
                return 10 + k;
    }
    return strcmp(coll_transport(c), w->staged ? "staged" : "nccl") ? 5 : 0;
}

START_TEST(test_coll_device_groups)
{
    layout = &(struct layout){.dp = 2, .tp = 2, .pp = 1, .cp = 1, .ep = 1};
    world_run((struct world){.size = 4, .replica = {0, 0, 0, 1}, .kind = "cuda", .staged = _i},
        device_groups_body);
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

static int device_death_body(struct coll *c, int rank, const struct world *w)
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
    if (dev_sync(device, &e)) /* nothing on the device waits for the dead one */
        return 5;
    return clock_ms() - begin_ms < 5000 ? 0 : 3;
}

START_TEST(test_coll_device_death)
{
    ck_assert_int_gt(devices[_i].size, 1);
    world_run(devices[_i], device_death_body);
}
END_TEST

static int device_silence_body(struct coll *c, int rank, const struct world *w)
{
    struct err e = {0};
    if (rank == w->size - 1) {
        void *x;
        if (coll_alloc(c, 4000, &x, &e))
            return 1;
        stay_silent(w);
        return 0;
    }
    if (reduce_some(c, &e) != -ERR_HANG)
        return 2;
    if (!atomic_load(&page.in_collective) || atomic_load(&page.operation) != WIRE_ALLREDUCE)
        return 3;
    return dev_sync(device, &e) ? 5 : 0;
}

START_TEST(test_coll_device_silence)
{
    struct world w = {.size = 2, .replica = {0, _i}, .timeout_ms = 3000, .kind = "cuda"};
    world_run(w, device_silence_body);
}
END_TEST

static int ras = -1; /* the listener of NCCL's RAS */
#define RAS_ERROR  "Missing communicator data from 1 job process"
#define RAS_ANSWER FAKERAS_HEAD "Errors\n======\n\n" RAS_ERROR "\n\nWarnings\n========\n\n"

/* Rank 1 stays away until rank 0's NCCL has said so, and then for ever or not. */
static int explained(struct coll *c, int rank, const struct world *w, bool comes)
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
        stay_silent(w); /* one that left would be a lost peer to rank 0 */
        return 0;
    }
    if (reduce_some(c, &e) != (comes ? 0 : -ERR_HANG))
        return 3;
    wire_page_noted(&page, note);
    if (strcmp(note, comes ? "" : "NCCL: " RAS_ERROR) != 0)
        return 4;
    return atomic_load(&page.note_writes) == (comes ? 4 : 2) ? 0 : 5;
}

static int stays_away_body(struct coll *c, int rank, const struct world *w)
{
    return explained(c, rank, w, false);
}

static int comes_late_body(struct coll *c, int rank, const struct world *w)
{
    return explained(c, rank, w, true);
}

/* What NCCL knows stands on the page while the wait lasts. */
START_TEST(test_coll_device_explained)
{
    struct world w = {.size = 2, .replica = {0, 1}, .timeout_ms = 7000, .kind = "cuda"};
    char address[32];
    uint16_t port = 0;
    struct err e = {0};
    ras = io_listen("127.0.0.1", 0, &port, &e);
    ck_assert_msg(ras >= 0, "%s", e.text);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    setenv("NCCL_RAS_ADDR", address, 1);
    w.timeout_ms = _i ? 60000 : 7000;
    world_run(w, _i ? comes_late_body : stays_away_body);
    io_close(ras);
}
END_TEST

static int device_abort_body(struct coll *c, int rank, const struct world *w)
{
    struct err e = {0};
    pthread_t t;
    void *x;
    if (coll_alloc(c, 4000, &x, &e))
        return 1;
    if (rank == 1) {
        stay_silent(w);
        return 0;
    }
    if (pthread_create(&t, NULL, abort_soon, c))
        return 1;
    int64_t begin_ms = clock_ms();
    int r = reduce(c, x, &e);
    pthread_join(t, NULL);
    if (dev_sync(device, &e))
        return 5;
    return r == -ERR_DRAINED && clock_ms() - begin_ms < 10000 ? 0 : 2;
}

START_TEST(test_coll_device_abort)
{
    struct world w = {.size = 2, .replica = {0, 0}, .kind = "cuda", .staged = _i};
    world_run(w, device_abort_body);
}
END_TEST

/* A rank with another secret, and a stranger that speaks garbage, cannot take a place in the world.
 */
START_TEST(test_coll_secret)
{
    struct world w = {.size = 2, .replica = {0, 1}, .timeout_ms = 1500};
    world_open(&w);
    pid_t honest = fork();
    if (!honest) {
        struct coll *c = NULL;
        struct err e = {0};
        _exit(create(&w, 0, "5ec7e7", &c, &e) ? 0 : 1);
    }
    pid_t forger = fork();
    if (!forger) {
        struct coll *c = NULL;
        struct err e = {0};
        _exit(create(&w, 1, "wrong", &c, &e) ? 0 : 1);
    }
    struct err e = {0};
    int fd = io_connect("127.0.0.1", w.peers[0].port, clock_ms() + 1000, &e);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_send_full(fd, "GET / HTTP/1.0\r\n\r\n", 18, clock_ms() + 1000, &e), 0);
    int status;
    waitpid(honest, &status, 0);
    ck_assert_int_eq(status, 0);
    waitpid(forger, &status, 0);
    ck_assert_int_eq(status, 0);
    io_close(fd);
}
END_TEST

/* A connection from an address of this machine that need not be 127.0.0.1. */
static int call_from(const char *source, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(inet_pton(AF_INET, source, &a.sin_addr), 1);
    ck_assert_int_eq(inet_pton(AF_INET, "127.0.0.1", &to.sin_addr), 1);
    to.sin_port = htons(port);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void expect_world(const struct world *w, int64_t within_ms)
{
    int64_t begin_ms = clock_ms();
    pid_t pid[2];
    for (int r = 0; r < 2; r++)
        pid[r] = start(w, r, others_body);
    for (int r = 0; r < 2; r++) {
        int status;
        waitpid(pid[r], &status, 0);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_int_lt(clock_ms() - begin_ms, within_ms);
}

/* Strangers that connect first and say too little neither break nor delay the world. */
START_TEST(test_coll_stranger)
{
    struct world w = {.size = 2, .replica = {0, 1}};
    world_open(&w);
    struct err e = {0};
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = io_connect("127.0.0.1", w.peers[0].port, clock_ms() + 1000, &e);
        ck_assert_int_ge(fds[i], 0);
    }
    ck_assert_int_eq(io_send_full(fds[1], "llmcoll1", 8, clock_ms() + 1000, &e), 0);
    io_close(fds[2]);
    expect_world(&w, 10000); /* each would be read for 5 s */
    io_close(fds[0]);
    io_close(fds[1]);
    io_close(fds[3]);
}
END_TEST

/* Many more silent connections than there is room for, from an address of the rank table (where
 * each would be read for 5 s) and from another: the world forms as if they were not there. The
 * kind: strangers that hold a place which only a proof should give. */
START_TEST(test_coll_many_strangers)
{
    static const char *const sources[] = {"127.0.0.1", "127.0.0.2"};
    static int fds[600];
    struct world w = {.size = 2, .replica = {0, 1}};
    world_open(&w);
    int n = 0, count = (int)(sizeof fds / sizeof *fds);
    for (; n < count; n++)
        fds[n] = call_from(sources[_i], w.peers[n % 2].port);
    expect_world(&w, 5000);
    while (n)
        io_close(fds[--n]);
}
END_TEST

/* Stands between rank 0 and rank 1, hears a hello that is true, and says it once more by itself. */
static void replay_and_relay(int listener, uint16_t to, int replays)
{
    struct err e = {0};
    char text[512];
    int from = io_accept(listener, clock_ms() + 10000, &e);
    ssize_t n = from < 0 ? -1 : recv(from, text, sizeof text, 0);
    for (int i = 0; i < replays && n > 0; i++) {
        int fd = io_connect("127.0.0.1", to, clock_ms() + 5000, &e);
        if (fd < 0 || io_send_full(fd, text, (size_t)n, clock_ms() + 5000, &e))
            _exit(1);
        char answered; /* it is heard, and challenged, before the true one comes */
        if (recv(fd, &answered, 1, MSG_PEEK) < 0)
            _exit(1);
    }
    int onward = io_connect("127.0.0.1", to, clock_ms() + 5000, &e);
    if (n <= 0 || onward < 0 || io_send_full(onward, text, (size_t)n, clock_ms() + 5000, &e))
        _exit(1);
    struct pollfd p[2] = {{from, POLLIN, 0}, {onward, POLLIN, 0}};
    while (poll(p, 2, 10000) > 0)
        for (int i = 0; i < 2; i++) {
            if (!p[i].revents)
                continue;
            n = recv(p[i].fd, text, sizeof text, MSG_DONTWAIT);
            if (n <= 0 || io_send_full(p[!i].fd, text, (size_t)n, clock_ms() + 5000, &e))
                _exit(0);
        }
    _exit(0);
}

/* A recorded hello proves nothing: its place stays free for who can answer the challenge. */
START_TEST(test_coll_replayed_hello)
{
    struct world w = {.size = 2, .replica = {0, 1}}, told;
    struct err e = {0};
    uint16_t between = 0;
    world_open(&w);
    int listener = io_listen("127.0.0.1", 0, &between, &e);
    ck_assert_int_ge(listener, 0);
    pid_t relay = fork();
    if (!relay)
        replay_and_relay(listener, w.peers[1].port, 3);
    told = w;
    told.peers[1].port = between; /* rank 0 calls it there */
    int64_t begin_ms = clock_ms();
    pid_t pid[2] = {start(&told, 0, others_body), start(&w, 1, others_body)};
    for (int r = 0; r < 2; r++) {
        int status;
        waitpid(pid[r], &status, 0);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_int_lt(clock_ms() - begin_ms, 5000);
    kill(relay, SIGKILL);
    waitpid(relay, NULL, 0);
    io_close(listener);
}
END_TEST

/* The heartbeat page counts and names collectives. */
START_TEST(test_coll_page)
{
    struct world w = {.size = 1, .replica = {0}};
    world_open(&w);
    struct coll *c = NULL;
    struct err e = {0};
    ck_assert_int_eq(create(&w, 0, "5ec7e7", &c, &e), 0);
    float x = 1;
    ck_assert_int_eq(coll_allreduce(c, &x, 1, DTYPE_F32, COLL_SUM, &e), 0);
    ck_assert_uint_eq(atomic_load(&page.collective), 1);
    ck_assert_uint_eq(atomic_load(&page.operation), WIRE_ALLREDUCE);
    ck_assert_uint_eq(atomic_load(&page.in_collective), 0);
    ck_assert_int_eq(coll_barrier(c, &e), 0);
    ck_assert_uint_eq(atomic_load(&page.collective), 2);
    ck_assert_uint_ge(atomic_load(&page.beats), 4);
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
    tcase_add_test(t, test_coll_group_death);
    tcase_add_test(t, test_coll_group_abort);
    tcase_add_loop_test(t, test_coll_silence, 0, 2);
    tcase_add_loop_test(t, test_coll_abort, 0, 2);
    n = sizeof devices / sizeof *devices;
    tcase_add_loop_test(t, test_coll_device_sums, 0, n);
    tcase_add_loop_test(t, test_coll_device_death, 1, n);
    tcase_add_loop_test(t, test_coll_device_groups, 0, 2);
    tcase_add_loop_test(t, test_coll_device_silence, 0, 2);
    tcase_add_loop_test(t, test_coll_device_abort, 0, 2);
    tcase_add_loop_test(t, test_coll_device_explained, 0, 2);
    tcase_add_test(t, test_coll_secret);
    tcase_add_test(t, test_coll_stranger);
    tcase_add_loop_test(t, test_coll_many_strangers, 0, 2);
    tcase_add_test(t, test_coll_replayed_hello);
    tcase_add_test(t, test_coll_page);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
