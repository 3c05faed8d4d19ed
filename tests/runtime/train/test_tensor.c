/*
 * Goal: ranks that share one model (tensor parallelism) train what one rank trains. Method: real
 * ranks, one process each, on tiny models with random weights, of families that differ in what is
 * cut: grouped heads that do not come out even, norms of heads, biases, one feed-forward matrix.
 * Losses and the exported folder beside those of one rank; adapters; 16 bits; data parallelism
 * beside it; checkpoints that one layout writes and another goes on from; a rank that dies.
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
    "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 6, " \
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

static struct jobspec job(const char *run, const char *config, int tensor)
{
    struct jobspec s = training_job(run);
    const char *path = training_path("shape.json");

    golden_write(path, config, strlen(config));
    s.model.init = INIT_RANDOM;
    s.model.config = mem_strdup(path);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.train.output = mem_strdup(training_path(tensor > 1 ? "output-tensor" : "output"));
    s.parallelism.tensor = tensor;
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
        snprintf(path[i], sizeof path[i], "%s/%s/%s", training_folder,
            i ? "output" : "output-tensor", name);
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

/* One rank, and `world` ranks of which `tensor` share a model. */
static void compare(const char *config, int world, int tensor, void (*change)(struct jobspec *),
    double far)
{
    struct jobspec one = job("one", config, 0), many = job("many", config, tensor);
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
    golden_remove(training_path("output-tensor"));
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

START_TEST(shares_are_one_model)
{
    static const struct {
        const char *config;
        int world, tensor;
        void (*change)(struct jobspec *);
        double far;
    } cases[] = {
        {LLAMA, 2, 2, NULL, 1e-5}, /* three key/value heads: two and one */
        {LLAMA, 3, 3, NULL, 1e-5},
        {QWEN3, 2, 2, NULL, 1e-5},
        {GPT2, 4, 4, NULL, 1e-5},
        {GPT2, 4, 2, NULL, 1e-5}, /* beside data parallelism */
        {LLAMA, 4, 2, divided, 1e-5},
        {LLAMA, 2, 2, all_linear, 1e-5},
        {GPT2, 2, 2, all_linear, 1e-5},
        {LLAMA, 2, 2, in_bf16, 1e-2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        compare(cases[i].config, cases[i].world, cases[i].tensor, cases[i].change, cases[i].far);
}
END_TEST

/* Stops after the sixth step, and goes on in another layout. */
START_TEST(any_layout_goes_on_from_any_other)
{
    static const struct {
        int world, tensor;
    } layouts[] = {{1, 1}, {2, 2}, {3, 3}, {2, 1}, {4, 2}};
    struct jobspec one = job("one", LLAMA, 0);
    struct outcome whole = training_run_whole(&one, 1);

    for (int i = 0; i < 5; i++) {
        int to = (i + 1) % 5;
        struct jobspec s = job("many", LLAMA, layouts[i].tensor);
        struct outcome a = training_run(&(struct training){
            .spec = &s, .size = layouts[i].world, .incarnation = 1, .stop_after = 6});

        ck_assert_msg(a.drained && a.last < STEPS, "%s", a.message);
        s.parallelism.tensor = layouts[to].tensor;
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
        golden_remove(training_path("output-tensor"));
    }
    forget(&one);
}
END_TEST

/* The same layout again, stopped and gone on with: the same bits. */
START_TEST(a_resume_is_the_same_to_the_bit)
{
    struct jobspec whole = job("one", LLAMA, 2), cut = job("many", LLAMA, 2);
    struct outcome a = training_run_whole(&whole, 4);
    struct outcome b =
        training_run(&(struct training){.spec = &cut, .size = 4, .incarnation = 1, .stop_after = 6});

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
        int world, tensor;
        const char *says;
    } cases[] = {
        {4, 4, "spec.parallelism.tensor: 4, but spec.model has 3 key/value heads to share out"},
        {3, 2, "spec.parallelism.tensor: 2, which does not divide 3 ranks"},
    };
    for (int i = 0; i < 2; i++) {
        struct jobspec s = job("many", LLAMA, cases[i].tensor);
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
    struct jobspec s = job("many", LLAMA, 2);
    struct outcome o =
        training_run(&(struct training){.spec = &s, .size = 2, .incarnation = 1, .kill_after = 3});

    ck_assert_int_eq(o.exit[0], EXIT_CLASS_PEER);
    ck_assert_ptr_nonnull(strstr(o.message, "rank 1"));
    ck_assert_int_lt(o.end_ms, 10000);
    forget(&s);
}
END_TEST

int main(void)
{
    return unit_run_sampled(
        &(struct unit){"tensor parallelism", 120, training_setup, training_teardown},
        (const TTest *const[]){shares_are_one_model, any_layout_goes_on_from_any_other,
            a_resume_is_the_same_to_the_bit, what_cannot_be_shared_is_refused,
            a_rank_that_dies_is_a_lost_peer, NULL});
}
