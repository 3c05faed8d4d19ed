/*
 * Goal: the gradients are those of the loss, within 1e-4 relative, for full training and LoRA,
 * every kind of norm, activation, positions and biases, tied and untied heads, norms behind the
 * residuals and of heads, attention both ways over sequences of unlike lengths, through a window
 * and within documents, labels, whatever the micro-batch; and LoRA leaves what is frozen alone.
 * Recomputation changes no bit of them, on the processor and on the simulated GPU. Method:
 * differences of losses, of two kinds.
 *
 * The oracle's loss (double, tests/runtime/oracle.h), which is first shown to be the model's loss:
 * along random directions that no cancellation makes flat, and along single elements. Nothing is
 * allowed beside the relative tolerance.
 *
 * The model's own loss (reference kernels) along each tensor's gradient, whose slope must be the
 * gradient's length. Losses of rows are F32, which leaves an error of about 1e-6 in their sum (160,
 * added in double). So a step goes as far as the loss changes by a quarter (STEP_LOSS): the error
 * is 1e-5 of that, and differences of eighth order leave less than that of how the loss bends on
 * such a way. A tensor of which that would be too large a share (STEP_SHARE: the bend counts) is
 * left to the oracle.
 * needs: cuda sample
 */
#include "runtime/model/pass.h"

#include "tests/far.h"
#include "tests/runtime/oracle.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define N          (TINY_B * TINY_T)
#define PLACE      7 /* of the first sequence in the order of training: dropout */
#define TOLERANCE  1e-4
#define STEP_LOSS  0.25
#define STEP_SHARE 0.06 /* of the tensor's length: no way is longer */

static struct err e;
static int32_t inputs[N], labels[N], lengths[TINY_B];
static const int32_t *documents; /* (N) where each token's begins; NULL: rows are whole */

struct subject {
    struct dev *d;
    struct model *m;
    struct pass *pass;
    struct model_conf conf;
    struct oracle o;
    bool own_losses;
    double total; /* length of the whole gradient */
    double worst_own, worst_oracle;
    int own, parts;
};

static struct model_conf conf_of(
    struct model_config config, const char *const *targets, enum dtype t)
{
    return (struct model_conf){.config = config,
        .t = t,
        .train = true,
        .micro_sequences = TINY_B,
        .sequence_length = TINY_T,
        .lora_rank = targets ? 4 : 0,
        .lora_alpha = 12, /* products as large as full matrices */
        .lora_targets = targets,
        .packed = documents,
        .seed = 3};
}

/* Sequences of labels, and those that experts are balanced over, are of unlike lengths, others
   whole. */
static bool has_lengths(const struct model_config *c)
{
    return c->labels || c->experts;
}

static struct pass *open(struct dev *d, const struct model_conf *c)
{
    struct pass *pass = tiny_pass(d, c);
    tiny_fill(d, pass_model(pass), 5);
    tiny_ids(inputs, N, 7);
    tiny_ids(labels, N, 8);
    labels[4] = -1; /* a target that does not count */
    for (int64_t i = 0; c->config.masked && i < N; i++)
        labels[i] = i % 3 == 1 ? labels[i] : -1; /* few tokens are masked */
    for (int64_t i = 0; has_lengths(&c->config) && i < c->micro_sequences; i++)
        for (int64_t j = 0, t = c->sequence_length; j < t; j++) {
            int32_t label = labels[i * t + j];
            lengths[i] = (int32_t)(t - i * t / 3);
            label = c->config.labels ? label % (int)c->config.labels : label;
            labels[i * t + j] = j < lengths[i] ? label : -1;
        }
    for (int64_t i = 0; c->config.several && i < N; i++)
        labels[i] = i % 3 == 1;
    return pass;
}

static struct pass_input input_of(const struct model_config *c)
{
    return (struct pass_input){.ids = inputs,
        .lengths = has_lengths(c) ? lengths : NULL,
        .first = documents,
        .targets = labels};
}

static double loss_of(struct pass *pass, const struct model_conf *c)
{
    const struct pass_input in = input_of(&c->config);
    double sum;

    ck_assert_msg(!pass_step(pass, TINY_B, &in, 1, false, &sum, &e), "%s", e.text);
    return sum;
}

static double length_of(const float *g, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    return sqrt(sum);
}

static double loss_at(
    const struct subject *s, const struct tensor *p, const float *w, const float *u, double step)
{
    mem_autofree float *moved = mem_array((size_t)p->count, sizeof(float));

    for (int64_t i = 0; i < p->count; i++)
        moved[i] = (float)((double)w[i] + step * (double)u[i]);
    dev_upload(s->d, model_master(s->m) + p->offset, moved, (size_t)p->count * 4);
    return loss_of(s->pass, &s->conf);
}

/* The model's slope along g / |g| by central differences of eighth order (Fornberg 1988). */
static double own_slope(
    const struct subject *s, const struct tensor *p, const float *w, const float *g, double length)
{
    static const double weights[] = {4 / 5.0, -1 / 5.0, 4 / 105.0, -1 / 280.0};
    double h = STEP_LOSS / length, slope = 0;

    for (int i = 0; i < 4; i++) {
        double way = (i + 1) * h / length;

        slope += weights[i] / h * (loss_at(s, p, w, g, way) - loss_at(s, p, w, g, -way));
    }
    dev_upload(s->d, model_master(s->m) + p->offset, w, (size_t)p->count * 4);
    return slope;
}

/* The oracle's slope along u by a central difference: in double, at this step, 1e-7 of it. */
static double oracle_slope(struct subject *s, const struct tensor *p, const double *u)
{
    mem_autofree double *w = mem_array((size_t)p->count, sizeof(double));
    double *at = oracle_part(&s->o, p->name), h = 1e-4, loss[2];

    memcpy(w, at, (size_t)p->count * sizeof *w);
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < p->count; i++)
            at[i] = w[i] + (k ? h : -h) * u[i];
        loss[k] = oracle_loss(&s->o, inputs, labels);
    }
    memcpy(at, w, (size_t)p->count * sizeof *w);
    return (loss[1] - loss[0]) / (2 * h);
}

/* Directions in which every element of g counts with its own sign. */
static void check_directions(struct subject *s, const struct tensor *p, const float *g)
{
    mem_autofree double *u = mem_array((size_t)p->count, sizeof(double));
    uint64_t seed = 11;

    for (int k = 0; k < 2; k++) {
        double want = 0, got, size = 0;

        for (int64_t i = 0; i < p->count; i++) {
            u[i] = copysign(fabs(tiny_random(&seed)), (double)g[i]);
            size += u[i] * u[i];
        }
        for (int64_t i = 0; i < p->count; i++) {
            u[i] /= sqrt(size);
            want += u[i] * (double)g[i];
        }
        got = oracle_slope(s, p, u);
        s->worst_oracle = farther(s->worst_oracle, fabs(got / want - 1));
        ck_assert_msg(fabs(got - want) <= TOLERANCE * want, "%s: %.9g, the oracle says %.9g",
            p->name, want, got);
    }
}

/* Some elements, each within 1e-4 of its own size and of the tensor's root mean square. */
static void check_elements(struct subject *s, const struct tensor *p, const float *g, double length)
{
    mem_autofree double *u = mem_array((size_t)p->count, sizeof(double));
    double mean = length / sqrt((double)p->count);

    for (int64_t i = p->count / 8; i < p->count; i += p->count / 4 + 1) {
        double want = (double)g[i], got;

        u[i] = 1;
        got = oracle_slope(s, p, u);
        u[i] = 0;
        ck_assert_msg(fabs(got - want) <= TOLERANCE * fmax(fabs(want), mean),
            "%s[%lld]: %.9g, the oracle says %.9g", p->name, (long long)i, want, got);
    }
}

/* The bias of keys adds the same to every score of a query where nothing turns them: no
   gradient. */
static bool flat(const struct subject *s, const struct tensor *p)
{
    return s->conf.config.positions != POSITIONS_ROTARY && strstr(p->name, ".k_proj.bias");
}

static void check_part(struct subject *s, const struct tensor *p)
{
    mem_autofree float *g = mem_array((size_t)p->count, sizeof(float));
    mem_autofree float *w = mem_array((size_t)p->count, sizeof(float));
    double length, slope;

    dev_download(s->d, g, pass_gradient(s->pass) + p->offset, (size_t)p->count * 4);
    dev_download(s->d, w, model_master(s->m) + p->offset, (size_t)p->count * 4);
    length = length_of(g, p->count);
    if (flat(s, p)) {
        mem_autofree double *u = mem_array((size_t)p->count, sizeof(double));

        u[0] = 1;
        ck_assert_double_le(length, 1e-6 * s->total);
        ck_assert_double_le(fabs(oracle_slope(s, p, u)), 1e-8 * s->total);
        return;
    }
    check_directions(s, p, g);
    check_elements(s, p, g, length);
    s->parts++;
    if (!s->own_losses || STEP_LOSS / length > STEP_SHARE * length_of(w, p->count))
        return;
    slope = own_slope(s, p, w, g, length);
    s->worst_own = farther(s->worst_own, fabs(slope / length - 1));
    s->own++;
    ck_assert_msg(fabs(slope - length) <= TOLERANCE * length, "%s: length %.9g, slope %.9g",
        p->name, length, slope);
}

static void check_conf(const char *kind, const struct model_conf *conf)
{
    const char *const *targets = conf->lora_targets;
    struct subject s = {.conf = *conf, .own_losses = !strcmp(kind, "cpu-ref") && !targets};
    const struct pass_input in = input_of(&conf->config);
    double sum;

    ck_assert_msg(!dev_open(kind, 0, 2, &s.d, &e), "%s", e.text);
    s.pass = open(s.d, &s.conf);
    s.m = pass_model(s.pass);
    oracle_open(&s.o, s.d, s.m, &s.conf);
    s.o.place = PLACE;
    s.o.lengths = in.lengths;
    s.o.first = in.first;
    pass_set_place(s.pass, PLACE);
    pass_zero_gradient(s.pass);
    ck_assert(!pass_step(s.pass, TINY_B, &in, 1, true, &sum, &e));
    if (conf->dropout.residual > 0 || conf->dropout.attention > 0 || conf->lora_dropout > 0)
        ck_assert(fabs(sum / loss_of(s.pass, conf) - 1) > 1e-5); /* of training only */
    else
        ck_assert_double_eq_tol(sum, loss_of(s.pass, conf), 1e-12);
    ck_assert_double_eq_tol(sum, oracle_loss(&s.o, inputs, labels), 1e-6 * sum);
    mem_autofree float *g = mem_array((size_t)model_trainable(s.m), sizeof(float));
    dev_download(s.d, g, pass_gradient(s.pass), (size_t)model_trainable(s.m) * 4);
    s.total = length_of(g, model_trainable(s.m));
    for (int i = 0; i < model_trained(s.m)->count; i++)
        check_part(&s, &model_trained(s.m)->at[i]);
    printf("%s, %s%s: %.1g off by the oracle's loss", kind, conf->config.architecture,
        targets ? " with adapters" : "", s.worst_oracle);
    if (s.own_losses) {
        printf(", %.1g by its own (%d of %d tensors)", s.worst_own, s.own, s.parts);
        ck_assert_int_ge(4 * s.own, 3 * s.parts);
    }
    printf("\n");
    oracle_close(&s.o);
    tiny_pass_close(s.pass);
    dev_close(s.d);
}

static void check_model(const char *kind, struct model_config config, const char *const *targets)
{
    struct model_conf c = conf_of(config, targets, DTYPE_F32);

    check_conf(kind, &c);
}

START_TEST(full_tied)
{
    check_model("cpu", tiny_config(true), NULL);
}
END_TEST

START_TEST(full_untied)
{
    check_model("cpu", tiny_config(false), NULL);
}
END_TEST

START_TEST(gpt2_tied)
{
    check_model("cpu", tiny_gpt2(), NULL);
}
END_TEST

START_TEST(gpt2_untied)
{
    struct model_config untied = tiny_gpt2();

    untied.tied_embeddings = false;
    check_model("cpu", untied, NULL);
}
END_TEST

START_TEST(rotary_with_gelu_layer_norm_and_biases)
{
    struct model_config c = tiny_config(false);

    c.activation = ACTIVATION_GELU;
    c.norm = NORM_LAYER;
    c.qkv_bias = true;
    check_model("cpu", c, NULL);
}
END_TEST

START_TEST(learned_positions_with_swiglu_and_biases)
{
    struct model_config c = tiny_config(true);

    c.positions = POSITIONS_LEARNED;
    c.ffn_bias = c.o_bias = true;
    check_model("cpu", c, NULL);
}
END_TEST

START_TEST(bert)
{
    struct model_config c = tiny_bert();

    check_model("cpu", tiny_texts(), NULL);
    check_model("cpu", shape_of("tiny-masked"), NULL);
    check_model("cpu", shape_of("tiny-several"), NULL);
    check_model("cpu", shape_of("tiny-last"), NULL);
    check_model("cpu", c, NULL);
    c.types = 0;
    c.embed_norm = false;
    c.norm = NORM_RMS;
    c.activation = ACTIVATION_SWIGLU;
    c.positions = POSITIONS_ROTARY;
    c.rope_theta = 10000;
    c.head_dim = 8;
    check_model("cpu", c, NULL);
}
END_TEST

/* The norm's place, the sight of attention and the head are one's own choice each. */
START_TEST(labels_above_a_causal_model)
{
    struct model_config c = tiny_config(false);

    c.labels = 4;
    check_model("cpu", c, NULL);
    c.post_norm = true;
    check_model("cpu", c, NULL);
}
END_TEST

START_TEST(norms_of_heads)
{
    check_model("cpu", shape_of("tiny-qwen3"), NULL);
}
END_TEST

START_TEST(window)
{
    check_model("cpu", shape_of("tiny-mistral"), NULL);
}
END_TEST

START_TEST(scaled_frequencies)
{
    struct model_config c = shape_of("tiny-llama3");

    check_model("cpu", c, NULL);
    c.rope_scaling = (struct op_rope_scaling){.kind = OP_ROPE_LINEAR, .factor = 2};
    check_model("cpu", c, NULL);
}
END_TEST

static struct model_dropout all_places(float p)
{
    return (struct model_dropout){p, p, p, p};
}

/* Two micro-batches give the gradient of one: differences come from rounding only. */
static void check_micro_batches(
    struct model_config config, const char *const *targets, float dropout)
{
    struct pass_input in = input_of(&config);
    struct dev *d;
    struct pass *pass;
    int64_t n;
    double sum, parts;

    ck_assert(!dev_open("cpu", 0, 2, &d, &e));
    struct model_conf c = conf_of(config, targets, DTYPE_F32);
    c.dropout = all_places(dropout / 2);
    c.lora_dropout = dropout;
    pass = open(d, &c);
    n = model_trainable(pass_model(pass));
    mem_autofree float *whole = mem_array((size_t)n, 4);
    mem_autofree float *added = mem_array((size_t)n, 4);
    pass_zero_gradient(pass);
    ck_assert(!pass_step(pass, TINY_B, &in, 0.5f, true, &sum, &e));
    dev_download(d, whole, pass_gradient(pass), (size_t)n * 4);
    pass_zero_gradient(pass);
    ck_assert(!pass_step(pass, 2, &in, 0.5f, true, &parts, &e));
    sum -= parts;
    pass_set_place(pass, 2);
    in.ids += 2 * TINY_T;
    in.targets += 2 * TINY_T;
    if (in.first)
        in.first += 2 * TINY_T;
    if (in.lengths)
        in.lengths += 2;
    ck_assert(!pass_step(pass, 1, &in, 0.5f, true, &parts, &e));
    ck_assert_double_eq_tol(sum, parts, 1e-4);
    dev_download(d, added, pass_gradient(pass), (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        ck_assert_float_eq_tol(whole[i], added[i], 1e-4f);
    tiny_pass_close(pass);
    dev_close(d);
}

/* Rows of two or three documents, the last of one token, one or four. */
static const int32_t some_documents[N] = {0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4, 12, /**/
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 12,                                       /**/
    0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9};

START_TEST(documents_see_nothing_of_each_other)
{
    static const char *const some[] = {"k_proj", "v_proj", "o_proj", NULL};

    documents = some_documents;
    check_model("cpu", tiny_config(true), NULL);
    check_model("cpu", shape_of("tiny-mistral"), some);
    check_model("cpu", tiny_gpt2(), NULL);
    check_micro_batches(tiny_config(true), NULL, 0);
    documents = NULL;
}
END_TEST

/* Whole rows after rows of documents are what they were before; what is no row of documents is
   refused. */
START_TEST(documents_of_one_step_are_not_those_of_the_next)
{
    static const int32_t bad[][3] = {{0, 0, 3}, {0, 1, 0}, {0, -1, 0}, {1, 1, 1}};
    struct dev *d;
    double loss[3];

    documents = some_documents;
    struct model_conf c = conf_of(shape_of("tiny-mistral"), NULL, DTYPE_F32);
    ck_assert(!dev_open("cpu", 0, 2, &d, &e));
    struct pass *pass = open(d, &c);
    struct pass_input in = {.ids = inputs, .targets = labels};
    for (int k = 0; k < 3; k++) {
        in.first = k == 1 ? documents : NULL;
        ck_assert(!pass_step(pass, TINY_B, &in, 1, false, &loss[k], &e));
    }
    ck_assert(loss[0] == loss[2] && loss[0] != loss[1]);
    for (int k = 0; k < 4; k++) {
        int32_t first[N] = {0};

        memcpy(first + TINY_T, bad[k], sizeof bad[k]);
        in.first = first;
        ck_assert_int_eq(pass_step(pass, TINY_B, &in, 1, false, &loss[1], &e), -ERR_DATA);
    }
    tiny_pass_close(pass);
    dev_close(d);
    documents = NULL;
}
END_TEST

START_TEST(reference_kernels)
{
    check_model("cpu-ref", tiny_config(true), NULL);
}
END_TEST

START_TEST(reference_kernels_gpt2)
{
    check_model("cpu-ref", tiny_gpt2(), NULL);
}
END_TEST

START_TEST(lora_everywhere)
{
    static const char *const all[] = {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", NULL};
    static const char *const gateless[] = {
        "q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", NULL};

    check_model("cpu", tiny_config(true), all);
    check_model("cpu", tiny_gpt2(), gateless);
    check_model("cpu", tiny_bert(), gateless);
}
END_TEST

START_TEST(lora_on_some)
{
    static const char *const some[] = {"k_proj", "down_proj", NULL};
    static const char *const one[] = {"up_proj", NULL}, *const two[] = {"q_proj", "k_proj", NULL};
    struct model_config qwen3 = shape_of("tiny-qwen3");

    qwen3.norm_eps = 0.01f; /* short keys turn so fast that no difference would be a slope */
    check_model("cpu", qwen3, two);
    check_model("cpu", tiny_config(true), some);
    check_model("cpu", tiny_config(false), one);
    check_model("cpu", tiny_gpt2(), one);
    check_model("cpu", tiny_bert(), some);
    check_model("cpu", tiny_texts(), some);
}
END_TEST

/* A quarter of the adapters' input left out, the same in backward as in forward. */
START_TEST(lora_with_dropout)
{
    static const char *const some[] = {"q_proj", "v_proj", "o_proj", "up_proj", "down_proj", NULL};
    struct model_conf c = conf_of(tiny_config(true), some, DTYPE_F32);

    c.lora_dropout = 0.25f;
    check_conf("cpu", &c);
    c.config = tiny_gpt2();
    c.config.layers = 2;
    check_conf("cuda", &c);
}
END_TEST

/* Of embeddings, sub-layers, probabilities and what a classifier reads, with norms before and
   behind; of pooled and last tokens; of heads in groups, through a window; beside LoRA's own. */
START_TEST(dropout_of_all)
{
    static const char *const some[] = {"q_proj", "o_proj", "down_proj", NULL};
    const struct model_config each[] = {
        tiny_gpt2(), tiny_bert(), tiny_texts(), shape_of("tiny-last"), shape_of("tiny-mistral")};
    struct model_conf c;
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        c = conf_of(each[i], NULL, DTYPE_F32);
        c.dropout = all_places(0.25f);
        check_conf(i ? "cpu" : "cuda", &c);
    }
    c = conf_of(tiny_config(true), some, DTYPE_F32);
    c.dropout = (struct model_dropout){0.125f, 0.25f, 0.5f, 0};
    c.lora_dropout = 0.5f;
    check_conf("cpu", &c);
    c.dropout = (struct model_dropout){.attention = 0.25f};
    check_conf("cpu", &c);
}
END_TEST

START_TEST(micro_batches_add_up)
{
    static const char *const both[] = {"k_proj", "down_proj", NULL};
    static const char *const some[] = {"k_proj", "o_proj", NULL};

    check_micro_batches(tiny_config(true), NULL, 0);
    check_micro_batches(tiny_config(true), both, 0.5f);
    check_micro_batches(tiny_bert(), NULL, 0.5f);
    check_micro_batches(tiny_texts(), NULL, 0.5f);
    check_micro_batches(shape_of("tiny-qwen3-moe"), NULL, 0);
    check_micro_batches(shape_of("tiny-mixtral"), some, 0);
}
END_TEST

/* The loss (first) and the gradient of one step, to be freed. */
static float *step_of(const char *kind, const struct model_conf *c, size_t *bytes)
{
    const struct pass_input in = input_of(&c->config);
    struct dev *d;
    struct pass *pass;
    double sum;
    float *out;

    ck_assert_msg(!dev_open(kind, 0, 2, &d, &e), "%s", e.text);
    pass = open(d, c);
    *bytes = sizeof sum + (size_t)model_trainable(pass_model(pass)) * 4;
    out = mem_alloc(*bytes);
    pass_zero_gradient(pass);
    for (int i = 0; i < 2; i++) /* what the first leaves in shared blocks must not count */
        ck_assert(!pass_step(pass, c->micro_sequences, &in, 1, true, &sum, &e));
    memcpy(out, &sum, sizeof sum);
    dev_download(d, out + 2, pass_gradient(pass), *bytes - sizeof sum);
    ck_assert_msg(!dev_sync(d, &e), "%s", e.text);
    tiny_pass_close(pass);
    dev_close(d);
    return out;
}

static void check_recomputation(const char *kind, struct model_config config)
{
    static const char *const some[] = {"k_proj", "o_proj", "up_proj", "down_proj", NULL};
    static const char *const of_attention[] = {"k_proj", "o_proj", NULL};
    const char *const *const adapters[] = {NULL, config.experts ? of_attention : some};

    for (int i = 0; i < 4; i++) {
        struct model_conf c = conf_of(config, adapters[i / 2], i % 2 ? DTYPE_BF16 : DTYPE_F32);
        size_t bytes;

        c.config.layers = 2;
        c.micro_sequences = 2;
        c.sequence_length = 5;
        c.dropout = all_places(i % 2 ? 0 : 0.25f);
        c.dropout.attention = 0.25f;
        c.lora_dropout = 0.25f;
        mem_autofree float *kept = step_of(kind, &c, &bytes);

        for (c.recompute = RECOMPUTE_SELECTIVE; c.recompute <= RECOMPUTE_FULL; c.recompute++) {
            mem_autofree float *again = step_of(kind, &c, &bytes);

            ck_assert_msg(!memcmp(kept, again, bytes), "%s, %s, %s%s: other bits with %s", kind,
                config.architecture, dtype_name(c.t), adapters[i / 2] ? " with adapters" : "",
                recompute_name(c.recompute));
        }
    }
}

START_TEST(recomputation_changes_no_bit)
{
    check_recomputation("cpu", tiny_config(true));
    check_recomputation("cpu", tiny_gpt2());
    check_recomputation("cpu", tiny_bert());
    check_recomputation("cpu", shape_of("tiny-qwen3"));
    check_recomputation("cpu", shape_of("tiny-qwen3-moe"));
    check_recomputation("cuda", tiny_config(false));
    check_recomputation("cuda", tiny_bert());
    check_recomputation("cuda", tiny_texts());
}
END_TEST

/* 16 bits keep the direction: the angle between both gradients is small, and the loss within a
   percent; in F16, of three more bits, both are eight times nearer, with the gradient scaled. */
static void check_half(struct model_config config, const char *const *targets, enum dtype t)
{
    double far = t == DTYPE_F16 ? 0.125 : 1;
    float scale = t == DTYPE_F16 ? 1024 : 1;
    const struct pass_input in = input_of(&config);
    struct dev *d;
    double loss[2], dot = 0, norm[2] = {0};
    float *g[2];
    int64_t n = 0;

    ck_assert(!dev_open("cpu", 0, 2, &d, &e));
    for (int k = 0; k < 2; k++) {
        struct model_conf c = conf_of(config, targets, k ? t : DTYPE_F32);
        struct pass *pass = open(d, &c);

        n = model_trainable(pass_model(pass));
        g[k] = mem_array((size_t)n, 4);
        pass_zero_gradient(pass);
        ck_assert(!pass_step(pass, TINY_B, &in, k ? scale : 1, true, &loss[k], &e));
        dev_download(d, g[k], pass_gradient(pass), (size_t)n * 4);
        tiny_pass_close(pass);
    }
    for (int64_t i = 0; i < n; i++) {
        g[1][i] /= scale;
        dot += (double)g[0][i] * (double)g[1][i];
        norm[0] += (double)g[0][i] * (double)g[0][i];
        norm[1] += (double)g[1][i] * (double)g[1][i];
    }
    ck_assert_double_eq_tol(loss[1] / loss[0], 1, 0.01 * far);
    ck_assert_double_ge(dot / sqrt(norm[0] * norm[1]), 1 - 0.001 * far * far);
    ck_assert_double_eq_tol(sqrt(norm[1] / norm[0]), 1, 0.02 * far);
    ck_assert(dot != norm[0]); /* it did compute in it */
    mem_free(g[0]);
    mem_free(g[1]);
    dev_close(d);
}

START_TEST(half_precision_is_near)
{
    static const char *const up[] = {"up_proj", NULL};

    for (enum dtype t = DTYPE_BF16; t <= DTYPE_F16; t++) {
        check_half(tiny_config(true), NULL, t);
        check_half(tiny_gpt2(), NULL, t);
        check_half(tiny_gpt2(), up, t);
        check_half(tiny_bert(), NULL, t);
        check_half(tiny_texts(), NULL, t);
        check_half(shape_of("tiny-masked"), NULL, t);
        check_half(shape_of("tiny-several"), NULL, t);
    }
}
END_TEST

/* GPT-2's own vocabulary, which is no multiple of anything. */
START_TEST(vocabulary_of_50257)
{
    struct subject s = {.conf = conf_of(tiny_gpt2(), NULL, DTYPE_F32)};
    const struct pass_input in = {.ids = inputs, .targets = labels};
    double sum;

    ck_assert(!dev_open("cpu", 0, 2, &s.d, &e));
    s.conf.config.vocab = 50257;
    s.conf.config.layers = 1;
    s.pass = open(s.d, &s.conf);
    s.m = pass_model(s.pass);
    for (int i = 0; i < N; i += 2)
        inputs[i] = labels[i] = 50256 - i;
    oracle_open(&s.o, s.d, s.m, &s.conf);
    pass_zero_gradient(s.pass);
    ck_assert(!pass_step(s.pass, TINY_B, &in, 1, true, &sum, &e));
    ck_assert_double_eq_tol(sum, oracle_loss(&s.o, inputs, labels), 1e-6 * sum);
    for (int i = 0; i < 2; i++) {
        const struct tensor *p = &model_trained(s.m)->at[i];
        mem_autofree float *g = mem_array((size_t)p->count, sizeof(float));

        dev_download(s.d, g, pass_gradient(s.pass) + p->offset, (size_t)p->count * 4);
        check_directions(&s, p, g);
    }
    oracle_close(&s.o);
    tiny_pass_close(s.pass);
    dev_close(s.d);
}
END_TEST

/* Loss, gradient and logits of the sequences in `tokens` a row; those that there are fit. */
static double rows_of(
    struct dev *d, struct pass *pass, int64_t tokens, float *gradient, float *logits)
{
    int64_t n = model_trainable(pass_model(pass));
    int32_t ids[N], out[N];
    const struct pass_input in = {.ids = ids, .lengths = lengths, .targets = out};
    double sum;

    for (int64_t i = 0; i < TINY_B * tokens; i++) {
        ids[i] = inputs[i / tokens * TINY_T + i % tokens];
        out[i] = labels[i / tokens * TINY_T + i % tokens];
    }
    pass_set_tokens(pass, tokens);
    ck_assert(!pass_step(pass, TINY_B, &in, 1, false, &sum, &e));
    ck_assert(!pass_label_logits(pass, TINY_B, logits, &e));
    pass_zero_gradient(pass);
    ck_assert(!pass_step(pass, TINY_B, &in, 1, true, &sum, &e));
    dev_download(d, gradient, pass_gradient(pass), (size_t)n * 4);
    ck_assert(!dev_sync(d, &e));
    return sum;
}

/* Padding is not seen: fewer tokens a row are the same step. */
START_TEST(shorter_rows_are_the_same_step)
{
    struct model_config config = tiny_bert();
    struct model_conf c = conf_of(config, NULL, DTYPE_F32);
    struct dev *d;

    ck_assert(!dev_open("cpu", 0, 2, &d, &e));
    struct pass *pass = open(d, &c);
    int64_t n = model_trainable(pass_model(pass)), k = config.labels, fewer = TINY_T - 4;
    float *g[3], *logits[3];
    double sum[3];
    for (int i = 0; i < TINY_B; i++) {
        lengths[i] = lengths[i] < fewer ? lengths[i] : (int32_t)fewer;
        for (int j = lengths[i]; j < TINY_T; j++)
            labels[i * TINY_T + j] = -1;
    }
    for (int i = 0; i < 3; i++) {
        g[i] = mem_array((size_t)n, sizeof(float));
        logits[i] = mem_array((size_t)(N * k), sizeof(float));
        sum[i] = rows_of(d, pass, i == 1 ? fewer : TINY_T, g[i], logits[i]);
    }
    ck_assert_double_eq_tol(sum[1] / sum[0], 1, 1e-6);
    for (int64_t i = 0; i < TINY_B; i++)
        for (int64_t j = 0; j < lengths[i] * k; j++)
            ck_assert_float_eq_tol(
                logits[1][i * fewer * k + j], logits[0][i * TINY_T * k + j], 1e-5f);
    ck_assert(sum[2] == sum[0] && !memcmp(g[2], g[0], (size_t)n * 4)); /* and back */
    double length = length_of(g[0], n);
    for (int64_t i = 0; i < n; i++)
        g[1][i] -= g[0][i];
    ck_assert_double_lt(length_of(g[1], n), 1e-5 * length);
    ck_assert_double_gt(length, 0.1);
    for (int i = 0; i < 3; i++) {
        mem_free(g[i]);
        mem_free(logits[i]);
    }
    tiny_pass_close(pass);
    dev_close(d);
}
END_TEST

int main(void)
{
    return unit_run_sampled(&(struct unit){.name = "pass"},
        (const TTest *const[]){full_tied, full_untied, gpt2_tied, gpt2_untied,
            rotary_with_gelu_layer_norm_and_biases, learned_positions_with_swiglu_and_biases, bert,
            labels_above_a_causal_model, norms_of_heads, window, scaled_frequencies,
            documents_see_nothing_of_each_other, documents_of_one_step_are_not_those_of_the_next,
            reference_kernels, reference_kernels_gpt2, lora_everywhere, lora_on_some,
            lora_with_dropout, dropout_of_all, micro_batches_add_up, recomputation_changes_no_bit,
            half_precision_is_near, shorter_rows_are_the_same_step, vocabulary_of_50257, NULL});
}
