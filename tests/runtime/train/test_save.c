/*
 * Goal: a save behind the training is the one that the training waits for: the same files, to the
 * byte, of the same steps, whatever is trained; the training goes on while it is written; what
 * comes next, a stop and the end wait for it; a rank that dies before it is committed costs that
 * generation alone; what fails is told in the same words; and without memory for a copy, or where
 * nobody wants it, the training waits. Method: trainings both ways, their folders compared; the
 * folder's lock held from outside, so that nothing can be committed.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/buf.h"
#include "base/io.h"
#include "runtime/ckpt/folder.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <dirent.h>
#include <unistd.h>

#define STEPS 8
#define EVERY 2

static struct err e;

static struct jobspec job(const char *run)
{
    struct jobspec s = training_job(run);
    s.train.steps = STEPS;
    s.train.optimizer.warmup_steps = 2;
    s.train.evaluate_every_steps = 0;
    s.checkpoint.every_steps = EVERY;
    s.checkpoint.keep = 100;
    return s;
}

/* -- the same files -- */

static void zero(struct jobspec *s)
{
    s->parallelism.zero_stage = 3;
}

static void tensor(struct jobspec *s)
{
    s->parallelism.tensor = 2;
}

static void narrow(struct jobspec *s)
{
    s->precision = PRECISION_FP16;
    s->train.optimizer.name = OPTIMIZER_MUON;
    s->train.optimizer.momentum = 0.9;
}

static void local(struct jobspec *s)
{
    s->train.communication.local_steps = EVERY;
    s->train.communication.outer_learning_rate = 0.7;
    s->train.communication.outer_momentum = 0.9;
    s->train.communication.gradients = GRADIENTS_INT8;
}

static void coded(struct jobspec *s)
{
    s->train.communication.gradients = GRADIENTS_INT8;
    s->train.optimizer.state = OPTIMIZER_STATE_INT8;
}

static void adaptive(struct jobspec *s)
{
    training_lora(s);
    s->train.lora.adalora.initial_rank = 6;
    s->train.lora.adalora.interval = 1;
    s->train.lora.adalora.beta1 = s->train.lora.adalora.beta2 = 0.85;
    s->train.lora.adalora.orthogonal_weight = 0.5;
}

static const struct way {
    const char *name;
    void (*fn)(struct jobspec *s);
    int ranks, pod;
} ways[] = {{"plain", NULL, 2, 2}, {"alone", NULL, 1, 1}, {"zero", zero, 3, 2},
    {"tensor", tensor, 2, 2}, {"narrow", narrow, 2, 1}, {"local", local, 2, 1},
    {"coded", coded, 2, 1}, {"adaptive", adaptive, 2, 2}};

/* A rank's file bears the hash of what it holds; manifests say the same but for their time. */
static void same_generation(const char *a, const char *b, int64_t step)
{
    char at[2][LIMIT_PATH_BYTES], file[2][LIMIT_PATH_BYTES];
    struct ckpt_manifest m[2];
    for (int i = 0; i < 2; i++) {
        const char *path = training_path(i ? b : a);
        ck_assert(!ckpt_folder_step(path, step, at[i], &e));
        ck_assert(!ckpt_folder_manifest(path, step, file[i], &e));
        ck_assert_msg(!ckpt_manifest_read(file[i], &m[i], &e), "%s", e.text);
        m[i].state.written_ms = 0;
        m[i].state.owner[0] = 0;
    }
    ck_assert_int_eq(m[0].state.step, step);
    ck_assert_mem_eq(&m[0].state, &m[1].state, sizeof m[0].state);
    ck_assert_int_eq(m[0].file_count, m[1].file_count);
    for (int i = 0; i < m[0].file_count; i++) {
        ck_assert_str_eq(m[0].files[i].name, m[1].files[i].name);
        for (int k = 0; k < 2; k++)
            ck_assert(!ckpt_folder_path(file[k], &e, "%s/%s", at[k], m[k].files[i].name));
        training_same_files(file[0], file[1]);
    }
    ckpt_manifest_done(&m[0]);
    ckpt_manifest_done(&m[1]);
}

static struct outcome run_way(const struct way *w, const struct jobspec *s)
{
    struct outcome o = training_run(
        &(struct training){.spec = s, .size = w->ranks, .incarnation = 1, .pod = w->pod});
    for (int i = 0; i < w->ranks; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "%s: %s", w->name, o.message);
    ck_assert(o.done && o.last == STEPS);
    return o;
}

static void both_ways(const struct way *w)
{
    struct jobspec waits = job("waits"), behind = job("behind");
    waits.checkpoint.asynchronous = false;
    if (w->fn) {
        w->fn(&waits);
        w->fn(&behind);
    }
    struct outcome a = run_way(w, &waits), b = run_way(w, &behind);
    for (int k = EVERY; k <= STEPS; k += EVERY) {
        same_generation("waits", "behind", k);
        ck_assert_msg(a.saved_at[k] == k, "%s: step %d", w->name, k); /* before the next step */
        ck_assert_msg(b.saved_at[k] >= k, "%s: step %d", w->name, k);
        ck_assert(k == STEPS || b.saved_at[k] > k); /* not at the step itself: it was behind */
    }
    for (int k = 1; k <= STEPS; k++)
        ck_assert(a.loss[k] == b.loss[k]);
    ck_assert_int_eq(a.saves, STEPS / EVERY);
    ck_assert_int_eq(b.saves, STEPS / EVERY);
    ck_assert_int_gt(b.memory_bytes, a.memory_bytes); /* the copy */
    golden_remove(training_path("waits"));
    golden_remove(training_path("behind"));
    golden_remove(training_path("output"));
}

START_TEST(the_same_files)
{
    sample_print();
    both_ways(&ways[0]);
    for (size_t i = 1; i < sizeof ways / sizeof *ways; i++)
        if (sample_takes(i))
            both_ways(&ways[i]);
}
END_TEST

/* -- what waits -- */

/* Every step, so that each save waits for the one before, which its commit may not yet have. */
START_TEST(a_next_one_and_a_stop_wait)
{
    struct jobspec s = job("often"), straight = job("straight");
    struct outcome a, b, want;
    s.train.steps = straight.train.steps = 24;
    want = training_run_whole(&straight, 2);
    s.checkpoint.every_steps = 1;
    a = training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1, .stop_after = 4});
    ck_assert_msg(a.drained && a.exit[1] == EXIT_CLASS_DRAINED, "%s", a.message);
    ck_assert_int_eq(a.saves, a.last);
    ck_assert(a.last >= 5 && a.saved_at[a.last] == a.last);
    for (int k = 1; k < a.last; k++)
        ck_assert_msg(a.saved_at[k] == k + 1, "step %d is saved at %d", k, a.saved_at[k]);
    b = training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 2});
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE, "%s", b.message);
    ck_assert_int_eq(b.first, a.last + 1);
    for (int k = b.first; k <= b.last; k++)
        ck_assert(b.loss[k] == want.loss[k]);
    training_same_checkpoints("often", "straight");
}
END_TEST

/* Steps are taken while nothing can be committed; when a rank dies then, the generation is lost,
   and the one before is gone on from, to the bit as if nothing had been. */
START_TEST(a_death_before_the_commit_costs_that_generation)
{
    struct jobspec s = job("killed"), straight = job("straight");
    struct outcome a, b, want;
    s.train.steps = straight.train.steps = TRAINING_STEPS;
    s.checkpoint.every_steps = straight.checkpoint.every_steps = 20;
    want = training_run_whole(&straight, 2);
    a = training_run(&(struct training){
        .spec = &s, .size = 2, .incarnation = 1, .pod = 1, .lock_after = 20, .kill_after = 45});
    ck_assert_msg(a.exit[0] == EXIT_CLASS_PEER, "class %d: %s", a.exit[0], a.message);
    ck_assert(a.last >= 45 && a.saved_at[20] && !a.saved_at[40]);
    b = training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 2, .pod = 1});
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE, "%s", b.message);
    ck_assert_int_eq(b.first, 21);
    for (int k = b.first; k <= b.last; k++)
        ck_assert(b.loss[k] == want.loss[k]);
    training_same_checkpoints("killed", "straight");
}
END_TEST

/* -- what fails -- */

static struct outcome in_the_way(bool asynchronous)
{
    struct jobspec s = job("full");
    s.checkpoint.asynchronous = asynchronous;
    s.checkpoint.every_steps = 5; /* and the last save would be another */
    ck_assert(!io_mkdirs(s.checkpoint.path, 0755, &e));
    golden_write(training_path("full/step-00000005"), "a file", 6);
    struct outcome o = training_run(&(struct training){.spec = &s, .size = 1, .incarnation = 1});
    golden_remove(training_path("full"));
    return o;
}

START_TEST(a_failure_is_told_in_the_same_words)
{
    struct outcome a = in_the_way(false), b = in_the_way(true);
    ck_assert_ptr_nonnull(strstr(a.message, "step-00000005"));
    ck_assert_str_eq(a.message, b.message);
    ck_assert_int_eq(a.exit[0], b.exit[0]);
    ck_assert(!a.saves && !b.saves && !a.done && !b.done);
}
END_TEST

/* Memory for the training alone: it waits, and all else is as ever. */
START_TEST(without_room_the_training_waits)
{
    struct jobspec waits = job("waits"), behind = job("behind");
    struct training t = {.spec = &waits, .size = 2, .incarnation = 1};
    waits.checkpoint.asynchronous = false;
    struct outcome a = training_run(&t), b;
    t.spec = &behind;
    t.budget_bytes = a.memory_bytes * 10 / 9 + 4096; /* nine tenths are for what is planned */
    b = training_run(&t);
    ck_assert_msg(a.done && b.done, "%s%s", a.message, b.message);
    ck_assert_int_eq(b.memory_bytes, a.memory_bytes);
    for (int k = EVERY; k <= STEPS; k += EVERY) {
        ck_assert_int_eq(b.saved_at[k], k);
        same_generation("waits", "behind", k);
    }
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){"save", 120, training_setup, training_teardown},
        (const TTest *const[]){the_same_files, a_next_one_and_a_stop_wait,
            a_death_before_the_commit_costs_that_generation, a_failure_is_told_in_the_same_words,
            without_room_the_training_waits, NULL});
}
