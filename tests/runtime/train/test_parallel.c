/*
 * Goal: ranks that share one model, by tensor, pipeline and expert parallelism, or its sequences,
 * by context parallelism, train what one rank trains. Method: real ranks, one process each, on tiny
 * models with random weights, of families that differ in what is cut: grouped heads and layers that
 * do not come out even, norms of heads, biases, one feed-forward matrix, an embedding that is the
 * head, mixtures of experts. Losses and the exported folder beside those of one rank; adapters; 16
 * bits; recomputation; data parallelism and ZeRO beside it; windows, packed documents and rows of
 * other lengths in chunks; as many rows for a rank's experts as can come, and none; checkpoints
 * that one layout writes and another goes on from; a rank that dies.
 * needs: sample
 */
#include "runtime/train/train.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/files/safetensors.h"
#include "tests/far.h"
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
/* Each token sees five, of other chunks too. */
#define MISTRAL \
    "{\"model_type\": \"mistral\", \"vocab_size\": 320, \"hidden_size\": 48, " \
    "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, " \
    "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": false, \"sliding_window\": 5}"

#define MIXTRAL_OF(k) \
    "{\"model_type\": \"mixtral\", \"vocab_size\": 320, \"hidden_size\": 48, " \
    "\"intermediate_size\": 40, \"num_hidden_layers\": 2, \"num_attention_heads\": 6, " \
    "\"num_key_value_heads\": 3, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, " \
    "\"rope_theta\": 10000.0, \"num_local_experts\": 4, \"num_experts_per_tok\": " k ", " \
    "\"router_aux_loss_coef\": 0.02, \"tie_word_embeddings\": false}"
#define MIXTRAL MIXTRAL_OF("2")
#define QWEN3_MOE \
    "{\"model_type\": \"qwen3_moe\", \"vocab_size\": 320, \"hidden_size\": 48, " \
    "\"intermediate_size\": 80, \"moe_intermediate_size\": 24, \"num_hidden_layers\": 2, " \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, " \
    "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0, " \
    "\"num_experts\": 7, \"num_experts_per_tok\": 3, \"norm_topk_prob\": true, " \
    "\"router_aux_loss_coef\": 0.01, \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], " \
    "\"tie_word_embeddings\": true}"

struct shares {
    int tensor, pipeline, expert, context; /* 0: 1 */
};

static int together(struct shares x)
{
    return (x.tensor > 1 ? x.tensor : 1) * (x.pipeline > 1 ? x.pipeline : 1) *
        (x.expert > 1 ? x.expert : 1) * (x.context > 1 ? x.context : 1);
}

static void share_by(struct jobspec *s, struct shares x)
{
    s->parallelism.tensor = x.tensor;
    s->parallelism.pipeline = x.pipeline;
    s->parallelism.expert = x.expert;
    s->parallelism.context = x.context;
}

static struct jobspec job(const char *run, const char *config, struct shares x)
{
    struct jobspec s = training_job(run);
    const char *path = training_path("shape.json");

    golden_write(path, config, strlen(config));
    s.model.init = INIT_RANDOM;
    s.model.config = mem_strdup(path);
    s.train.steps = STEPS;
    s.train.evaluate_every_steps = 0;
    s.train.output = mem_strdup(training_path(together(x) > 1 ? "output-many" : "output"));
    share_by(&s, x);
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
            apart = farther(apart, fabs(x - y));
        }
        ck_assert_msg(apart <= far * most, "%s: %g apart of %g", a->name, apart, most);
    }
    safetensors_close(s[0]);
    safetensors_close(s[1]);
}

struct layout_case {
    const char *config;
    int world;
    struct shares shares;
    void (*change)(struct jobspec *);
    double far;
};

/* One rank, and `world` ranks that share a model or its sequences. */
static void compare(const struct layout_case *c)
{
    struct jobspec one = job("one", c->config, (struct shares){0}),
                   many = job("many", c->config, c->shares);
    struct outcome a, b;

    if (c->change) {
        c->change(&one);
        c->change(&many);
    }
    b = training_run_whole(&one, 1);
    a = training_run_whole(&many, c->world);
    losses_are_near(&a, &b, c->far);
    if (one.train.sequence_length == TRAINING_T) /* of fewer tokens no two steps compare */
        ck_assert_double_lt(b.loss[STEPS], 0.98 * b.loss[1]);
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

static void in_fp16(struct jobspec *s)
{
    s->precision = PRECISION_FP16;
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

/* Completions of several lengths, of which the longest of a step is no whole row. */
static void write_completions(struct jobspec *s)
{
    buf_auto struct buf b;

    buf_init(&b, 1 << 20);
    for (int i = 0; i < 64; i++)
        buf_printf(&b, "{\"prompt\": \"say\", \"completion\": \"%.*s%d\"}\n", 1 + i % 4,
            (const char *[]){"good", "days", "wate", "nigh"}[i / 4 % 4], i % 3);
    s->train.data.train = training_path("completions.jsonl");
    s->train.data.format = FORMAT_JSONL;
    s->train.optimizer.learning_rate = 5e-3;
    golden_write(s->train.data.train, b.data, b.len);
}

static void of_documents(struct jobspec *s)
{
    write_completions(s);
    s->train.data.packing = true;
}

/* All is as with data parallelism that a rank computes of whole weights. */
static void of_whole_weights(struct jobspec *s)
{
    all_linear(s);
    s->train.lora.dora = true;
    s->train.optimizer.name = OPTIMIZER_ADAFACTOR;
    s->train.optimizer.learning_rate = 5e-2;
}

static void compare_all(const struct layout_case *c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        compare(&c[i]);
}
#define COMPARE(cases) compare_all(cases, sizeof(cases) / sizeof *(cases))

START_TEST(matrices_are_shared_out)
{
    static const struct layout_case cases[] = {
        {LLAMA, 2, {2, 1, 1, 1}, NULL, 1e-5}, /* three key/value heads: two and one */
        {LLAMA, 3, {3, 1, 1, 1}, NULL, 1e-5},
        {QWEN3, 2, {2, 1, 1, 1}, NULL, 1e-5},
        {GPT2, 4, {4, 1, 1, 1}, NULL, 1e-5},
        {GPT2, 4, {2, 1, 1, 1}, NULL, 1e-5},
        {LLAMA, 4, {2, 1, 1, 1}, divided, 1e-5},
        {LLAMA, 2, {2, 1, 1, 1}, all_linear, 1e-5},
        {GPT2, 2, {2, 1, 1, 1}, all_linear, 1e-5},
        {LLAMA, 2, {2, 1, 1, 1}, in_bf16, 1e-2},
        {LLAMA, 2, {2, 1, 1, 1}, in_fp16, 1e-3},
    };
    COMPARE(cases);
}
END_TEST

/* Also where a rank has no sample in the last micro-batch, and none at all. */
static void of_three(struct jobspec *s)
{
    s->train.batch_sequences = 3;
}

static void lora(struct jobspec *s)
{
    training_lora(s);
    s->train.lora.target_count = 2;
    s->train.lora.targets[1] = "o_proj";
}

static void by_sgd(struct jobspec *s)
{
    s->train.optimizer.name = OPTIMIZER_SGD;
    s->train.optimizer.learning_rate = 0.3;
    s->train.optimizer.momentum = 0.9;
}

/* So few tokens that many a time no row comes to an expert. */
static void of_few_tokens(struct jobspec *s)
{
    s->train.sequence_length = 2;
    s->train.batch_sequences = 4;
    s->train.optimizer.learning_rate = 0.01;
}

START_TEST(experts_are_shared_out)
{
    static const struct layout_case cases[] = {
        {MIXTRAL, 2, {1, 1, 2, 1}, NULL, 1e-5},
        {MIXTRAL, 3, {1, 1, 3, 1}, NULL, 1e-5}, /* four experts: two, one and one */
        {MIXTRAL, 4, {1, 1, 4, 1}, NULL, 1e-5},
        {MIXTRAL, 4, {1, 1, 2, 1}, NULL, 1e-5},
        {MIXTRAL_OF("4"), 3, {1, 1, 3, 1}, NULL, 1e-5}, /* as many rows as can come to a rank */
        {MIXTRAL_OF("1"), 4, {1, 1, 4, 1}, of_few_tokens, 1e-5},
    };
    COMPARE(cases);
}
END_TEST

START_TEST(experts_go_with_all_else)
{
    static const struct layout_case cases[] = {
        {QWEN3_MOE, 2, {1, 1, 2, 1}, again, 1e-5},
        {QWEN3_MOE, 3, {1, 1, 3, 1}, in_small_batches, 1e-5},
        {QWEN3_MOE, 4, {1, 1, 2, 1}, divided, 1e-5},
        {QWEN3_MOE, 4, {1, 1, 4, 1}, of_three, 1e-5},
        {MIXTRAL, 2, {1, 1, 2, 1}, by_sgd, 1e-5},
        {QWEN3_MOE, 3, {1, 1, 3, 1}, lora, 1e-5},
        {MIXTRAL, 2, {1, 1, 2, 1}, in_bf16, 1e-2},
        {MIXTRAL, 2, {1, 1, 2, 1}, in_fp16, 1e-3},
    };
    COMPARE(cases);
}
END_TEST

/* Of the batch of seven the third rank has no sequence left for its last micro-batch. */
START_TEST(mixtures_go_with_all_axes)
{
    static const struct layout_case cases[] = {
        {MIXTRAL, 3, {3, 1, 1, 1}, NULL, 1e-5}, /* 40 columns: 14, 13 and 13 */
        {QWEN3_MOE, 2, {2, 1, 1, 1}, lora, 1e-5},
        {MIXTRAL, 2, {2, 1, 1, 1}, in_bf16, 1e-2},
        {QWEN3_MOE, 2, {1, 2, 1, 1}, again, 1e-5},
        {QWEN3_MOE, 2, {1, 2, 1, 1}, write_completions, 1e-5},
        {MIXTRAL, 2, {1, 2, 1, 1}, in_fp16, 1e-3},
        {QWEN3_MOE, 2, {1, 1, 1, 2}, write_completions, 1e-5},
        {MIXTRAL, 4, {1, 1, 1, 4}, of_documents, 1e-5},
        {QWEN3_MOE, 4, {2, 1, 2, 1}, in_small_batches, 1e-5},
        {QWEN3_MOE, 4, {2, 1, 2, 1}, lora, 1e-5},
        {MIXTRAL, 6, {1, 2, 3, 1}, in_small_batches, 1e-5},
        {QWEN3_MOE, 4, {1, 2, 2, 1}, again, 1e-5},
        {QWEN3_MOE, 4, {1, 1, 2, 2}, write_completions, 1e-5},
    };
    COMPARE(cases);
}
END_TEST

/* What one rank exported is read by ranks that have some of it each. */
START_TEST(experts_are_read_where_they_are)
{
    struct jobspec first = job("first", QWEN3_MOE, (struct shares){0});
    char *source = mem_strdup(training_path("source"));

    training_run_whole(&first, 1);
    ck_assert_int_eq(rename(first.train.output, source), 0);
    struct jobspec one = job("one", QWEN3_MOE, (struct shares){0});
    struct jobspec many = job("many", QWEN3_MOE, (struct shares){.expert = 3});
    one.model.init = many.model.init = INIT_PRETRAINED;
    one.model.source = many.model.source = source;
    struct outcome b = training_run_whole(&one, 1), a = training_run_whole(&many, 3);
    losses_are_near(&a, &b, 1e-5);
    ck_assert_double_lt(b.loss[1], 5.7); /* of 320 tokens all alike: 5.77 */
    tensors_are_near("model.safetensors", 1e-3);
    forget(&first);
    forget(&one);
    forget(&many);
    golden_remove(source);
    mem_free(source);
    golden_remove(training_path("first"));
    golden_remove(training_path("one"));
    golden_remove(training_path("many"));
    golden_remove(training_path("output"));
    golden_remove(training_path("output-many"));
}
END_TEST

START_TEST(layers_are_shared_out)
{
    static const struct layout_case cases[] = {
        {LLAMA, 2, {1, 2, 1, 1}, NULL, 1e-5}, /* two layers and one; the embedding is on both */
        {LLAMA, 3, {1, 3, 1, 1}, NULL, 1e-5}, /* one stage has neither embedding nor head */
        {QWEN3, 2, {1, 2, 1, 1}, NULL, 1e-5}, /* the head is a matrix of its own */
        {GPT2, 4, {1, 2, 1, 1}, NULL, 1e-5},
        {LLAMA, 4, {2, 2, 1, 1}, NULL, 1e-5},
        {LLAMA, 4, {1, 2, 1, 1}, divided, 1e-5},
        {LLAMA, 3, {1, 3, 1, 1}, all_linear, 1e-5},
        {LLAMA, 3, {1, 3, 1, 1}, again, 1e-5},
        {LLAMA, 2, {1, 2, 1, 1}, in_small_batches, 1e-5},
        {GPT2, 2, {1, 2, 1, 1}, in_bf16, 1e-2},
        {GPT2, 2, {1, 2, 1, 1}, in_fp16, 1e-3},
    };
    COMPARE(cases);
}
END_TEST

START_TEST(sequences_are_shared_out)
{
    static const struct layout_case cases[] = {
        {LLAMA, 2, {1, 1, 1, 2}, NULL, 1e-5},
        {LLAMA, 4, {1, 1, 1, 4}, NULL, 1e-5},    /* chunks of two tokens */
        {GPT2, 4, {1, 1, 1, 2}, again, 1e-5},    /* learned positions; two replicas */
        {QWEN3, 4, {1, 1, 1, 2}, divided, 1e-5}, /* keys and values stand in two products */
        {LLAMA, 4, {2, 1, 1, 2}, NULL, 1e-5},
        {LLAMA, 4, {1, 2, 1, 2}, in_small_batches, 1e-5},
        {LLAMA, 2, {1, 1, 1, 2}, of_whole_weights, 1e-5},
        {MISTRAL, 4, {1, 1, 1, 4}, NULL, 1e-5},
        {LLAMA, 2, {1, 1, 1, 2}, write_completions, 1e-5},
        {MISTRAL, 2, {1, 1, 1, 2}, of_documents, 1e-5},
        {LLAMA, 4, {1, 1, 1, 4}, in_bf16, 1e-2},
        {LLAMA, 2, {1, 1, 1, 2}, in_fp16, 1e-3},
    };
    COMPARE(cases);
}
END_TEST

struct round_case {
    int world;
    struct shares shares;
};

/* Each stops after the sixth step, and the next one goes on. */
static void go_round(const char *config, const struct round_case *layouts, int n)
{
    struct jobspec one = job("one", config, (struct shares){0});
    struct outcome whole = training_run_whole(&one, 1);

    for (int i = 0; i < n; i++) {
        int to = (i + 1) % n;
        struct jobspec s = job("many", config, layouts[i].shares);
        struct outcome a = training_run(&(struct training){
            .spec = &s, .size = layouts[i].world, .incarnation = 1, .stop_after = 6});

        ck_assert_msg(a.drained && a.last < STEPS, "%s", a.message);
        share_by(&s, layouts[to].shares);
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
    golden_remove(training_path("one"));
}

START_TEST(any_layout_goes_on_from_any_other)
{
    static const struct round_case of_layers[] = {{1, {1, 1, 1, 1}}, {2, {2, 1, 1, 1}},
        {3, {1, 3, 1, 1}}, {2, {1, 1, 1, 2}}, {3, {3, 1, 1, 1}}, {4, {2, 2, 1, 1}},
        {2, {1, 1, 1, 1}}, {4, {1, 2, 1, 1}}, {4, {1, 1, 1, 4}}};
    static const struct round_case of_experts[] = {{1, {1, 1, 1, 1}}, {2, {1, 1, 2, 1}},
        {2, {2, 1, 1, 1}}, {3, {1, 1, 3, 1}}, {2, {1, 2, 1, 1}}, {2, {1, 1, 1, 1}},
        {4, {1, 1, 2, 1}}, {4, {2, 1, 2, 1}}};

    go_round(LLAMA, of_layers, sizeof of_layers / sizeof *of_layers);
    go_round(QWEN3_MOE, of_experts, sizeof of_experts / sizeof *of_experts);
}
END_TEST

/* The same layout again, stopped and gone on with: the same bits. */
static void stop_and_go_on(const char *config, struct shares shares)
{
    struct jobspec whole = job("one", config, shares), cut = job("many", config, shares);
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
    golden_remove(training_path("one"));
    golden_remove(training_path("many"));
}

START_TEST(a_resume_is_the_same_to_the_bit)
{
    stop_and_go_on(LLAMA, (struct shares){.tensor = 2, .pipeline = 2});
    stop_and_go_on(QWEN3_MOE, (struct shares){.expert = 2});
    stop_and_go_on(QWEN3_MOE, (struct shares){.pipeline = 2, .expert = 2});
}
END_TEST

START_TEST(what_cannot_be_shared_is_refused)
{
    static const struct {
        const char *config;
        int world;
        struct shares shares;
        const char *says;
    } cases[] = {
        {LLAMA, 4, {4, 1, 1, 1},
            "spec.parallelism.tensor: 4, but spec.model has 3 key/value heads to share out"},
        {LLAMA, 4, {1, 4, 1, 1}, "spec.parallelism.pipeline: 4, but spec.model has 3 layers"},
        {LLAMA, 3, {2, 1, 1, 1},
            "spec.parallelism: tensor x pipeline x expert x context is 2, which does not divide "
            "3 ranks"},
        {LLAMA, 2, {1, 1, 2, 1},
            "spec.parallelism.expert: 2, but spec.model has 0 experts a layer to share out"},
        {LLAMA, 3, {1, 1, 1, 3},
            "spec.train.sequenceLength: 16, which is no multiple of 2 x context, 6"},
        {MIXTRAL, 5, {1, 1, 5, 1},
            "spec.parallelism.expert: 5, but spec.model has 4 experts a layer to share out"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jobspec s = job("many", cases[i].config, cases[i].shares);
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
    static const struct {
        const char *config;
        struct shares shares;
    } cases[] = {{LLAMA, {1, 2, 1, 1}}, {LLAMA, {2, 1, 1, 1}}, {MIXTRAL, {1, 1, 2, 1}},
        {LLAMA, {1, 1, 1, 2}}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jobspec s = job("many", cases[i].config, cases[i].shares);
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
            sequences_are_shared_out, experts_are_shared_out, experts_go_with_all_else,
            mixtures_go_with_all_axes, experts_are_read_where_they_are,
            any_layout_goes_on_from_any_other, a_resume_is_the_same_to_the_bit,
            what_cannot_be_shared_is_refused, a_rank_that_dies_is_a_lost_peer, NULL});
}
