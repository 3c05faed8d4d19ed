/*
 * Goal: stages whose layers are in chunks learn what stages of one run of layers learn, and one
 * rank. Method: real ranks, on tiny models of layers that do not come out even; micro-batches that
 * come to whole groups of the stages and that do not, fewer than there are stages, and a last one
 * that is small: losses beside one rank's, to the bit those of the same stages with one chunk, and
 * again the same; two axes beside it, adapters, 16 bits, recomputation; evaluation
 * and what a model says on the way; a stop and a rank that dies; what cannot be.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "tests/runtime/events.h"
#include "tests/runtime/generation.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS  6
#define EVENTS 64

#define LLAMA_OF(layers) \
    "{\"model_type\": \"llama\", \"vocab_size\": 320, \"hidden_size\": 32, " \
    "\"intermediate_size\": 64, \"num_hidden_layers\": " layers ", \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true}"
#define GPT2_OF(layers) \
    "{\"model_type\": \"gpt2\", \"vocab_size\": 320, \"n_embd\": 32, \"n_layer\": " layers ", " \
    "\"n_head\": 4, \"n_positions\": 64, \"layer_norm_epsilon\": 1e-5}"
struct staged {
    const char *config;
    int world, tensor, stages, chunks, zero, sequences;
    void (*change)(struct jobspec *);
    double far;
};

static struct jobspec job(const char *run, const struct staged *c, bool shared, int chunks)
{
    struct jobspec s = training_job(run);
    const char *path = training_path("shape.json");
    golden_write(path, c->config, strlen(c->config));
    s.model.init = INIT_RANDOM;
    s.model.config = mem_strdup(path);
    s.train.steps = STEPS;
    s.train.batch_sequences = c->sequences;
    s.train.evaluate_every_steps = 3;
    s.train.optimizer.clip_norm = 0;
    s.train.exported_by = "nobody";
    s.parallelism.tensor = shared ? c->tensor : 1;
    s.parallelism.pipeline = shared ? c->stages : 1;
    s.parallelism.virtual_stages = chunks;
    s.parallelism.zero_stage = shared ? c->zero : 0;
    if (c->change)
        c->change(&s);
    return s;
}

static void forget(struct jobspec *s)
{
    golden_remove(s->checkpoint.path);
    mem_free((char *)s->model.config);
}

static struct outcome learn(const struct staged *c, bool shared, int chunks)
{
    struct jobspec s = job("run", c, shared, chunks);
    struct outcome o = training_run_whole(&s, shared ? c->world : 1);
    forget(&s);
    return o;
}

static void losses_are(
    const struct outcome *a, const struct outcome *b, double far, const char *than)
{
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(far > 0 ? fabs(a->loss[k] / b->loss[k] - 1) < far : a->loss[k] == b->loss[k],
            "step %d: %.17g, %s %.17g", k, a->loss[k], than, b->loss[k]);
    double off = fabs(a->validation / b->validation - 1);
    ck_assert_msg(far > 0 ? off < far : a->validation == b->validation, "%.17g, %s %.17g",
        a->validation, than, b->validation);
}

static void compare(const struct staged *c)
{
    printf("%d ranks, tensor %d, %d stages of %d chunks, zero %d, %d sequences\n", c->world,
        c->tensor, c->stages, c->chunks, c->zero, c->sequences);
    struct outcome one = learn(c, false, 1), run = learn(c, true, 1);
    struct outcome chunks = learn(c, true, c->chunks), again = learn(c, true, c->chunks);
    ck_assert_double_lt(one.loss[STEPS], one.loss[1]);
    losses_are(&chunks, &one, c->far, "one rank");
    losses_are(&chunks, &run, 0, "one chunk");
    losses_are(&again, &chunks, 0, "the first time");
}

static void compare_some(const struct staged *c, int n, uint64_t salt)
{
    sample_print();
    for (int i = 0; i < n; i++)
        if (sample_takes(salt + (uint64_t)i))
            compare(&c[i]);
}

START_TEST(chunks_learn_what_one_rank_learns)
{
    static const struct staged cases[] = {
        {LLAMA_OF("4"), 2, 1, 2, 2, 0, 8, NULL, 1e-5},
        {LLAMA_OF("7"), 2, 1, 2, 3, 0, 7, NULL, 1e-5}, /* seven of one: a group is short */
        {LLAMA_OF("9"), 4, 1, 4, 2, 0, 7, NULL, 1e-5}, /* three in the last group */
        {LLAMA_OF("9"), 3, 1, 3, 3, 0, 2, NULL, 1e-5}, /* fewer than stages */
        {LLAMA_OF("5"), 4, 2, 2, 2, 0, 8, NULL, 1e-5},
        {LLAMA_OF("4"), 4, 1, 2, 2, 1, 9, NULL, 1e-5}, /* five sequences and four */
        {GPT2_OF("4"), 2, 1, 2, 2, 0, 9, NULL, 1e-5},  /* the last of five is small */
        {GPT2_OF("6"), 2, 1, 2, 3, 0, 8, NULL, 1e-5},
        {GPT2_OF("8"), 4, 1, 4, 2, 0, 12, NULL, 1e-5},
        {GPT2_OF("4"), 4, 2, 2, 2, 0, 5, NULL, 1e-5},
        {GPT2_OF("5"), 4, 1, 2, 2, 1, 8, NULL, 1e-5},
    };
    compare_some(cases, sizeof cases / sizeof *cases, 0);
}
END_TEST

static void again(struct jobspec *s)
{
    s->train.recompute = RECOMPUTE_FULL;
}

static void selectively(struct jobspec *s)
{
    s->train.recompute = RECOMPUTE_SELECTIVE;
}

static void in_bf16(struct jobspec *s)
{
    s->precision = PRECISION_BF16;
}

static void of_adapters(struct jobspec *s)
{
    training_lora(s);
    s->train.lora.target_count = 1;
    s->train.lora.targets[0] = "all-linear";
}

START_TEST(chunks_go_with_all_else)
{
    static const struct staged cases[] = {
        {LLAMA_OF("5"), 2, 1, 2, 2, 0, 7, again, 1e-5},
        {LLAMA_OF("5"), 2, 1, 2, 2, 0, 7, selectively, 1e-5},
        {GPT2_OF("4"), 2, 1, 2, 2, 0, 8, in_bf16, 1e-2},
        {LLAMA_OF("6"), 2, 1, 2, 3, 0, 8, of_adapters, 1e-5},
    };
    compare_some(cases, sizeof cases / sizeof *cases, 32);
}
END_TEST

/* What is evaluated and said on the way goes through all chunks, one batch at a time. */
START_TEST(what_is_said_is_what_one_rank_says)
{
    static const struct staged c = {LLAMA_OF("4"), 2, 1, 2, 2, 0, 8, NULL, 0};
    static struct event events[2][EVENTS];
    for (int i = 0; i < 2; i++) {
        struct jobspec s = job("run", &c, i, i ? c.chunks : 1);
        s.train.tensorboard = training_path("board");
        s.train.generate.every_steps = STEPS;
        s.train.generate.tokens = 6;
        s.train.generate.prompt_count = 1;
        s.train.generate.prompts[0] = "the ";
        training_run_whole(&s, i ? c.world : 1);
        int count = events_shown(s.train.tensorboard, events[i], EVENTS);
        ck_assert_int_eq(events_at(events[i], count, "generated/0", STEPS), 1);
        golden_remove(s.train.tensorboard);
        forget(&s);
    }
    for (int i = 0, texts = 0; i < EVENTS || !texts; i++) {
        ck_assert_int_lt(i, EVENTS);
        ck_assert_str_eq(events[0][i].text, events[1][i].text);
        texts += *events[0][i].text != 0;
    }
}
END_TEST

START_TEST(a_resume_is_the_same_to_the_bit)
{
    static const struct staged c = {LLAMA_OF("5"), 2, 1, 2, 2, 0, 7, NULL, 0};
    struct jobspec whole = job("whole", &c, true, c.chunks), cut = job("cut", &c, true, c.chunks);
    training_run_whole(&whole, c.world);
    struct outcome b = training_run(&(struct training){
        .spec = &cut, .size = c.world, .incarnation = 1, .stop_after = STEPS / 2});
    ck_assert_msg(b.drained && b.last < STEPS, "%s", b.message);
    b = training_run(&(struct training){.spec = &cut, .size = c.world, .incarnation = 2});
    ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE, "%s", b.message);
    struct generation *x = generation_open("whole", STEPS), *y = generation_open("cut", STEPS);
    ck_assert(generation_loss(x) == generation_loss(y));
    generation_near(x, y, "", 0);
    generation_close(x);
    generation_close(y);
    forget(&whole);
    forget(&cut);
}
END_TEST

START_TEST(a_rank_that_dies_is_a_lost_peer)
{
    static const struct staged c = {LLAMA_OF("4"), 2, 1, 2, 2, 0, 8, NULL, 0};
    struct jobspec s = job("run", &c, true, c.chunks);
    struct outcome o = training_run(
        &(struct training){.spec = &s, .size = c.world, .incarnation = 1, .kill_after = 2});
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_PEER);
    ck_assert_ptr_nonnull(strstr(o.message, "rank 1"));
    ck_assert_int_lt(o.end_ms, 10000);
    forget(&s);
}
END_TEST

START_TEST(more_chunks_than_layers_are_refused)
{
    static const struct staged c = {LLAMA_OF("3"), 2, 1, 2, 2, 0, 8, NULL, 0};
    struct jobspec s = job("run", &c, true, c.chunks);
    struct outcome o =
        training_run(&(struct training){.spec = &s, .size = c.world, .incarnation = 1});
    ck_assert_int_eq(o.exit[0], EXIT_CLASS_USER);
    ck_assert_str_eq(o.message,
        "spec.parallelism.virtualStages: 2 on each of 2 ranks, but spec.model has 3 layers");
    forget(&s);
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"pipeline", 120, training_setup, training_teardown},
        (const TTest *const[]){chunks_learn_what_one_rank_learns, chunks_go_with_all_else,
            what_is_said_is_what_one_rank_says, a_resume_is_the_same_to_the_bit,
            a_rank_that_dies_is_a_lost_peer, more_chunks_than_layers_are_refused, NULL});
}
