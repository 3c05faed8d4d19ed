/*
 * Goal: weights that become zero while a model trains stay zero, under every optimizer, whatever
 * the world and the interruptions, and the exported model is exactly as sparse as was asked for.
 * Method: the schedule at its corners; steps of a tiny Llama with each optimizer; short trainings
 * on real ranks: the groups of four of the exported BF16 matrices counted; losses of one and two
 * ranks; a stop between two prunings; a pruned model trained on with its own zeros; what is
 * refused.
 * needs: sample
 */
#include "runtime/train/sparsity.h"

#include "base/io.h"
#include "base/mem.h"
#include "runtime/family/weights.h"
#include "runtime/model/prune.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS 40 /* so many that a request to stop comes long before the last */

static struct err e;

static struct jobspec job(const char *name, enum sparsity_pattern p, double target, int64_t end)
{
    struct jobspec s = training_job(name);
    s.train.steps = STEPS;
    s.train.optimizer.warmup_steps = 2;
    s.train.evaluate_every_steps = 0;
    s.train.sparsity.pattern = p;
    s.train.sparsity.target = target;
    s.train.sparsity.end_step = end;
    s.train.sparsity.every_steps = end ? 3 : 0;
    return s;
}

static struct outcome run(const struct jobspec *s, int size, int incarnation, int stop_after)
{
    struct outcome o = training_run(&(struct training){
        .spec = s, .size = size, .incarnation = incarnation, .stop_after = stop_after});
    enum exit_class want = stop_after ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE;
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == want, "%s", o.message);
    return o;
}

START_TEST(the_share_grows_by_a_cubic)
{
    struct jobspec_train s = {.sparsity = {SPARSITY_UNSTRUCTURED, 0.8, 10, 40, 0}};
    ck_assert_double_eq(sparsity_share(&s, 9), -1);
    ck_assert_double_eq(sparsity_share(&s, 10), 0);
    ck_assert_double_eq(sparsity_share(&s, 15), -1);
    ck_assert_double_eq_tol(sparsity_share(&s, 20), 0.8 * (1 - 8.0 / 27), 1e-15);
    ck_assert_double_eq_tol(sparsity_share(&s, 30), 0.8 * (1 - 1.0 / 27), 1e-15);
    ck_assert_double_eq(sparsity_share(&s, 40), 0.8);
    ck_assert_double_eq(sparsity_share(&s, 41), -1);
    ck_assert_int_eq(sparsity_masks_from(&s), 11);
    s.sparsity.every_steps = 7;
    ck_assert_double_gt(sparsity_share(&s, 38), 0.7);
    ck_assert_double_eq(sparsity_share(&s, 40), 0.8); /* though it is no multiple */
    s = (struct jobspec_train){.sparsity = {.pattern = SPARSITY_2_4}};
    ck_assert_double_eq(sparsity_share(&s, 0), 0.5);
    ck_assert_double_eq(sparsity_share(&s, 1), -1);
    ck_assert_int_eq(sparsity_masks_from(&s), 1);
    s.sparsity.pattern = SPARSITY_SOURCE;
    ck_assert_double_eq(sparsity_share(&s, 0), -1);
    ck_assert_int_eq(sparsity_masks_from(&s), 1);
    s.sparsity.pattern = SPARSITY_NONE;
    ck_assert_int_eq(sparsity_masks_from(&s), 0);
}
END_TEST

/* -- what was exported -- */

static struct weights *open_model(const char *path)
{
    struct weights *w = NULL;
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    return w;
}

/* Calls fn for all matrices that are pruned; returns how many there are. */
static int each_matrix(struct weights *w, struct weights *other,
    void (*fn)(const struct tensor *t, const float *x, const float *y))
{
    struct tensors all;
    int n = 0;
    ck_assert(!tensors_create(weights_config(w), &all, &e));
    for (int i = 0; i < all.count; i++) {
        const struct tensor *t = &all.at[i];
        float *x = mem_array((size_t)t->count, sizeof *x);
        float *y = mem_array((size_t)t->count, sizeof *y);
        int64_t rows = t->shape[0], columns = t->shape[1];
        ck_assert(!weights_read(w, t->name, rows, columns, 0, rows, DTYPE_F32, x, &e));
        if (other)
            ck_assert(!weights_read(other, t->name, rows, columns, 0, rows, DTYPE_F32, y, &e));
        if (prune_takes(t))
            fn(t, x, y);
        else
            ck_assert_int_lt(prune_zeros(x, t->count), t->count / 10 + 1);
        n += prune_takes(t);
        mem_free(x);
        mem_free(y);
    }
    tensors_done(&all);
    return n;
}

static void check_fours(const struct tensor *t, const float *x, const float *y)
{
    (void)y;
    for (int64_t i = 0; i < t->count; i += 4)
        ck_assert_msg(prune_zeros(x + i, 4) == 2, "%s: four at %lld: %lld zeros", t->name,
            (long long)i, (long long)prune_zeros(x + i, 4));
}

static void check_rows(const struct tensor *t, const float *x, const float *y)
{
    (void)y;
    for (int64_t row = 0; row < t->shape[0]; row++)
        ck_assert_int_eq(
            prune_zeros(x + row * t->shape[1], t->shape[1]), llround(0.75 * (double)t->shape[1]));
}

/* The same zeros, other numbers. */
static void check_same_zeros(const struct tensor *t, const float *x, const float *y)
{
    int64_t others = 0;
    for (int64_t i = 0; i < t->count; i++) {
        ck_assert_int_eq(x[i] == 0, y[i] == 0);
        others += x[i] != y[i];
    }
    ck_assert_int_gt(others, t->count / 4);
}

static void check_output(
    void (*fn)(const struct tensor *t, const float *x, const float *y), struct weights *other)
{
    struct weights *w = open_model(training_path("output"));
    ck_assert_int_eq(each_matrix(w, other, fn), 14);
    weights_close(w);
}

#define TINY_STEPS 12

/* Steps of a pass, without a world; growing to the half, in groups of four, until the
   seventh. */
static void train_tiny(struct dev *d, enum optimizer_name name, enum dtype t)
{
    static int32_t ids[TINY_B * TINY_T], targets[TINY_B * TINY_T];
    const struct pass_input in = {.ids = ids, .targets = targets};
    struct jobspec_train spec = {.sparsity = {SPARSITY_2_4, 0, 2, 7, 2}};
    struct model_conf c = {.config = tiny_config(true), .t = t, .train = true, .seed = 1};
    struct optim_conf oc = {.name = name, .learning_rate = 0.01, .weight_decay = 0.1};
    struct sparsity *sparsity = NULL;
    struct optim *o;
    double zeros = 0, loss;
    c.micro_sequences = TINY_B;
    c.sequence_length = TINY_T;
    oc.beta1 = oc.momentum = 0.9;
    oc.beta2 = 0.99;
    oc.epsilon = 1e-8;
    oc.steps = TINY_STEPS;
    oc.masks_from = sparsity_masks_from(&spec);
    struct pass *pass = tiny_pass(d, &c);
    struct model *m = pass_model(pass);
    tiny_fill(d, m, 1);
    ck_assert(!optim_create(d, &oc, pass, &o, &e));
    ck_assert(!sparsity_create(&spec, d, m, o, NULL, &sparsity, &e));
    for (int step = 1; step <= TINY_STEPS; step++) {
        for (int i = 0; i < TINY_B * TINY_T; i++)
            ids[i] = targets[i] = (i * 7 + step) % 29;
        pass_zero_gradient(pass);
        ck_assert(!pass_step(pass, TINY_B, &in, 0.01f, true, &loss, &e));
        ck_assert(!optim_step(o, step, NULL, &e));
        ck_assert(!sparsity_prune(sparsity, step, &zeros, &e));
        ck_assert_msg((zeros >= 0) == (step >= 2 && step <= 7 && (step % 2 == 0 || step == 7)),
            "step %d: %g", step, zeros);
    }
    ck_assert(isfinite(loss));
    ck_assert(!sparsity_measure(sparsity, &zeros, &e));
    ck_assert_double_eq(zeros, 0.5);
    const struct tensors *all = model_trained(m);
    for (int i = 0; i < all->count; i++) {
        const struct tensor *p = &all->at[i];
        mem_autofree float *x = mem_array((size_t)p->count, sizeof *x);
        ck_assert(!model_read(m, p->name, false, x, p->count, &e));
        if (prune_takes(p))
            check_fours(p, x, NULL);
        const uint16_t *copy = model_compute_copy(m);
        for (int64_t k = 0; copy && k < p->count; k++)
            ck_assert_int_eq(copy[p->offset + k], f32_to_bf16(x[k]));
    }
    sparsity_destroy(sparsity);
    optim_destroy(o);
    tiny_pass_close(pass);
}

static enum optimizer_name const optimizers[] = {
    OPTIMIZER_ADAMW, OPTIMIZER_SGD, OPTIMIZER_LION, OPTIMIZER_ADAFACTOR, OPTIMIZER_MUON};

START_TEST(two_of_four_are_zero_under_every_optimizer)
{
    struct dev *d;
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), 0);
    for (int i = 0; i < 5; i++)
        train_tiny(d, optimizers[i], i % 2 ? DTYPE_F32 : DTYPE_BF16);
    dev_close(d);
}
END_TEST

START_TEST(neither_world_nor_interruption_shows)
{
    struct jobspec one = job("one", SPARSITY_UNSTRUCTURED, 0.75, 8);
    struct jobspec two = job("two", SPARSITY_UNSTRUCTURED, 0.75, 8);
    struct jobspec cut = job("cut", SPARSITY_UNSTRUCTURED, 0.75, 8);
    struct outcome a = run(&one, 1, 1, 0), b = run(&two, 2, 1, 0);
    check_output(check_rows, NULL);
    ck_assert(
        !io_rename(training_path("output/model.safetensors"), training_path("straight.out"), &e));
    struct outcome c = run(&cut, 2, 1, 4);
    ck_assert(c.last >= 5 && c.last < STEPS);
    c = run(&cut, 2, 2, 0);
    for (int k = 1; k <= STEPS; k++) {
        ck_assert_msg(fabs(b.loss[k] / a.loss[k] - 1) < 1e-5,
            "two ranks, step %d: %.9g, one rank %.9g", k, b.loss[k], a.loss[k]);
        ck_assert(k < c.first || c.loss[k] == b.loss[k]);
    }
    training_same_checkpoints("two", "cut");
    training_same_files(training_path("straight.out"), training_path("output/model.safetensors"));
    cut.train.sparsity.target = 0.5;
    c = training_run(&(struct training){.spec = &cut, .size = 1, .incarnation = 3});
    ck_assert_int_eq(c.exit[0], EXIT_CLASS_USER); /* that is another training */
    ck_assert_msg(strstr(c.message, "spec.train.sparsity.target: 0.75"), "%s", c.message);
}
END_TEST

START_TEST(a_pruned_source_keeps_its_zeros)
{
    struct jobspec s = job("first", SPARSITY_2_4, 0, 0);
    char pruned[128];
    s.precision = PRECISION_BF16;
    s.train.steps = 6;
    run(&s, 1, 1, 0);
    check_output(check_fours, NULL);
    snprintf(pruned, sizeof pruned, "%s", training_path("pruned"));
    ck_assert(!io_rename(training_path("output"), pruned, &e));
    s = job("second", SPARSITY_SOURCE, 0, 0);
    s.train.steps = 6;
    s.model.source = pruned;
    s.model.init = INIT_PRETRAINED;
    run(&s, 1, 1, 0);
    struct weights *w = open_model(pruned);
    check_output(check_same_zeros, w);
    weights_close(w);
}
END_TEST

static void refused(const struct jobspec *s, const char *says)
{
    struct outcome o = training_run(&(struct training){.spec = s, .size = 1, .incarnation = 1});
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_msg(strstr(o.message, says), "%s", o.message);
}

START_TEST(what_cannot_be_is_refused)
{
    struct jobspec s = job("refused", SPARSITY_SOURCE, 0, 0);
    refused(&s, "spec.train.sparsity.pattern: Source, but no matrix of spec.model's layers has a");
    s = job("refused", SPARSITY_UNSTRUCTURED, 0.5, 5000);
    s.train.steps = 0;
    s.train.epochs = 0.5;
    refused(&s, "spec.train.sparsity.endStep: 5000, but the training has");
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){.name = "sparsity",
                                .timeout_s = 120,
                                .setup = training_setup,
                                .done = training_teardown},
        (const TTest *const[]){the_share_grows_by_a_cubic,
            two_of_four_are_zero_under_every_optimizer, neither_world_nor_interruption_shows,
            a_pruned_source_keeps_its_zeros, what_cannot_be_is_refused, NULL});
}
