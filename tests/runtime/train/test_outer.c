/*
 * Goal: local steps and outer steps are those of DiLoCo, the same on every rank and in every run,
 * and go on from a checkpoint to the bit. Method: outer steps of two ranks beside the rule in F64;
 * whole trainings: an outer step that changes nothing, beside a training without one; cut between
 * outer steps, in other worlds, with gradients in 8 bits; bytes counted beside every step's sum.
 * needs: sample
 */
#include "runtime/train/outer.h"

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS 24

static struct err e;

/* -- the rule -- */

#define RATE     0.7
#define MOMENTUM 0.9

static double start(int64_t i)
{
    return 0.3 * sin((double)i);
}

/* What a rank's own steps have added by the k-th outer step. */
static double change(int rank, int k, int64_t i)
{
    return 0.01 * cos((double)(i * (rank + 1) + k));
}

static int rule_body(struct coll *c, int rank, const struct ranks *w)
{
    struct model_conf conf = {.config = tiny_wide(),
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 2,
        .coll = c};
    const struct outer_conf outer = {RATE, MOMENTUM, w->size, c, NULL};
    struct pass *pass = tiny_pass(ranks_device, &conf);
    float *m = model_master(pass_model(pass));
    int64_t n = model_trainable(pass_model(pass));
    mem_autofree double *want = mem_array((size_t)n, sizeof *want);
    mem_autofree double *momentum = mem_array((size_t)n, sizeof *momentum);
    struct outer *o;
    for (int64_t i = 0; i < n; i++)
        m[i] = (float)(want[i] = start(i));
    if (outer_create(ranks_device, &outer, pass, &o, &e))
        return 1;
    for (int k = 0; k < 3; k++) {
        for (int64_t i = 0; i < n; i++)
            m[i] += (float)change(rank, k, i);
        if (outer_step(o, &e) || !ranks_same(c, m, (size_t)n * sizeof *m, w))
            return 2;
        for (int64_t i = 0; i < n; i++) {
            double g = -(change(0, k, i) + change(1, k, i)) / 2;
            momentum[i] = MOMENTUM * momentum[i] + g;
            want[i] -= RATE * (g + MOMENTUM * momentum[i]);
            if (!(fabs((double)m[i] - want[i]) <= 1e-6))
                return 3 + k;
        }
    }
    outer_destroy(o);
    tiny_pass_close(pass);
    return 0;
}

START_TEST(an_outer_step_is_nesterovs)
{
    ranks_run((struct ranks){.size = 2, .replica = {0, 1}, .kind = "cpu"}, rule_body);
}
END_TEST

/* -- whole trainings -- */

static struct jobspec job(const char *run, int64_t local_steps)
{
    struct jobspec s = training_job(run);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.train.communication.local_steps = local_steps;
    s.train.communication.outer_learning_rate = RATE;
    s.train.communication.outer_momentum = MOMENTUM;
    return s;
}

static void near(const struct outcome *a, const struct outcome *b, double most, const char *what)
{
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(
            most > 0 ? fabs(a->loss[k] / b->loss[k] - 1) <= most : a->loss[k] == b->loss[k],
            "%s, step %d: %.17g, not %.17g", what, k, a->loss[k], b->loss[k]);
}

/* Of one rank, with rate 1 and no momentum, the shared weights become those that it has. */
START_TEST(alone_it_is_a_training_like_others)
{
    struct jobspec plain = job("plain", 1), local = job("local", 4);
    local.train.communication.outer_learning_rate = 1;
    local.train.communication.outer_momentum = 0;
    struct outcome a = training_run_whole(&plain, 1), b = training_run_whole(&local, 1);
    near(&b, &a, 1e-4, "one rank");
    ck_assert_int_gt(b.memory_bytes, a.memory_bytes);
}
END_TEST

static struct outcome go_on(
    struct outcome *all, const struct jobspec *s, int size, int incarnation, int stop_after)
{
    struct outcome o = training_run(&(struct training){
        .spec = s, .size = size, .incarnation = incarnation, .stop_after = stop_after, .pod = 1});
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == (stop_after ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE),
            "rank %d: class %d, %s", i, o.exit[i], o.message);
    for (int k = o.first; k <= o.last; k++)
        all->loss[k] = o.loss[k];
    return o;
}

/* A request to stop is heard at once and granted at the next outer step. */
static void cut_and_gone_on(enum gradients gradients)
{
    struct jobspec straight = job("straight", 4), cut = job("cut", 4), again = job("again", 4);
    straight.train.communication.gradients = gradients;
    cut.train.communication.gradients = again.train.communication.gradients = gradients;
    struct outcome a = {0}, b = {0}, c = {0};
    go_on(&a, &straight, 2, 1, 0);
    ck_assert_int_eq(go_on(&b, &cut, 2, 1, 2).last % 4, 0);
    ck_assert_int_eq(go_on(&b, &cut, 2, 2, 10).last % 4, 0);
    ck_assert_int_eq(go_on(&b, &cut, 2, 3, 0).last, STEPS);
    near(&b, &a, 0, "cut");
    go_on(&c, &again, 2, 1, 0);
    near(&c, &a, 0, "again");
    ck_assert(
        !io_rename(training_path("output/model.safetensors"), training_path("again.out"), &e));
    training_run(&(struct training){.spec = &cut, .size = 2, .incarnation = 4, .pod = 1});
    training_same_files(training_path("again.out"), training_path("output/model.safetensors"));
    golden_remove(training_path("straight"));
    golden_remove(training_path("cut"));
    golden_remove(training_path("again"));
}

START_TEST(a_cut_training_goes_on_to_the_bit)
{
    cut_and_gone_on(GRADIENTS_FP32);
    cut_and_gone_on(GRADIENTS_INT8);
}
END_TEST

START_TEST(other_worlds_go_on)
{
    struct jobspec straight = job("straight", 2), worlds = job("worlds", 2);
    struct outcome a = training_run_whole(&straight, 2), b = {0};
    go_on(&b, &worlds, 2, 1, 1);
    go_on(&b, &worlds, 3, 2, 7);
    go_on(&b, &worlds, 1, 3, 13);
    go_on(&b, &worlds, 2, 4, 0);
    near(&b, &a, 5e-2, "worlds of 2, 3, 1 and 2");
}
END_TEST

START_TEST(evaluations_are_of_shared_weights)
{
    struct jobspec s = job("evaluated", 4);
    s.train.evaluate_every_steps = 4;
    struct outcome o = training_run_whole(&s, 2);
    ck_assert_int_eq(o.evaluations, 7); /* 0, 4 .. 24 */
    ck_assert(o.validation < o.first_validation);
}
END_TEST

/* Of a rank's own gradient that is not finite all hear. */
START_TEST(what_is_not_finite_ends_it)
{
    struct jobspec s = job("infinite", 4);
    s.train.optimizer.learning_rate = 1e30;
    s.train.optimizer.clip_norm = 0;
    struct outcome o = training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1});
    for (int i = 0; i < 2; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_USER, "rank %d: class %d", i, o.exit[i]);
    ck_assert_msg(strstr(o.message, "is not finite") != NULL, "%s", o.message);
}
END_TEST

START_TEST(adapters_in_bf16_learn)
{
    struct jobspec s = job("adapters", 4);
    struct outcome o = {0};
    training_lora(&s);
    s.precision = PRECISION_BF16;
    s.train.optimizer.learning_rate = 1e-2;
    s.train.communication.gradients = GRADIENTS_BF16;
    go_on(&o, &s, 3, 1, 0);
    ck_assert_msg(o.loss[STEPS] < 0.99 * o.loss[1], "%g, %g", o.loss[1], o.loss[STEPS]);
}
END_TEST

/* What rank 0 sent of steps 2 .. 33: two whole rounds of sixteen. */
static double sent(int64_t local_steps)
{
    struct jobspec s = job("sent", local_steps);
    buf_auto struct buf text;
    double sum = 0;
    s.train.steps = 34;
    struct outcome o =
        training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1, .pod = 1});
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(training_path("sent/metrics.jsonl"), 1 << 20, &text, &e));
    for (char *left, *line = strtok_r(text.data, "\n", &left); line;
         line = strtok_r(NULL, "\n", &left)) {
        json_auto struct json *v = NULL;
        ck_assert_msg(!json_parse(line, strlen(line), &v, &e), "%s", line);
        int64_t step = json_int(v, "step", 0);
        if (step >= 2 && step <= 33)
            sum += json_num(v, "sentBytes", 0);
    }
    golden_remove(training_path("sent"));
    return sum;
}

START_TEST(sixteen_times_less_crosses)
{
    double every = sent(1), local = sent(16);
    printf("  32 steps: %.0f bytes, %.0f with 16 local steps: %.2f times less\n", every, local,
        every / local);
    ck_assert(every / local > 15 && every / local < 16);
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"outer", 120, training_setup, training_teardown},
        (const TTest *const[]){an_outer_step_is_nesterovs, alone_it_is_a_training_like_others,
            a_cut_training_goes_on_to_the_bit, other_worlds_go_on,
            evaluations_are_of_shared_weights, what_is_not_finite_ends_it, adapters_in_bf16_learn,
            sixteen_times_less_crosses, NULL});
}
