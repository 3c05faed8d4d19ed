/*
 * speed: each figure is the best of repeated runs, for what disturbs only ever slows. Ranks measure
 * at once, as they will compute.
 */
#include "runtime/train/speed.h"

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/ops.h"

#include <math.h>
#include <string.h>

#define SIZE_LEAST  256 /* of a square matrix */
#define SIZE_HOST   2048
#define SIZE_DEVICE 4096
#define ROUND_MS    5 /* of one run, at least */
#define ROUNDS      3
#define COPY_BYTES  (16 << 20)
#define SUM_BYTES   (4 << 20)
#define SUMS        4 /* of no bytes to speak of, in a run */

#define FIGURES 6 /* as doubles, the greater the slower */
#define OWN     7 /* and of the rank's own: its link */
#define PAIRED  4 /* members whose links can be told apart, at least */

struct bench {
    const struct speed_world *w;
    enum dtype t;
    int64_t size, most;
    void *a, *b, *c;
};

typedef int bench_fn(struct bench *x, int times, struct err *e);

static bool is_nccl(const struct speed_world *w)
{
    return !strcmp(coll_transport(w->coll), "nccl");
}

/* *seconds: of one time. */
static int time_device(struct bench *x, bench_fn *run, double *seconds, struct err *e)
{
    double best = INFINITY;
    int times = 1, rc = run(x, 1, e);
    for (int i = 0; i < ROUNDS && !rc;) {
        int64_t start_ns = clock_ns();
        rc = run(x, times, e);
        int64_t ns = clock_ns() - start_ns;
        if (ns < ROUND_MS * 1000000 && times < 1 << 20) {
            times *= 2;
            continue;
        }
        best = fmin(best, 1e-9 * (double)ns / times);
        i++;
    }
    *seconds = best;
    return rc;
}

static int run_products(struct bench *x, int times, struct err *e)
{
    const struct op_matmul g = {.m = x->size,
        .n = x->size,
        .k = x->size,
        .a = x->a,
        .b = x->b,
        .c = x->c,
        .lda = x->size,
        .ldb = x->size,
        .ldc = x->size,
        .tb = true,
        .ab_type = x->t,
        .c_type = x->t,
        .alpha = 1};
    for (int i = 0; i < times; i++)
        dev_ops(x->w->dev)->matmul(x->w->dev, &g);
    return dev_sync(x->w->dev, e);
}

static int run_copies(struct bench *x, int times, struct err *e)
{
    for (int i = 0; i < times; i++)
        dev_copy(x->w->dev, x->b, x->a, COPY_BYTES);
    return dev_sync(x->w->dev, e);
}

static int sum_once(struct bench *x, struct coll *c, int64_t bytes, struct err *e)
{
    int rc = coll_reduce_start(c, x->c, bytes / 4, DTYPE_F32, COLL_SUM, e);
    if (rc)
        return rc;
    coll_reduce_join(c);
    rc = coll_reduce_wait(c, e);
    return rc ? rc : dev_sync(x->w->dev, e);
}

/* All ranks make the same sums: how often hangs on no clock. */
static int time_link(struct bench *x, struct coll *c, int ranks, double *figures, struct err *e)
{
    double none = INFINITY, full = INFINITY;
    int rc = sum_once(x, c, SUM_BYTES, e);
    for (int i = 0; i < ROUNDS && !rc; i++) {
        int64_t start_ns = clock_ns();
        for (int k = 0; k < SUMS && !rc; k++)
            rc = sum_once(x, c, 4, e);
        int64_t middle_ns = clock_ns();
        rc = rc ? rc : sum_once(x, c, SUM_BYTES, e);
        none = fmin(none, 1e-9 * (double)(middle_ns - start_ns) / SUMS);
        full = fmin(full, 1e-9 * (double)(clock_ns() - middle_ns));
    }
    double bytes = 2.0 * (ranks - 1) / ranks * SUM_BYTES;
    figures[0] = none > 0 ? none : 1e-6;
    figures[1] = (full > 2 * none ? full - none : full) / bytes;
    return rc;
}

/* Nothing is faster than that. */
static double step_of(double seconds, double steps)
{
    return steps > 0 && seconds > steps * 1e-7 ? seconds / steps : 1e-7;
}

/* Of a world in one pod both are the same, and where pods have one rank each; else the neighbours
   of a pod are an axis of their own. Sums of nothing take what steps there are. */
static int time_links(struct bench *x, double *inside, double *between, struct err *e)
{
    const struct speed_world *w = x->w;
    const struct cost_speed how = {.trees = is_nccl(w)};
    int pod = w->pod_ranks > 1 ? w->pod_ranks : 1, pods = w->world / pod;
    int rc = time_link(x, w->coll, w->world, between, e);
    struct cost_steps steps = how.trees ? cost_tree(pod, pods) : cost_ring(&how, pod, pods);
    inside[0] = step_of(between[0], steps.inside + steps.between);
    inside[1] = between[1];
    if (pod == 1 || pods == 1)
        between[0] = inside[0];
    if (rc || pod == 1 || pods == 1)
        return rc;
    const struct layout l = {.dp = w->world / pod, .tp = pod, .pp = 1, .cp = 1, .ep = 1};
    const struct layout_group g = layout_group(&l, w->rank, LAYOUT_TENSOR);
    struct coll *near;
    if ((rc = coll_group(w->coll, &g, &near, e)) || (rc = time_link(x, near, pod, inside, e)))
        return rc;
    inside[0] = step_of(inside[0], steps.inside);
    between[0] = step_of(between[0] - inside[0] * steps.inside, steps.between);
    between[1] *= pod; /* the world's ring leaves a pod once, with all of its ranks' share */
    return 0;
}

/* Sums of two, with one member and then with another, and the better of both: who has a slow link
   is slow with both. Members are pods, or the ranks of the only one; 0: they are no pairs. */
static int time_pairs(struct bench *x, double *figure, struct err *e)
{
    const struct speed_world *w = x->w;
    int pod = w->pod_ranks > 1 && w->pod_ranks < w->world ? w->pod_ranks : 1;
    int members = w->world / pod, rc = 0;
    double best = INFINITY;
    *figure = 0;
    if (members < PAIRED || members % 2)
        return 0;
    for (int i = 0; i < 2 && !rc; i++) {
        int apart = i ? w->world / 2 : pod;
        const struct layout l = {
            .dp = w->world / apart / 2, .tp = apart, .pp = 1, .cp = 2, .ep = 1};
        const struct layout_group g = layout_group(&l, w->rank, LAYOUT_CONTEXT);
        struct coll *two;
        double link[2] = {0};
        if (!(rc = coll_group(w->coll, &g, &two, e)) && !(rc = time_link(x, two, 2, link, e)))
            best = fmin(best, link[1]);
    }
    *figure = best;
    return rc;
}

static int open_bench(struct bench *x, struct err *e)
{
    struct dev_info info;
    dev_describe(x->w->dev, &info);
    x->size = SIZE_LEAST;
    x->most = info.host_readable ? SIZE_HOST : SIZE_DEVICE;
    size_t matrix = (size_t)(x->most * x->most * 4);
    size_t bytes = matrix > COPY_BYTES ? matrix : COPY_BYTES;
    int rc;
    if ((rc = dev_alloc(x->w->dev, bytes, &x->a, e)) ||
        (rc = dev_alloc(x->w->dev, bytes, &x->b, e)))
        return rc;
    if ((rc = dev_alloc(x->w->dev, matrix > SUM_BYTES ? matrix : SUM_BYTES, &x->c, e)))
        return rc;
    /* What nobody has written may be no memory yet, and is read in no time. */
    dev_zero(x->w->dev, x->a, bytes);
    dev_zero(x->w->dev, x->b, bytes);
    return dev_sync(x->w->dev, e);
}

/* *seconds: of an operation of products that are as large as need be to take their time. */
static int time_products(struct bench *x, double *seconds, struct err *e)
{
    for (;;) {
        double one;
        int rc = time_device(x, run_products, &one, e);
        if (rc)
            return rc;
        double size = (double)x->size;
        *seconds = one / (2 * size * size * size);
        if (1000 * one >= ROUND_MS || x->size * 2 > x->most)
            return 0;
        x->size *= 2;
    }
}

static int measure_own(struct bench *x, bool pairs, double *figures, struct err *e)
{
    double copy;
    int rc = open_bench(x, e);
    if (rc || (rc = time_products(x, &figures[0], e)) ||
        (rc = time_device(x, run_copies, &copy, e)) ||
        (rc = time_links(x, figures + 2, figures + 4, e)) ||
        (pairs && (rc = time_pairs(x, figures + FIGURES, e))))
        return rc;
    figures[1] = copy / (2.0 * COPY_BYTES);
    return 0;
}

static double rounded(double figure)
{
    return exp2(round(log2(figure)));
}

/* figures become the slowest of all. */
static int agree(
    const struct speed_world *w, double *figures, struct speed_rank *each, struct err *e)
{
    mem_autofree double *all = mem_array((size_t)w->world, OWN * sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory to compare %d ranks", w->world);
    int rc = coll_allgather(w->coll, figures, OWN * sizeof *figures, all, e);
    for (int i = 0; i < w->world * OWN && !rc; i++)
        figures[i % OWN] = fmax(figures[i % OWN], all[i]);
    for (int i = 0; i < w->world && each && !rc; i++)
        each[i] = (struct speed_rank){.flops_per_s = 1 / all[i * OWN],
            .memory_bytes_per_s = 1 / all[i * OWN + 1],
            .link_bytes_per_s = all[i * OWN + FIGURES] > 0 ? 1 / all[i * OWN + FIGURES] : 0};
    return rc;
}

int speed_measure(const struct speed_world *w, enum dtype t, struct speed_rank *each,
    struct cost_speed *out, struct err *e)
{
    struct bench x = {.w = w, .t = t};
    struct dev_info info;
    double f[OWN] = {0};
    dev_describe(w->dev, &info);
    int rc = measure_own(&x, each, f, e);
    dev_free(w->dev, x.a);
    dev_free(w->dev, x.b);
    dev_free(w->dev, x.c);
    if (rc || (rc = agree(w, f, each, e)))
        return rc;
    for (int i = 0; i < FIGURES; i++)
        f[i] = rounded(f[i]);
    *out = (struct cost_speed){.flops_per_s = 1 / f[0],
        .memory_bytes_per_s = 1 / f[1],
        .inside = {.latency_s = f[2], .bytes_per_s = 1 / f[3]},
        .between = {.latency_s = f[4], .bytes_per_s = 1 / f[5]},
        .pod_ranks = w->pod_ranks,
        .trees = is_nccl(w),
        .shared = info.host_readable};
    return 0;
}
