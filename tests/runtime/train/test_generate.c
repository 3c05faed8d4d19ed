/*
 * Goal: a model in training says what it would say when it is served, and learns nothing by it.
 * Method: short trainings on real ranks on a tiny Llama with a token for each byte, and on a
 * mixture of experts, and on ranks that share the model: what TensorBoard has of the last step is
 * what the engine of serving makes of the model that was written; losses and checkpoints are those
 * of a training without prompts, to the bit; prompts that cannot be gone on with are refused
 * before the first step.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/mem.h"
#include "runtime/model/engine.h"
#include "tests/runtime/events.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS  24
#define TOKENS 10
#define EVENTS 1000

static struct err e;
static struct event events[EVENTS];
static const char *const prompts[] = {"the ", "and"};

static struct jobspec job(const char *name)
{
    struct jobspec s = training_job(name);
    s.train.steps = STEPS;
    s.train.optimizer.warmup_steps = 2;
    s.train.evaluate_every_steps = 0;
    return s;
}

static void generate(struct jobspec *s)
{
    s->train.tensorboard = training_path("board");
    s->train.generate.every_steps = 10;
    s->train.generate.tokens = TOKENS;
    s->train.generate.prompt_count = 2;
    for (int i = 0; i < 2; i++)
        s->train.generate.prompts[i] = prompts[i];
}

static struct outcome run(const struct jobspec *s, int size)
{
    struct outcome o = training_run(&(struct training){.spec = s, .size = size, .incarnation = 1});
    for (int i = 0; i < size; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE, "%s", o.message);
    return o;
}

/* Greedily, by the model of the output; a byte is a token. */
static void serve(const char *prompt, char out[64])
{
    struct dev *d;
    struct weights *w;
    struct model *m;
    struct engine *g;
    int n = snprintf(out, 64, "%s", prompt);
    ck_assert_msg(
        !dev_open("cpu", 0, 1, &d, &e) && !weights_open(training_path("output"), NULL, &w, &e),
        "%s", e.text);
    struct model_conf c = {.config = *weights_config(w), .t = DTYPE_F32, .kv_capacity = 64};
    ck_assert_msg(
        !model_create(d, &c, &m, &e) && !model_load(m, w, &e) && !engine_create(m, &g, &e), "%s",
        e.text);
    int32_t id = 0;
    for (int i = 0; i < n + TOKENS - 1; i++) {
        id = i < n ? (uint8_t)prompt[i] : id;
        ck_assert_msg(!engine_next(g, id, i, &(struct sample_draw){0}, &id, &e), "%s", e.text);
        if (i >= n - 1)
            out[i + 1] = (char)id;
    }
    out[n + TOKENS] = 0;
    engine_destroy(g);
    model_destroy(m);
    weights_close(w);
    dev_close(d);
}

static const char *told(int count, int prompt, uint64_t step)
{
    char tag[32];
    snprintf(tag, sizeof tag, "generated/%d", prompt);
    ck_assert_int_eq(events_at(events, count, tag, step), 1);
    for (int i = 0; i < count; i++)
        if (events[i].step == step && !strcmp(events[i].tag, tag))
            return events[i].text;
    return NULL;
}

/* At steps 10, 20 and the last. */
static void check_texts(void)
{
    int count = events_shown(training_path("board"), events, EVENTS), texts = 0;
    for (int i = 0; i < count; i++)
        texts += *events[i].text != 0;
    ck_assert_int_eq(texts, 2 * 3);
    for (int i = 0; i < 2; i++) {
        char served[64];
        serve(prompts[i], served);
        ck_assert_str_eq(told(count, i, STEPS), served);
        ck_assert(!strncmp(told(count, i, 10), prompts[i], strlen(prompts[i])));
    }
}

START_TEST(what_is_said_is_what_is_served)
{
    for (int size = 1; size <= 2; size++) {
        const char *name = size == 1 ? "one" : "two", *other = size == 1 ? "n1" : "n2";
        struct jobspec s = job(name), none = job(other);
        generate(&s);
        struct outcome a = run(&s, size), b;
        check_texts();
        b = run(&none, size);
        for (int k = 1; k <= STEPS; k++)
            ck_assert(a.loss[k] == b.loss[k]);
        training_same_checkpoints(name, other);
        golden_remove(training_path("board"));
    }
}
END_TEST

/* Alone, and of two replicas the first. */
START_TEST(by_ranks_that_share_the_model_too)
{
    static const int ways[][3] = {{2, 1, 2}, {4, 2, 1}, {4, 2, 2}};
    struct outcome a, b;
    for (int i = 0; i < 3; i++) {
        struct jobspec s = job("shares");
        s.parallelism.tensor = ways[i][1];
        s.parallelism.pipeline = ways[i][2];
        generate(&s);
        a = run(&s, ways[i][0]);
        check_texts();
        golden_remove(training_path("board"));
        golden_remove(training_path("shares"));
    }
    struct jobspec none = job("quiet");
    none.parallelism.tensor = none.parallelism.pipeline = 2;
    b = run(&none, 4);
    for (int k = 1; k <= STEPS; k++)
        ck_assert(a.loss[k] == b.loss[k]);
}
END_TEST

START_TEST(by_a_mixture_of_experts_too)
{
    struct jobspec s = job("mixture");
    s.model.init = INIT_RANDOM;
    s.model.config = training_mixture();
    generate(&s);
    run(&s, 1);
    check_texts();
}
END_TEST

/* The text ends with the sequence; one that fills it is refused. */
START_TEST(no_more_than_the_sequence_holds)
{
    struct jobspec s = job("long");
    generate(&s);
    s.train.steps = 10;
    s.train.generate.prompts[0] = "the light was "; /* 14 of 16 */
    run(&s, 1);
    int count = events_shown(training_path("board"), events, EVENTS);
    ck_assert_uint_le(strlen(told(count, 0, 10)), TRAINING_T + 2 * 2); /* a byte may be no text */
    s = job("longer");
    generate(&s);
    s.train.generate.prompts[1] = "the light was go";
    struct outcome o = training_run(&(struct training){.spec = &s, .size = 1, .incarnation = 1});
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_ptr_nonnull(strstr(o.message,
        "spec.train.generate.prompts[1]: 16 tokens leave no room for another in "
        "spec.train.sequenceLength: 16"));
    s.train.generate.prompts[1] = "";
    o = training_run(&(struct training){.spec = &s, .size = 1, .incarnation = 1});
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_ptr_nonnull(strstr(o.message, "spec.train.generate.prompts[1]: is empty"));
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){.name = "generate",
                                .timeout_s = 120,
                                .setup = training_setup,
                                .done = training_teardown},
        (const TTest *const[]){what_is_said_is_what_is_served, by_ranks_that_share_the_model_too,
            by_a_mixture_of_experts_too, no_more_than_the_sequence_holds, NULL});
}
