/*
 * Goal: a training whose model does not fit with data parallelism alone gets a layout that does,
 * and learns the same; one that fits stays as it was, to the bit; what was told is kept, and what
 * is not of shares does not get any. Method: real ranks, one process each, on a tiny Llama under
 * budgets that the planner says are just too small; losses beside those of ample memory.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/mem.h"
#include "runtime/train/choose.h"
#include "runtime/train/optim.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS 6
#define WORLD 4

static struct err e;

#define LLAMA \
    "{\"model_type\": \"llama\", \"vocab_size\": 320, \"hidden_size\": 64, " \
    "\"intermediate_size\": 160, \"num_hidden_layers\": 4, \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true}"

static struct jobspec job(const char *run)
{
    static char path[256];
    struct jobspec s = training_job(run);
    snprintf(path, sizeof path, "%s/shape.json", training_folder);
    golden_write(path, LLAMA, strlen(LLAMA));
    s.model.init = INIT_RANDOM;
    s.model.config = path;
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    golden_remove(training_path("output"));
    return s;
}

/* What a rank takes by these numbers, one sequence a micro-batch; as memory that it may use. */
static int64_t memory_of(int tensor, int pipeline, int zero_stage)
{
    const struct optim_conf oc = {.name = OPTIMIZER_ADAMW};
    struct planner_input in = {.model = {.train = true,
                                   .sequence_length = TRAINING_T,
                                   .optimizer_fn = optim_bytes,
                                   .slice_fn = optim_owns,
                                   .optimizer = &oc},
        .batch_sequences = TRAINING_BATCH,
        .world = WORLD,
        .tensor = tensor,
        .pipeline = pipeline,
        .zero_stage = zero_stage};
    struct planner_plan p;
    golden_write(training_path("shape.json"), LLAMA, strlen(LLAMA));
    ck_assert_msg(
        !model_config_read(training_path("shape.json"), &in.model.config, &e), "%s", e.text);
    ck_assert_msg(!planner_with(&in, 1, &p, &e), "%s", e.text);
    return p.memory.total * 10 / 9;
}

static struct outcome run(const struct jobspec *s, int size, int incarnation, int64_t budget)
{
    const struct training t = {
        .spec = s, .size = size, .incarnation = incarnation, .budget_bytes = budget};
    return training_run(&t);
}

static struct outcome run_whole(const struct jobspec *s, int size, int64_t budget)
{
    struct outcome o = run(s, size, 1, budget);
    for (int i = 0; i < size; i++)
        ck_assert_msg(
            o.exit[i] == EXIT_CLASS_DONE, "rank %d: class %d, %s", i, o.exit[i], o.message);
    ck_assert(o.done && o.last == s->train.steps);
    return o;
}

static void losses_are_near(const struct outcome *a, const struct outcome *b, int first)
{
    for (int k = first; k <= STEPS; k++)
        ck_assert_msg(fabs(a->loss[k] / b->loss[k] - 1) < 1e-5, "step %d: %.9g, not %.9g", k,
            a->loss[k], b->loss[k]);
}

static void divides_more_than_state(const struct outcome *o)
{
    ck_assert(o->tensor * o->pipeline > 1 || o->zero_stage > 1);
}

START_TEST(what_fits_stays_as_it_was)
{
    struct jobspec open = job("open"), told = job("told");
    char told_output[256], told_model[300];
    snprintf(told_output, sizeof told_output, "%s/told-output", training_folder);
    snprintf(told_model, sizeof told_model, "%s/model.safetensors", told_output);
    told.train.output = told_output;
    told.parallelism.data = 2;
    told.parallelism.tensor = told.parallelism.pipeline = 1;
    struct outcome a = run_whole(&open, 2, memory_of(1, 1, 0) + (4 << 20));
    struct outcome b = run_whole(&told, 2, 0);
    ck_assert_str_eq(a.layout_reason, "");
    ck_assert(a.tensor == 1 && a.pipeline == 1 && a.zero_stage == 0);
    for (int k = 1; k <= STEPS; k++)
        ck_assert(a.loss[k] == b.loss[k]);
    training_same_files(training_path("output/model.safetensors"), told_model);
}
END_TEST

/* Too small for data alone, then also with its state divided. */
START_TEST(what_does_not_fit_is_laid_out_anew)
{
    struct jobspec ample = job("ample");
    struct outcome want = run_whole(&ample, WORLD, 0), o;

    struct jobspec little = job("little");
    o = run_whole(&little, WORLD, memory_of(1, 1, 0) - 4096);
    ck_assert_int_gt(o.zero_stage + o.tensor + o.pipeline, 2);
    ck_assert_ptr_nonnull(strstr(o.layout_reason, "dp4 needs "));
    losses_are_near(&o, &want, 1);

    int64_t budget = memory_of(1, 1, 1) - 4096;
    ck_assert_int_lt(memory_of(2, 1, 1), budget);
    struct jobspec less = job("less");
    o = run_whole(&less, WORLD, budget);
    divides_more_than_state(&o);
    ck_assert_ptr_nonnull(strstr(o.layout_reason, " is predicted to be the fastest of "));
    losses_are_near(&o, &want, 1);
}
END_TEST

/* Four ranks stop, and two of more memory each go on from what they saved. */
START_TEST(another_world_is_planned_anew)
{
    struct jobspec ample = job("ample");
    struct outcome want = run_whole(&ample, WORLD, 0);
    struct jobspec s = job("elastic");
    const struct training first = {.spec = &s,
        .size = WORLD,
        .incarnation = 1,
        .stop_after = 3,
        .budget_bytes = memory_of(1, 1, 1) - 4096};
    struct outcome o = training_run(&first);
    ck_assert_msg(o.drained, "%s", o.message);
    divides_more_than_state(&o);
    int next = o.last + 1;
    o = run(&s, 2, 2, 0);
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE, "%s", o.message);
    ck_assert(o.first == next && o.tensor == 1 && o.pipeline == 1);
    ck_assert_str_eq(o.layout_reason, "");
    losses_are_near(&o, &want, next);
}
END_TEST

START_TEST(what_was_told_is_kept)
{
    struct jobspec s = job("kept");
    int64_t budget = memory_of(1, 1, 1) - 4096;
    s.parallelism.tensor = 1;
    struct outcome o = run_whole(&s, WORLD, budget);
    ck_assert_int_eq(o.tensor, 1);
    divides_more_than_state(&o);

    struct jobspec whole = job("whole");
    whole.train.optimizer.name = OPTIMIZER_ADAFACTOR; /* not of shares */
    o = run(&whole, WORLD, 1, 1 << 20);
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_MEMORY);
    ck_assert_msg(strstr(o.message, "of 4 layouts"), "%s", o.message);
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"chosen", 120, training_setup, training_teardown},
        (const TTest *const[]){what_fits_stays_as_it_was, what_does_not_fit_is_laid_out_anew,
            another_world_is_planned_anew, what_was_told_is_kept, NULL});
}
