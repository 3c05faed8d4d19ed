/*
 * Goal: sums of gradients that cross in fewer bytes are the same everywhere and always, lose
 * nothing for good in Int8, and train as well. Method: real ranks, in one pod and in several, sum
 * up known numbers, beside F64; many sums of the same gradient, which on average are right only
 * where errors are fed back; a gradient that is not finite; bytes counted beside those of an
 * all-reduce, of pods of one rank and of two. Then whole trainings: twice, cut and gone on with, in
 * other worlds, beside FP32.
 * needs: sample
 */
#include "runtime/train/exchange.h"

#include "base/io.h"
#include "base/mem.h"
#include "tests/far.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>
#include <stdarg.h>

#define STEPS 24

static struct err e;

/* -- sums -- */

/* From a rank, whose end leaves buffers as they are. */
static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("  ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
}

#define SUMS  40
#define COUNT 70003                   /* of the last slice, not even a block */
#define MANY  ((4 << 20) + (1 << 19)) /* more than one piece */

static enum gradients type;
static bool pods_of_two;

/* Of very different sizes in one block. */
static float value(int rank, int64_t i)
{
    return ranks_value(rank, i) * (i % 7 == 0 ? 1.0f : i % 7 == 1 ? 0.01f : 0.2f);
}

static float *numbers(int rank, int64_t count)
{
    float *g = mem_array((size_t)count, sizeof *g);
    for (int64_t i = 0; i < count && g; i++)
        g[i] = value(rank, i);
    return g;
}

static struct exchange *open_exchange(struct coll *c, int rank, const struct ranks *w, int64_t n)
{
    struct exchange *x = NULL;
    const struct exchange_conf conf = {type, n, w->size, rank, pods_of_two ? 2 : 1};
    return exchange_create(ranks_device, c, &conf, &x, &e) ? NULL : x;
}

/* The greatest distance of the mean of so many sums from what it should be, over the greatest
   number; negative: not the same everywhere. */
static double distance(struct coll *c, int rank, const struct ranks *w, int64_t count, int sums)
{
    mem_autofree float *g = mem_array((size_t)count, sizeof *g);
    mem_autofree float *own = numbers(rank, count);
    mem_autofree double *mean = mem_array((size_t)count, sizeof *mean);
    struct exchange *x = open_exchange(c, rank, w, count);
    double most = 0, top = 0;
    bool same = x != NULL;
    for (int k = 0; k < sums && same; k++) {
        memcpy(g, own, (size_t)count * sizeof *g);
        same = !exchange_reduce(x, g, &e) && !coll_reduce_wait(c, &e) &&
            ranks_same(c, g, (size_t)count * sizeof *g, w);
        for (int64_t i = 0; i < count; i++)
            mean[i] += (double)g[i] / sums;
    }
    for (int64_t i = 0; i < count; i++) {
        double want = 0;
        for (int r = 0; r < w->size; r++)
            want += (double)value(r, i);
        most = farther(most, fabs(mean[i] - want));
        top = fmax(top, fabs(want));
    }
    exchange_destroy(x);
    return same ? most / top : -1;
}

static int sums_body(struct coll *c, int rank, const struct ranks *w)
{
    double once = distance(c, rank, w, COUNT, 1);
    double often = type == GRADIENTS_INT8 ? distance(c, rank, w, COUNT, SUMS) : 0;
    double few = distance(c, rank, w, 5, 2);
    if (!rank)
        say("type %d, %d ranks: off by %.2g, the mean of %d by %.2g", type, w->size, once, SUMS,
            often);
    if (once < 0 || often < 0 || few < 0)
        return 1;
    if (once > (type == GRADIENTS_INT8 ? 0.04 : 0.01) || few > 0.04)
        return 2;
    return often < 0.001 ? 0 : 3; /* once / SUMS, and some */
}

static const struct ranks worlds[] = {{.size = 2, .kind = "cpu"},
    {.size = 2, .replica = {0, 1}, .kind = "cpu"}, {.size = 3, .replica = {0, 0, 1}, .kind = "cpu"},
    {.size = 4, .replica = {0, 1, 2, 3}, .kind = "cpu"}};

START_TEST(sums_are_right_and_the_same_everywhere)
{
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++)
        for (type = GRADIENTS_BF16; type <= GRADIENTS_INT8; type++)
            ranks_run(worlds[i], sums_body);
    pods_of_two = true;
    for (type = GRADIENTS_BF16; type <= GRADIENTS_INT8; type++)
        ranks_run((struct ranks){.size = 4, .replica = {0, 0, 1, 1}, .kind = "cpu"}, sums_body);
}
END_TEST

static int pieces_body(struct coll *c, int rank, const struct ranks *w)
{
    double off = distance(c, rank, w, MANY, 1);
    return off >= 0 && off < 0.04 ? 0 : 1;
}

START_TEST(long_gradients_go_in_pieces)
{
    type = GRADIENTS_INT8;
    ranks_run(worlds[1], pieces_body);
}
END_TEST

/* The last rank's gradient has one such number; everyone must see it. */
static int infinite_body(struct coll *c, int rank, const struct ranks *w)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3; k++) {
        mem_autofree float *g = numbers(rank, COUNT);
        struct exchange *x = open_exchange(c, rank, w, COUNT);
        double squares = 0;
        if (rank + 1 == w->size)
            g[k * COUNT / 4 + 3] = bad[k];
        if (!x || exchange_reduce(x, g, &e) || coll_reduce_wait(c, &e))
            return 1;
        for (int64_t i = 0; i < COUNT; i++)
            squares += (double)g[i] * (double)g[i];
        exchange_destroy(x);
        if (isfinite(squares))
            return 2 + k;
    }
    return 0;
}

START_TEST(what_is_not_finite_is_seen_by_all)
{
    for (type = GRADIENTS_BF16; type <= GRADIENTS_INT8; type++)
        ranks_run(worlds[2], infinite_body);
}
END_TEST

static int bytes_body(struct coll *c, int rank, const struct ranks *w)
{
    mem_autofree float *g = numbers(rank, COUNT);
    struct exchange *x = open_exchange(c, rank, w, COUNT);
    int64_t before = coll_sent_bytes(c), whole, small;
    if (!x || coll_reduce_start(c, g, COUNT, DTYPE_F32, COLL_SUM, &e))
        return 1;
    whole = coll_sent_bytes(c) - before;
    if (exchange_reduce(x, g, &e))
        return 2;
    small = coll_sent_bytes(c) - before - whole;
    exchange_destroy(x);
    int64_t of_pods[2] = {whole, small}, all[2 * 4];
    if (coll_allgather(c, of_pods, sizeof of_pods, all, &e))
        return 4;
    for (int i = 1; i < w->size; i++) {
        all[0] += all[2 * i];
        all[1] += all[2 * i + 1];
    }
    double less = (double)all[0] / (double)all[1];
    if (!rank)
        say("type %d, %d ranks of two pods: %lld bytes, in F32 %lld: %.3f times less", type,
            w->size, (long long)all[1], (long long)all[0], less);
    return less > (type == GRADIENTS_INT8 ? 3.9 : 1.99) ? 0 : 3;
}

START_TEST(less_crosses)
{
    for (type = GRADIENTS_BF16; type <= GRADIENTS_INT8; type++)
        ranks_run(worlds[1], bytes_body);
    pods_of_two = true;
    for (type = GRADIENTS_BF16; type <= GRADIENTS_INT8; type++)
        ranks_run((struct ranks){.size = 4, .replica = {0, 0, 1, 1}, .kind = "cpu"}, bytes_body);
}
END_TEST

/* 4 bytes an element in each pod, and as much of its part; and two buffers, which do not grow. */
START_TEST(what_it_takes)
{
    struct exchange_conf c = {GRADIENTS_INT8, 100000000, 4, 0, 1};
    int64_t bytes = exchange_bytes(&c), buffers = (int64_t)2 * 4 * (1 << 20) * 260 / 256 + 8192;
    ck_assert(bytes >= 5 * c.elements && bytes <= 5 * c.elements + buffers);
    c.ranks = 16;
    c.per_pod = 4;
    ck_assert_int_le(exchange_bytes(&c), 5 * c.elements / 4 + buffers);
    c.type = GRADIENTS_BF16;
    ck_assert_int_le(exchange_bytes(&c), 2 * buffers);
    c.type = GRADIENTS_FP32;
    ck_assert_int_eq(exchange_bytes(&c), 0);
    c = (struct exchange_conf){GRADIENTS_INT8, 1000, 4, 0, 4};
    ck_assert_int_eq(exchange_bytes(&c), 0);
}
END_TEST

/* -- whole trainings -- */

static struct jobspec job(const char *run, enum gradients gradients)
{
    struct jobspec s = training_job(run);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.train.communication.gradients = gradients;
    return s;
}

static void near(const struct outcome *a, const struct outcome *b, double most, const char *what)
{
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(
            most > 0 ? fabs(a->loss[k] / b->loss[k] - 1) <= most : a->loss[k] == b->loss[k],
            "%s, step %d: %.17g, not %.17g", what, k, a->loss[k], b->loss[k]);
}

static struct outcome go_on(struct outcome *all, const struct jobspec *s, int size, int pod,
    int incarnation, int stop_after)
{
    struct outcome o = training_run(&(struct training){
        .spec = s, .size = size, .incarnation = incarnation, .stop_after = stop_after, .pod = pod});
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == (stop_after ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE),
            "rank %d: class %d, %s", i, o.exit[i], o.message);
    for (int k = o.first; k <= o.last; k++)
        all->loss[k] = o.loss[k];
    return o;
}

/* Each rank is a pod. */
static struct outcome run_whole(const struct jobspec *s, int size)
{
    struct outcome o = {0};
    return go_on(&o, s, size, 1, 1, 0);
}

/* What crosses within a pod is F32. */
START_TEST(one_pod_is_as_it_was)
{
    struct jobspec whole = job("whole", GRADIENTS_FP32), codes = job("codes", GRADIENTS_INT8);
    struct outcome a = training_run_whole(&whole, 2), b = training_run_whole(&codes, 2);
    near(&b, &a, 0, "one pod");
    ck_assert_int_eq(b.memory_bytes, a.memory_bytes);
}
END_TEST

START_TEST(every_run_learns_the_same)
{
    struct jobspec whole = job("whole", GRADIENTS_FP32);
    struct outcome a = run_whole(&whole, 3);
    for (enum gradients g = GRADIENTS_BF16; g <= GRADIENTS_INT8; g++) {
        struct jobspec first = job("first", g), again = job("again", g);
        struct outcome b = run_whole(&first, 3), c = run_whole(&again, 3);
        near(&c, &b, 0, "again");
        training_same_checkpoints("first", "again");
        near(&b, &a, g == GRADIENTS_INT8 ? 5e-3 : 1e-3, "beside FP32");
        ck_assert(b.loss[STEPS] != a.loss[STEPS]);
        ck_assert_int_gt(b.memory_bytes, a.memory_bytes);
        golden_remove(training_path("first"));
        golden_remove(training_path("again"));
    }
}
END_TEST

START_TEST(a_cut_training_goes_on_to_the_bit)
{
    struct jobspec straight = job("straight", GRADIENTS_INT8), cut = job("cut", GRADIENTS_INT8);
    struct jobspec worlds_job = job("worlds", GRADIENTS_INT8);
    struct outcome a = run_whole(&straight, 2), b = {0}, c = {0};
    go_on(&b, &cut, 2, 1, 1, 3);
    go_on(&b, &cut, 2, 1, 2, 0);
    near(&b, &a, 0, "cut");
    training_same_checkpoints("straight", "cut");
    go_on(&c, &worlds_job, 2, 1, 1, 2);
    go_on(&c, &worlds_job, 3, 1, 2, 6);
    go_on(&c, &worlds_job, 4, 2, 3, 10);
    go_on(&c, &worlds_job, 1, 1, 4, 14);
    go_on(&c, &worlds_job, 2, 1, 5, 0);
    near(&c, &a, 5e-3, "worlds of 2, 3, 4 in pods of two, 1 and 2");
}
END_TEST

static void use_bf16_adapters(struct jobspec *s)
{
    training_lora(s);
    s->precision = PRECISION_BF16;
    s->train.optimizer.state = OPTIMIZER_STATE_BF16;
}

static void use_sparsity(struct jobspec *s)
{
    s->train.sparsity.pattern = SPARSITY_2_4;
    s->train.sparsity.start_step = s->train.sparsity.end_step = 4;
}

START_TEST(what_goes_together_trains)
{
    void (*const changes[])(struct jobspec *) = {use_bf16_adapters, use_sparsity};
    for (int i = 0; i < 2; i++) {
        struct jobspec whole = job("whole", GRADIENTS_FP32), small = job("small", GRADIENTS_INT8);
        changes[i](&whole);
        changes[i](&small);
        struct outcome a = run_whole(&whole, 2), b = run_whole(&small, 2);
        near(&b, &a, 5e-3, "beside FP32");
        golden_remove(training_path("whole"));
        golden_remove(training_path("small"));
        golden_remove(training_path("output"));
    }
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"exchange", 120, training_setup, training_teardown},
        (const TTest *const[]){sums_are_right_and_the_same_everywhere, long_gradients_go_in_pieces,
            what_is_not_finite_is_seen_by_all, less_crosses, what_it_takes, one_pod_is_as_it_was,
            every_run_learns_the_same, a_cut_training_goes_on_to_the_bit, what_goes_together_trains,
            NULL});
}
