/*
 * Goal: ranks that share one model, by tensor and by pipeline parallelism, train what one rank
 * trains. Method: real ranks, one process each, on tiny models with random weights, of families
 * that differ in what is cut: grouped heads and layers that do not come out even, norms of heads,
 * biases, one feed-forward matrix, an embedding that is the head. Losses and the exported folder
 * beside those of one rank; adapters; 16 bits; recomputation; data parallelism and ZeRO beside it;
 * hidden tokens; checkpoints that one layout writes and another goes on from; a rank that dies.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/training.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS 12

static struct err e;

/* -- jobs -- */

#define LLAMA \
    "{\"model_type\": \"llama\", \"vocab_size\": 320, \"hidden_size\": 48, " \
    "\"intermediate_size\": 80, \"num_hidden_layers\": 3, \"num_attention_heads\": 6, " \
    "\"num_key_value_heads\": 3, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": true}"
#define QWEN3 \
    "{\"model_type\": \"qwen3\", \"vocab_size\": 320, \"hidden_size\": 48, " \
    "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 2, \"head_dim\": 16, \"max_position_embeddings\": 64, " \
    "\"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0, \"tie_word_embeddings\": false}"
#define GPT2 \
    "{\"model_type\": \"gpt2\", \"vocab_size\": 320, \"n_embd\": 48, \"n_layer\": 2, " \
    "\"n_head\": 4, \"n_positions\": 64, \"layer_norm_epsilon\": 1e-5}"

static struct jobspec job(const char *run, const char *config, int tensor, int pipeline)
{
    struct jobspec s = training_job(run);
    const char *path = training_path("shape.json");

    golden_write(path, config, strlen(config));
    s.model.init = INIT_RANDOM;
    s.model.config = mem_strdup(path);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.train.output = mem_strdup(training_path(tensor * pipeline > 1 ? "output-many" : "output"));
    s.parallelism.tensor = tensor;
    s.parallelism.pipeline = pipeline;
    return s;
}

static void forget(struct jobspec *s)
{
    mem_free((char *)s->model.config);
    mem_free((char *)s->train.output);
}

static void losses_are_near(const struct outcome *a, const struct outcome *b, double far)
{
    for (int k = 1; k <= STEPS; k++)
        ck_assert_msg(fabs(a->loss[k] / b->loss[k] - 1) < far, "step %d: %.9g, one rank %.9g", k,
            a->loss[k], b->loss[k]);
    ck_assert_msg(fabs(a->validation / b->validation - 1) < far, "%.9g, one rank %.9g",
        a->validation, b->validation);
    ck_assert_double_lt(b->loss[STEPS], 0.98 * b->loss[1]);
}

/* Every tensor of both files, F32: relative to the largest difference from zero. */
static void tensors_are_near(const char *name, double far)
{
    char path[2][300];
    struct safetensors *s[2];

    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s/%s", training_folder, i ? "output" : "output-many",
            name);
        ck_assert_msg(!safetensors_open(path[i], &s[i], &e), "%s", e.text);
    }
    ck_assert_int_eq(safetensors_count(s[0]), safetensors_count(s[1]));
    for (int i = 0; i < safetensors_count(s[0]); i++) {
        const struct safetensors_tensor *a = safetensors_at(s[0], i);
        const struct safetensors_tensor *b = safetensors_find(s[1], a->name);
        double most = 0, apart = 0;

        ck_assert_msg(b && b->bytes == a->bytes, "%s", a->name);
        for (int64_t k = 0; k < (int64_t)a->bytes / 4; k++) {
            double x = (double)((const float *)a->data)[k], y = (double)((const float *)b->data)[k];

            most = fmax(most, fabs(y));
            apart = fmax(apart, fabs(x - y));
        }
        ck_assert_msg(apart <= far * most, "%s: %g apart of %g", a->name, apart, most);
    }
    safetensors_close(s[0]);
    safetensors_close(s[1]);
}

/* One rank, and `world` ranks of which tensor x pipeline share a model. */
static void compare(const char *config, int world, int tensor, int pipeline,
    void (*change)(struct jobspec *), double far)
{
    struct jobspec one = job("one", config, 0, 0), many = job("many", config, tensor, pipeline);
    struct outcome a, b;

    if (change) {
        change(&one);
        change(&many);
    }
    b = training_run_whole(&one, 1);
    a = training_run_whole(&many, world);
    losses_are_near(&a, &b, far);
    if (one.precision == PRECISION_FP32)
        tensors_are_near("model.safetensors", 1e-3);
    if (one.train.method == METHOD_LORA)
        tensors_are_near("adapter/adapter_model.safetensors", 1e-2);
    forget(&one);
    forget(&many);
    golden_remove(training_path("one"));
    golden_remove(training_path("many"));
    golden_remove(training_path("output"));
    golden_remove(training_path("output-many"));
}

static void in_bf16(struct jobspec *s)
{
    s->precision = PRECISION_BF16;
}

/* With ZeRO stage 1 over the data axis. */
static void divided(struct jobspec *s)
{
    s->parallelism.zero_stage = 1;
}

static void all_linear(struct jobspec *s)
{
    training_lora(s);
    s->train.lora.target_count = 1;
    s->train.lora.targets[0] = "all-linear";
}

/* -- the cases -- */

static void again(struct jobspec *s)
{
    s->train.recompute = RECOMPUTE_FULL;
}

static void in_small_batches(struct jobspec *s)
{
    s->train.recompute = RECOMPUTE_SELECTIVE;
    s->train.batch_sequences = 7; /* the last micro-batch is a small one */
}

struct layout_case {
    const char *config;
    int world, tensor, pipeline;
    void (*change)(struct jobspec *);
    double far;
};

static void compare_all(const struct layout_case *c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        compare(c[i].config, c[i].world, c[i].tensor, c[i].pipeline, c[i].change, c[i].far);
}
#define COMPARE(cases) compare_all(cases, sizeof(cases) / sizeof *(cases))

START_TEST(matrices_are_shared_out)
{
    static const struct layout_case cases[] = {
        {LLAMA, 2, 2, 1, NULL, 1e-5}, /* three key/value heads: two and one */
        {LLAMA, 3, 3, 1, NULL, 1e-5},
        {QWEN3, 2, 2, 1, NULL, 1e-5},
        {GPT2, 4, 4, 1, NULL, 1e-5},
        {GPT2, 4, 2, 1, NULL, 1e-5},
        {LLAMA, 4, 2, 1, divided, 1e-5},
        {LLAMA, 2, 2, 1, all_linear, 1e-5},
        {GPT2, 2, 2, 1, all_linear, 1e-5},
        {LLAMA, 2, 2, 1, in_bf16, 1e-2},
    };
    COMPARE(cases);
}
END_TEST

START_TEST(layers_are_shared_out)
{
    static const struct layout_case cases[] = {
        {LLAMA, 2, 1, 2, NULL, 1e-5}, /* two layers and one; the embedding is on both */
        {LLAMA, 3, 1, 3, NULL, 1e-5}, /* one stage has neither embedding nor head */
        {QWEN3, 2, 1, 2, NULL, 1e-5}, /* the head is a matrix of its own */
        {GPT2, 4, 1, 2, NULL, 1e-5},
        {LLAMA, 4, 2, 2, NULL, 1e-5},
        {LLAMA, 4, 1, 2, divided, 1e-5},
        {LLAMA, 3, 1, 3, all_linear, 1e-5},
        {LLAMA, 3, 1, 3, again, 1e-5},
        {LLAMA, 2, 1, 2, in_small_batches, 1e-5},
        {GPT2, 2, 1, 2, in_bf16, 1e-2},
    };
    COMPARE(cases);
}
END_TEST

/* Stops after the sixth step, and goes on in another layout. */
START_TEST(any_layout_goes_on_from_any_other)
{
    static const struct {
        int world, tensor, pipeline;
    } layouts[] = {{1, 1, 1}, {2, 2, 1}, {3, 1, 3}, {3, 3, 1}, {4, 2, 2}, {2, 1, 1}, {4, 1, 2}};
    enum { LAYOUTS = sizeof layouts / sizeof *layouts };
    struct jobspec one = job("one", LLAMA, 0, 0);
    struct outcome whole = training_run_whole(&one, 1);

    for (int i = 0; i < LAYOUTS; i++) {
        int to = (i + 1) % LAYOUTS;
        struct jobspec s = job("many", LLAMA, layouts[i].tensor, layouts[i].pipeline);
        struct outcome a = training_run(&(struct training){
            .spec = &s, .size = layouts[i].world, .incarnation = 1, .stop_after = 6});

        ck_assert_msg(a.drained && a.last < STEPS, "%s", a.message);
        s.parallelism.tensor = layouts[to].tensor;
        s.parallelism.pipeline = layouts[to].pipeline;
        struct outcome b = training_run(
            &(struct training){.spec = &s, .size = layouts[to].world, .incarnation = 2});
        ck_assert_msg(b.exit[0] == EXIT_CLASS_DONE, "%s", b.message);
        ck_assert_int_eq(b.first, a.last + 1);
        for (int k = 1; k <= STEPS; k++) {
            double loss = k <= a.last ? a.loss[k] : b.loss[k];

            ck_assert_msg(fabs(loss / whole.loss[k] - 1) < 1e-5, "%d to %d, step %d: %.9g, %.9g", i,
                to, k, loss, whole.loss[k]);
        }
        forget(&s);
        golden_remove(training_path("many"));
        golden_remove(training_path("output-many"));
    }
    forget(&one);
}
END_TEST

/* The same layout again, stopped and gone on with: the same bits. */
START_TEST(a_resume_is_the_same_to_the_bit)
{
    struct jobspec whole = job("one", LLAMA, 2, 2), cut = job("many", LLAMA, 2, 2);
    struct outcome a = training_run_whole(&whole, 4);
    struct outcome b = training_run(
        &(struct training){.spec = &cut, .size = 4, .incarnation = 1, .stop_after = 6});

    ck_assert_msg(b.drained, "%s", b.message);
    struct outcome c = training_run(&(struct training){.spec = &cut, .size = 4, .incarnation = 2});
    ck_assert_msg(c.exit[0] == EXIT_CLASS_DONE, "%s", c.message);
    for (int k = c.first; k <= STEPS; k++)
        ck_assert_msg(c.loss[k] == a.loss[k], "step %d: %.9g, %.9g", k, c.loss[k], a.loss[k]);
    forget(&whole);
    forget(&cut);
}
END_TEST

START_TEST(what_cannot_be_shared_is_refused)
{
    static const struct {
        int world, tensor, pipeline;
        const char *says;
    } cases[] = {
        {4, 4, 1, "spec.parallelism.tensor: 4, but spec.model has 3 key/value heads to share out"},
        {4, 1, 4, "spec.parallelism.pipeline: 4, but spec.model has 3 layers"},
        {3, 2, 1, "spec.parallelism: tensor x pipeline is 2, which does not divide 3 ranks"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jobspec s = job("many", LLAMA, cases[i].tensor, cases[i].pipeline);
        struct outcome o =
            training_run(&(struct training){.spec = &s, .size = cases[i].world, .incarnation = 1});

        for (int k = 0; k < cases[i].world; k++)
            ck_assert_int_eq(o.exit[k], EXIT_CLASS_USER);
        ck_assert_str_eq(o.message, cases[i].says);
        forget(&s);
    }
}
END_TEST

START_TEST(a_rank_that_dies_is_a_lost_peer)
{
    for (int tensor = 1; tensor <= 2; tensor++) {
        struct jobspec s = job("many", LLAMA, tensor, 3 - tensor);
        struct outcome o = training_run(
            &(struct training){.spec = &s, .size = 2, .incarnation = 1, .kill_after = 3});

        ck_assert_int_eq(o.exit[0], EXIT_CLASS_PEER);
        ck_assert_ptr_nonnull(strstr(o.message, "rank 1"));
        ck_assert_int_lt(o.end_ms, 10000);
        forget(&s);
        golden_remove(training_path("many"));
    }
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){"parallel", 120, training_setup, training_teardown},
        (const TTest *const[]){matrices_are_shared_out, layers_are_shared_out,
            any_layout_goes_on_from_any_other, a_resume_is_the_same_to_the_bit,
            what_cannot_be_shared_is_refused, a_rank_that_dies_is_a_lost_peer, NULL});
}
