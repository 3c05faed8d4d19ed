/*
 * Goal: the scale of FP16's loss follows torch.amp.GradScaler, and a step by which the gradient is
 * not finite changes nothing but the scale, on all ranks alike, whatever interrupts the training.
 * Method: the rule itself, step by step; then trainings of two ranks from a checkpoint whose
 * manifest holds the greatest scale, by which this model's first gradients overflow FP16, with data
 * parallelism and with ranks that share the model or its sequences. Slices are named by their
 * content, so equal names are equal weights and moments. Were the ranks not at one, what an
 * interrupted training loads would be no rank's own, and its end another.
 * needs: sample
 */
#include "runtime/train/scale.h"

#include "base/io.h"
#include "base/json.h"
#include "runtime/ckpt/manifest.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/sample.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS      20
#define FILE_BYTES (8 << 20)

static struct err e;

/* -- the rule -- */

START_TEST(halves_behind_what_is_not_finite)
{
    struct ckpt_scale s = {.scale = SCALE_FIRST, .clean = 1234};
    for (int i = 1; i <= 16; i++) {
        ck_assert(scale_step(&s, false));
        ck_assert(s.scale == ldexp(1, 16 - i) && s.clean == 0 && s.skipped == i);
    }
    ck_assert(s.scale == SCALE_LEAST);
    ck_assert(scale_step(&s, true)); /* a finite one by the least scale is one like others */
    ck_assert(s.scale == SCALE_LEAST && s.clean == 1 && s.skipped == 16);
    ck_assert(!scale_step(&s, false));
    ck_assert(s.scale == SCALE_LEAST && s.skipped == 17);
}
END_TEST

START_TEST(doubles_behind_2000_clean_steps)
{
    struct ckpt_scale s = {.scale = SCALE_FIRST};
    for (int i = 1; i < SCALE_CLEAN_STEPS; i++)
        ck_assert(scale_step(&s, true) && s.scale == SCALE_FIRST && s.clean == i);
    ck_assert(scale_step(&s, true) && s.scale == 2 * SCALE_FIRST && s.clean == 0);
    for (int i = 1; i < SCALE_CLEAN_STEPS; i++)
        scale_step(&s, true);
    scale_step(&s, false); /* so near, and counted anew */
    ck_assert(s.scale == SCALE_FIRST && s.clean == 0 && s.skipped == 1);
    for (int i = 1; i < SCALE_CLEAN_STEPS; i++)
        ck_assert(scale_step(&s, true) && s.scale == SCALE_FIRST);
    ck_assert(scale_step(&s, true) && s.scale == 2 * SCALE_FIRST);
}
END_TEST

START_TEST(stays_within_its_bounds)
{
    struct ckpt_scale s = {.scale = SCALE_MOST / 2, .clean = SCALE_CLEAN_STEPS - 1};
    for (int i = 0; i < 3; i++) {
        ck_assert(scale_step(&s, true));
        ck_assert(s.scale == SCALE_MOST && s.clean == 0);
        s.clean = SCALE_CLEAN_STEPS - 1;
    }
    ck_assert(scale_factor(&(struct ckpt_scale){0}) == 1);
    ck_assert(scale_factor(&s) == SCALE_MOST);
}
END_TEST

/* -- trainings -- */

static const char *manifest_path(const char *run, int step)
{
    char name[64];
    snprintf(name, sizeof name, "%s/step-%08d/manifest.json", run, step);
    return training_path(name);
}

static struct ckpt_manifest manifest_of(const char *run, int step)
{
    struct ckpt_manifest m;
    ck_assert_msg(!ckpt_manifest_read(manifest_path(run, step), &m, &e), "%s", e.text);
    return m;
}

static struct {
    int tensor, pipeline, context;
} axes;

/* A job that saves each step, and keeps all. */
static struct jobspec job_of(const char *run)
{
    struct jobspec s = training_job(run);
    s.parallelism.tensor = axes.tensor;
    s.parallelism.pipeline = axes.pipeline;
    s.parallelism.context = axes.context;
    s.precision = PRECISION_FP16;
    s.train.steps = STEPS;
    s.checkpoint.every_steps = 1;
    s.checkpoint.keep = STEPS + 1;
    return s;
}

static struct outcome stopped(const struct jobspec *s, int incarnation, int after)
{
    struct outcome o = training_run(
        &(struct training){.spec = s, .size = 2, .incarnation = incarnation, .stop_after = after});
    for (int i = 0; i < 2; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DRAINED, "class %d: %s", o.exit[i], o.message);
    return o;
}

static struct outcome ended(const struct jobspec *s, int incarnation)
{
    struct outcome o =
        training_run(&(struct training){.spec = s, .size = 2, .incarnation = incarnation});
    for (int i = 0; i < 2; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "class %d: %s", o.exit[i], o.message);
    return o;
}

/* Begins, and stops at some step, whose checkpoint gets the greatest scale. */
static int plant(const struct jobspec *s, const char *run)
{
    struct outcome o = stopped(s, 1, 3);
    struct ckpt_manifest m = manifest_of(run, o.last);
    ck_assert(m.state.scale.scale == SCALE_FIRST && m.state.scale.skipped == 0);
    ck_assert_int_eq(m.state.scale.clean, o.last);
    m.state.scale.scale = SCALE_MOST;
    ck_assert_msg(!ckpt_manifest_write(manifest_path(run, o.last), &m, &e), "%s", e.text);
    ckpt_manifest_done(&m);
    return o.last;
}

static void copy_file(const char *from, const char *to, int step, const char *file)
{
    char name[160];
    buf_auto struct buf b;
    buf_init(&b, FILE_BYTES);
    snprintf(name, sizeof name, "%s/step-%08d/%s", from, step, file);
    ck_assert_msg(!io_read_file(training_path(name), FILE_BYTES, &b, &e), "%s", e.text);
    snprintf(name, sizeof name, "%s/step-%08d/%s", to, step, file);
    golden_write(training_path(name), b.data, b.len);
}

static void copy_generation(const char *from, const char *to, int step)
{
    char name[64];
    struct ckpt_manifest m = manifest_of(from, step);
    snprintf(name, sizeof name, "%s/step-%08d", to, step);
    ck_assert_msg(!io_mkdirs(training_path(name), 0700, &e), "%s", e.text);
    for (int i = 0; i < m.file_count; i++)
        copy_file(from, to, step, m.files[i].name);
    copy_file(from, to, step, "manifest.json");
    ckpt_manifest_done(&m);
}

/* What step `step` did: returns how often it was skipped, 0 or 1. */
static int check_step(const char *run, int step)
{
    struct ckpt_manifest was = manifest_of(run, step - 1), is = manifest_of(run, step);
    int64_t skipped = is.state.scale.skipped - was.state.scale.skipped;
    ck_assert_int_eq(is.file_count, 2);
    ck_assert(skipped == 0 || skipped == 1);
    ck_assert(is.state.scale.scale == was.state.scale.scale / (skipped ? 2 : 1));
    ck_assert_int_eq(is.state.scale.clean, skipped ? 0 : was.state.scale.clean + 1);
    ck_assert_int_eq(
        is.state.samples, was.state.samples + TRAINING_BATCH); /* consumed, all the same */
    for (int i = 0; i < 2; i++)
        ck_assert_msg(!strcmp(is.files[i].hash, was.files[i].hash) == (skipped == 1),
            "step %d of rank %d was%s skipped", step, i, skipped ? "" : " not");
    ckpt_manifest_done(&was);
    ckpt_manifest_done(&is);
    return (int)skipped;
}

/* The last line of the metrics says what the manifest does. */
static void check_metrics(const char *run, int step)
{
    char name[64];
    buf_auto struct buf text;
    json_auto struct json *v = NULL;
    snprintf(name, sizeof name, "%s/metrics.jsonl", run);
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(training_path(name), 1 << 20, &text, &e));
    struct ckpt_manifest m = manifest_of(run, step);
    char *line = text.data, *found = NULL;
    for (char *left; (line = strtok_r(line, "\n", &left)); line = NULL)
        found = strstr(line, "lossScale") ? line : found;
    ck_assert_ptr_nonnull(found);
    ck_assert_msg(!json_parse(found, strlen(found), &v, &e), "%s", found);
    ck_assert_int_eq(json_int(v, "step", 0), step);
    ck_assert(json_num(v, "lossScale", 0) == m.state.scale.scale);
    ck_assert_int_eq(json_int(v, "skippedSteps", -1), m.state.scale.skipped);
    ckpt_manifest_done(&m);
}

static void overflow(void)
{
    struct jobspec start = job_of("start"), s = job_of("straight"), cut = job_of("cut");
    int from = plant(&start, "start"), skipped = 0;
    copy_generation("start", "straight", from);
    struct outcome o = ended(&s, 2);
    for (int step = from + 1; step <= STEPS; step++)
        skipped += check_step("straight", step);
    ck_assert_msg(check_step("straight", from + 1) == 1, "the first step did not overflow");
    ck_assert_msg(skipped < 8 && check_step("straight", STEPS) == 0, "%d skipped", skipped);
    ck_assert_double_lt(o.loss[STEPS], 0.95 * o.loss[from + 1]);
    check_metrics("straight", STEPS);

    /* The same with a stop among the skipped steps, or soon behind them. */
    copy_generation("start", "cut", from);
    stopped(&cut, 2, from + 1);
    ended(&cut, 3);
    for (int step = from + 1; step <= STEPS; step++) {
        struct ckpt_manifest a = manifest_of("straight", step), b = manifest_of("cut", step);
        for (int i = 0; i < 2; i++)
            ck_assert_msg(!strcmp(a.files[i].hash, b.files[i].hash), "step %d, rank %d", step, i);
        ck_assert_mem_eq(&a.state.scale, &b.state.scale, sizeof a.state.scale);
        ckpt_manifest_done(&a);
        ckpt_manifest_done(&b);
    }
    static const char *const runs[] = {"start", "straight", "cut"};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        golden_remove(training_path(runs[i]));
}

START_TEST(an_overflow_is_skipped_by_all)
{
    overflow();
}
END_TEST

START_TEST(an_overflow_is_skipped_by_ranks_that_share)
{
    sample_print();
    for (uint64_t i = 0; i < 3; i++) {
        axes.tensor = i == 0 ? 2 : 0;
        axes.pipeline = i == 1 ? 2 : 0;
        axes.context = i == 2 ? 2 : 0;
        if (sample_setting("LLMJOB_SAMPLE") == 1 || sample_takes_of(3, i))
            overflow();
    }
}
END_TEST

/* Weights that a far too great step makes infinite: no scale helps, the first tensor is named. */
START_TEST(the_least_scale_ends_the_training)
{
    struct jobspec s = job_of("end");
    s.checkpoint.every_steps = 0;
    s.train.optimizer.learning_rate = 1e38;
    struct outcome o = training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1});
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_msg(strstr(o.message, "is not finite, in backward from model.norm.weight") != NULL,
        "%s", o.message);
    ck_assert_msg(o.first == 1 && o.last == 17, "%d to %d: %s", o.first, o.last, o.message);
}
END_TEST

static struct jobspec full_job(const char *run)
{
    return training_job(run);
}

static struct jobspec dora_job(const char *run)
{
    struct jobspec s = training_job(run);
    training_lora(&s);
    s.train.lora.dora = true;
    return s;
}

START_TEST(gradients_are_near)
{
    training_near_in_fp16(full_job);
    training_near_in_fp16(dora_job);
}
END_TEST

int main(void)
{
    const struct unit u = {"scale", 120, training_setup, training_teardown};
    return unit_run_with(&u,
        (const TTest *const[]){halves_behind_what_is_not_finite, doubles_behind_2000_clean_steps,
            stays_within_its_bounds, an_overflow_is_skipped_by_all,
            an_overflow_is_skipped_by_ranks_that_share, the_least_scale_ends_the_training,
            gradients_are_near, NULL});
}
