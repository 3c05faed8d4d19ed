/*
 * Goal: what is learnt does not depend on how ranks share the work, and a checkpoint of any layout
 * is any other's. Method: each axis alone by two and four ranks, and products of them by eight:
 * thirty losses beside one rank's, and each tensor's gradient, a tenth of which AdamW's first
 * moment is after one step. Eight layouts save, and eight go on from each: the next loss beside
 * that of the layout that saved; and all that they then hold equal, to the bit, to what they come
 * to from the same elements in whole tensors that one rank wrote. Stops at any step. With dropout.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/random.h"
#include "tests/runtime/generation.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS 30

/* -- jobs: models that eight ranks can share out -- */

#define LLAMA \
    "{\"model_type\": \"llama\", \"vocab_size\": 320, \"hidden_size\": 32, " \
    "\"intermediate_size\": 64, \"num_hidden_layers\": 4, \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 4, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true}"
#define GPT2 \
    "{\"model_type\": \"gpt2\", \"vocab_size\": 320, \"n_embd\": 32, \"n_layer\": 4, " \
    "\"n_head\": 4, \"n_positions\": 64, \"layer_norm_epsilon\": 1e-5}"
#define MIXTRAL \
    "{\"model_type\": \"mixtral\", \"vocab_size\": 320, \"hidden_size\": 32, " \
    "\"intermediate_size\": 32, \"num_hidden_layers\": 4, \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 4, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"num_local_experts\": 4, \"num_experts_per_tok\": 2, " \
    "\"router_aux_loss_coef\": 0.02, \"tie_word_embeddings\": false}"

struct cells { /* 0: 1, and of zero 0 */
    int world, tensor, pipeline, context, expert, zero, chunks;
};

static const char *cells_text(const struct cells *x)
{
    static char text[4][96];
    static int next;
    char *t = text[next++ % 4];
    snprintf(t, sizeof text[0],
        "%d ranks, tensor %d, pipeline %d in %d, context %d, expert %d, zero %d", x->world,
        x->tensor, x->pipeline, x->chunks, x->context, x->expert, x->zero);
    return t;
}

static bool dropping; /* what is trained leaves out embeddings, sub-layers and probabilities */

static struct jobspec job(const char *run, const char *config, const struct cells *x)
{
    struct jobspec s = training_job(run);
    const char *path = training_path("shape.json");
    golden_write(path, config, strlen(config));
    s.model.init = INIT_RANDOM;
    s.model.config = mem_strdup(path);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.train.exported_by = "nobody";
    s.train.optimizer.clip_norm = 0;
    if (dropping) {
        s.train.dropout = 0.1;
        s.train.attention_dropout = 0.2;
    }
    s.parallelism.tensor = x->tensor;
    s.parallelism.pipeline = x->pipeline;
    s.parallelism.virtual_stages = x->chunks;
    s.parallelism.context = x->context;
    s.parallelism.expert = x->expert;
    s.parallelism.zero_stage = x->zero;
    return s;
}

static void forget(struct jobspec *s)
{
    golden_remove(s->checkpoint.path);
    mem_free((char *)s->model.config);
}

/* -- beside one rank -- */

static void compare_losses(
    const struct outcome *a, const struct outcome *b, const struct cells *x, double far)
{
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(fabs(a->loss[k] / b->loss[k] - 1) < far, "%s: step %d: %.9g, one rank %.9g",
            cells_text(x), k, a->loss[k], b->loss[k]);
}

/* The losses of all steps, and in `run` the first step's gradient. */
static struct outcome learn(const char *run, const char *config, const struct cells *x)
{
    struct jobspec s = job("all", config, x), first = job(run, config, x);
    first.train.steps = 1;
    training_run_whole(&first, x->world);
    mem_free((char *)first.model.config);
    struct outcome o = training_run_whole(&s, x->world);
    forget(&s);
    return o;
}

static void compare(const char *config, const struct cells *cells, int n, const char *what)
{
    const struct cells alone = {.world = 1};
    struct outcome want = learn("one", config, &alone);
    struct generation *b = generation_open("one", 1);
    ck_assert_double_lt(want.loss[STEPS], 0.9 * want.loss[1]);
    for (int i = 0; i < n; i++) {
        printf("%s: %s\n", what, cells_text(&cells[i]));
        struct outcome got = learn("many", config, &cells[i]);
        compare_losses(&got, &want, &cells[i], 1e-5);
        struct generation *a = generation_open("many", 1);
        generation_near(a, b, ".exp_avg", 1e-4);
        generation_close(a);
        golden_remove(training_path("many"));
    }
    generation_close(b);
    golden_remove(training_path("one"));
}

#define MOST 16
/* All of a list, or of those that a sample has so many that the seed chooses. */
static int choose(const struct cells *from, int n, int sample, int salt, struct cells out[MOST])
{
    uint64_t random = sample_setting("LLMJOB_SEED") * 8 + (uint64_t)salt;
    bool whole = sample_setting("LLMJOB_SAMPLE") == 1;
    for (int i = 0; i < n && i < (whole ? n : sample); i++)
        out[i] = from[whole ? i : (int)(random_next(&random) % (uint64_t)n)];
    return whole ? n : sample;
}

static const struct cells axes[] = {{.world = 2}, {.world = 4}, {.world = 2, .tensor = 2},
    {.world = 4, .tensor = 4}, {.world = 2, .pipeline = 2}, {.world = 4, .pipeline = 4},
    {.world = 2, .pipeline = 2, .chunks = 2}, {.world = 2, .context = 2},
    {.world = 4, .context = 4}, {.world = 2, .zero = 1}, {.world = 4, .zero = 1},
    {.world = 2, .zero = 2}, {.world = 4, .zero = 2}, {.world = 2, .zero = 3},
    {.world = 4, .zero = 3}};
static const struct cells products[] = {{.world = 8, .tensor = 2, .pipeline = 2},
    {.world = 8, .tensor = 2, .context = 2}, {.world = 8, .pipeline = 2, .context = 2},
    {.world = 8, .tensor = 2, .pipeline = 2, .context = 2}, {.world = 8, .tensor = 2, .zero = 1},
    {.world = 8, .pipeline = 2, .zero = 1}, {.world = 8, .context = 2, .zero = 1},
    {.world = 8, .tensor = 4}, {.world = 8, .pipeline = 4, .zero = 1},
    {.world = 8, .tensor = 2, .pipeline = 2, .zero = 1}, {.world = 8, .context = 4, .zero = 1},
    {.world = 8, .tensor = 2, .context = 2, .zero = 1},
    {.world = 8, .tensor = 2, .pipeline = 2, .chunks = 2, .zero = 1},
    {.world = 8, .pipeline = 2, .chunks = 2, .context = 2}};
static const struct cells expert_products[] = {{.world = 2, .expert = 2}, {.world = 4, .expert = 4},
    {.world = 8, .expert = 2}, {.world = 8, .expert = 4}, {.world = 8, .expert = 2, .zero = 1},
    {.world = 8, .expert = 4, .zero = 1}, {.world = 8, .tensor = 2, .expert = 2},
    {.world = 8, .tensor = 2, .expert = 4}, {.world = 8, .pipeline = 2, .expert = 2},
    {.world = 8, .pipeline = 2, .chunks = 2, .expert = 2, .zero = 1},
    {.world = 8, .context = 2, .expert = 2, .zero = 1}, {.world = 8, .context = 4, .expert = 2},
    {.world = 8, .tensor = 2, .pipeline = 2, .expert = 2},
    {.world = 8, .tensor = 2, .context = 2, .expert = 2},
    {.world = 8, .pipeline = 2, .context = 2, .expert = 2}};
#define COUNT(list) ((int)(sizeof(list) / sizeof *(list)))

START_TEST(each_axis_learns_what_one_rank_learns)
{
    struct cells taken[MOST];
    sample_print();
    compare(LLAMA, taken, choose(axes, COUNT(axes), 1, 0, taken), "llama");
    if (sample_takes(0))
        compare(GPT2, taken, choose(axes, COUNT(axes), 1, 1, taken), "gpt2");
}
END_TEST

START_TEST(products_of_axes_learn_what_one_rank_learns)
{
    struct cells taken[MOST];
    sample_print();
    if (sample_takes(0) || sample_takes(1))
        compare(LLAMA, taken, choose(products, COUNT(products), 1, 2, taken), "llama");
    else
        compare(GPT2, taken, choose(products, COUNT(products), 1, 3, taken), "gpt2");
    if (sample_setting("LLMJOB_SAMPLE") == 1)
        compare(GPT2, products, COUNT(products), "gpt2");
}
END_TEST

START_TEST(mixtures_learn_what_one_rank_learns)
{
    static const struct {
        const struct cells *at;
        int count;
    } lists[] = {{axes, COUNT(axes)}, {products, COUNT(products)},
        {expert_products, COUNT(expert_products)}};
    uint64_t random = sample_setting("LLMJOB_SEED") * 8 + 4;
    bool whole = sample_setting("LLMJOB_SAMPLE") == 1;
    uint64_t one = random_next(&random) % COUNT(lists);
    struct cells taken[MOST];
    sample_print();
    for (uint64_t i = 0; i < COUNT(lists); i++)
        if (whole || i == one)
            compare(MIXTRAL, taken, choose(lists[i].at, lists[i].count, 1, 5, taken), "mixtral");
}
END_TEST

/* What is left out, too, whoever computes it. */
START_TEST(any_layout_leaves_out_the_same)
{
    static const struct cells some[] = {{.world = 2}, {.world = 2, .tensor = 2},
        {.world = 2, .pipeline = 2}, {.world = 2, .pipeline = 2, .chunks = 2},
        {.world = 2, .context = 2}, {.world = 2, .zero = 3},
        {.world = 4, .tensor = 2, .context = 2}, {.world = 4, .context = 4},
        {.world = 8, .tensor = 2, .pipeline = 2, .context = 2}};
    static const struct cells of_experts[] = {
        {.world = 2, .expert = 2}, {.world = 4, .context = 2, .expert = 2}};
    struct cells taken[MOST];
    sample_print();
    dropping = true;
    compare(LLAMA, taken, choose(some, COUNT(some), 2, 8, taken), "llama, dropping");
    if (sample_takes(0))
        compare(GPT2, taken, choose(some, COUNT(some), 1, 9, taken), "gpt2, dropping");
    if (sample_takes(1))
        compare(MIXTRAL, taken, choose(of_experts, COUNT(of_experts), 1, 10, taken),
            "mixtral, dropping");
    dropping = false;
}
END_TEST

/* -- from any layout to any other -- */

#define SAVED 6

static void run_until(const struct jobspec *s, const struct cells *x, int incarnation, int stop)
{
    struct outcome o = training_run(&(struct training){
        .spec = s, .size = x->world, .incarnation = incarnation, .stop_after = stop});
    for (int i = 0; i < x->world; i++)
        ck_assert_msg(o.exit[i] == EXIT_CLASS_DONE || (stop && o.exit[i] == EXIT_CLASS_DRAINED),
            "%s: rank %d: %s", cells_text(x), i, o.message);
}

/* Saves once, at step SAVED; a step later, at its end, the job has saved again. */
static struct jobspec two_saves(const char *run, const char *config, const struct cells *x)
{
    struct jobspec s = job(run, config, x);
    s.train.steps = SAVED + 1;
    s.checkpoint.every_steps = SAVED;
    return s;
}

/* A generation's next step by another layout, out of its own files or out of whole tensors. */
static struct generation *next_step(
    struct generation *from, bool whole, const char *config, const struct cells *x)
{
    const char *run = whole ? "whole" : "pieces";
    struct jobspec s = two_saves(run, config, x);
    if (whole)
        generation_rewrite(from, run);
    else
        generation_copy(from, run);
    run_until(&s, x, 9, 0);
    mem_free((char *)s.model.config);
    return generation_open(run, SAVED + 1);
}

/* All of `to` go on from what x saved. */
static void go_on_from(const char *config, const struct cells *x, const struct cells *to, int n)
{
    struct jobspec s = two_saves("from", config, x);
    run_until(&s, x, 1, 0);
    struct generation *saved = generation_open("from", SAVED), *went_on;
    went_on = generation_open("from", SAVED + 1);
    double loss = generation_loss(went_on);
    for (int i = 0; i < n; i++) {
        printf("from %s to %s\n", cells_text(x), cells_text(&to[i]));
        struct generation *a = next_step(saved, false, config, &to[i]);
        struct generation *b = next_step(saved, true, config, &to[i]);
        double off = fabs(generation_loss(a) / loss - 1);
        ck_assert_msg(off < 1e-6, "from %s to %s: %.9g, not %.9g", cells_text(x),
            cells_text(&to[i]), generation_loss(a), loss);
        generation_near(a, b, "", 0);
        generation_near(a, went_on, ".exp_avg", 1e-4);
        generation_close(a);
        generation_close(b);
        golden_remove(training_path("pieces"));
        golden_remove(training_path("whole"));
    }
    generation_close(saved);
    generation_close(went_on);
    forget(&s);
}

START_TEST(any_layout_goes_on_from_what_any_saved)
{
    static const struct cells grid[] = {{.world = 1}, {.world = 3, .zero = 1},
        {.world = 2, .zero = 2}, {.world = 4, .zero = 3}, {.world = 4, .tensor = 4},
        {.world = 2, .pipeline = 2}, {.world = 4, .context = 2},
        {.world = 4, .tensor = 2, .pipeline = 2},
        {.world = 4, .pipeline = 2, .chunks = 2, .zero = 1}};
    static const struct cells of_experts[] = {{.world = 1}, {.world = 2, .expert = 2},
        {.world = 3, .zero = 1}, {.world = 4, .tensor = 2, .expert = 2},
        {.world = 4, .pipeline = 2, .expert = 2}, {.world = 4, .tensor = 4},
        {.world = 4, .context = 2, .expert = 2}};
    struct cells from[MOST], to[MOST];
    sample_print();
    int n = choose(grid, COUNT(grid), 1, 5, from), m = choose(grid, COUNT(grid), 2, 6, to);
    for (int i = 0; i < n; i++)
        go_on_from(LLAMA, &from[i], to, m);
    n = choose(of_experts, COUNT(of_experts), 1, 4, from);
    m = choose(of_experts, COUNT(of_experts), 1, 3, to);
    for (int i = 0; i < n && (sample_setting("LLMJOB_SAMPLE") == 1 || sample_takes(0)); i++)
        go_on_from(MIXTRAL, &from[i], to, m);
}
END_TEST

/* -- stops -- */

START_TEST(a_stop_at_any_step_costs_no_bit)
{
    static const struct cells layouts[] = {{.world = 2}, {.world = 3, .zero = 1},
        {.world = 4, .zero = 3}, {.world = 4, .tensor = 2, .pipeline = 2},
        {.world = 2, .context = 2}, {.world = 2, .pipeline = 2},
        {.world = 2, .pipeline = 2, .chunks = 2}};
    uint64_t random = sample_setting("LLMJOB_SEED") * 8 + 7;
    struct cells taken[MOST];
    sample_print();
    dropping = sample_takes(2);
    for (int i = 0, n = choose(layouts, COUNT(layouts), 1, 7, taken); i < n; i++) {
        int stop = 1 + (int)(random_next(&random) % (STEPS - 3));
        struct jobspec whole = job("straight", LLAMA, &taken[i]),
                       cut = job("cut", LLAMA, &taken[i]);
        printf("%s%s, stopped after step %d\n", cells_text(&taken[i]), dropping ? ", dropping" : "",
            stop);
        run_until(&whole, &taken[i], 1, 0);
        run_until(&cut, &taken[i], 1, stop);
        run_until(&cut, &taken[i], 2, 0);
        struct generation *a = generation_open("cut", STEPS),
                          *b = generation_open("straight", STEPS);
        ck_assert(generation_loss(a) == generation_loss(b));
        generation_near(a, b, "", 0);
        generation_close(a);
        generation_close(b);
        forget(&whole);
        forget(&cut);
    }
    dropping = false;
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){"layouts", 1500, training_setup, training_teardown},
        (const TTest *const[]){each_axis_learns_what_one_rank_learns,
            products_of_axes_learn_what_one_rank_learns, mixtures_learn_what_one_rank_learns,
            any_layout_leaves_out_the_same, any_layout_goes_on_from_what_any_saved,
            a_stop_at_any_step_costs_no_bit, NULL});
}
