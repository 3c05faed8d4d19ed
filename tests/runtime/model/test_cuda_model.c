/*
 * Goal: a whole model computes on "cuda" what it computes on the processor: losses and gradients of
 * a training step, full and with adapters, and the logits of serving, in F32 closely and in 16 bits
 * as near as their rounding lets. Method: the plugin beside this program, a GPU's or that of
 * tests/cudasim; shapes with random weights of every family, tiny with odd sizes and
 * small ones that tensor cores take; serving in one call and then token by token.
 *
 * A tensor of a gradient differs by |a - b| / (|b| + FLAT |whole gradient|): what has no gradient
 * but rounding (GPT-2's bias of keys) is measured against the whole. Logits: against their root
 * mean square.
 * needs: cuda gpu
 */
#include "runtime/model/engine.h"

#include "kernels/ops.h"
#include "tests/far.h"
#include "tests/gpu/gpu.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define T      17
#define B      2
#define N      (B * T)
#define PREFIX 12 /* of T: served at once */
#define FLAT   1e-2

static const char *const shapes[] = {"tiny-llama", "tiny-gpt2", "small-llama", "small-gpt2",
    "tiny-qwen3", "small-qwen3", "small-mistral", "tiny-bert", "small-bert", "tiny-texts",
    "small-texts", "tiny-masked", "tiny-several", "tiny-last"};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))
#define SERVED 7 /* the first of them */
static const char *const kinds[] = {"cpu", "cuda"};

static const struct nearness {
    enum dtype t;
    double loss, gradient, logits; /* allowed; served, a processor rounds no activation */
} precisions[] = {
    {DTYPE_F32, 5e-6, 5e-5, 5e-5}, {DTYPE_BF16, 5e-3, 5e-2, 3e-2}, {DTYPE_F16, 1e-3, 1e-2, 5e-3}};
#define PRECISIONS ((int)(sizeof precisions / sizeof *precisions))

static struct err e;
static int32_t ids[N + 1];

static struct dev *open_dev(const char *kind)
{
    struct dev *d;

    ck_assert_msg(!dev_open(kind, 0, 2, &d, &e), "%s", e.text);
    return d;
}

static void fill_ids(int64_t vocab)
{
    for (int i = 0; i <= N; i++)
        ids[i] = (int32_t)(op_random(3, (uint64_t)i) % (uint32_t)vocab);
}

static double length_of(const float *a, const float *minus, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) {
        double x = (double)a[i] - (minus ? (double)minus[i] : 0);

        sum += x * x;
    }
    return sqrt(sum);
}

/* -- a step of training -- */

struct step {
    struct dev *d;
    struct model *m;
    struct pass *pass;
    double loss;
    float *gradient;
    int64_t n;
};

/* A BERT has labels for targets, and sequences of unlike lengths. */
static void take_step(const char *kind, const struct model_conf *c, struct step *s)
{
    static const int32_t lengths[B] = {T, T - 6};
    int64_t labels = c->config.labels;
    int32_t targets[N];
    s->d = open_dev(kind);
    s->pass = tiny_pass(s->d, c);
    s->m = pass_model(s->pass);
    tiny_fill(s->d, s->m, 5);
    pass_zero_gradient(s->pass);
    for (int i = 0; i < N; i++)
        targets[i] = !labels ? ids[i + 1] : i % T < lengths[i / T] ? ids[i] % (int)labels : -1;
    for (int i = 0; c->config.several && i < N; i++)
        targets[i] = i % 3 == 1;
    for (int i = 0; c->config.masked && i < N; i++)
        targets[i] = i % 3 == 1 ? targets[i] : -1;
    const struct pass_input in = {
        .ids = ids, .lengths = labels ? lengths : NULL, .targets = targets};
    ck_assert_msg(!pass_step(s->pass, B, &in, 1, true, &s->loss, &e), "%s", e.text);
    s->n = model_trainable(s->m);
    s->gradient = mem_array((size_t)s->n, sizeof(float));
    ck_assert_ptr_nonnull(s->gradient);
    dev_download(s->d, s->gradient, pass_gradient(s->pass), (size_t)s->n * sizeof(float));
    ck_assert_msg(!dev_sync(s->d, &e), "%s", e.text);
}

static void end_step(struct step *s)
{
    mem_free(s->gradient);
    tiny_pass_close(s->pass);
    dev_close(s->d);
}

static double worst_part(const struct step *want, const struct step *got, const char **name)
{
    double whole = length_of(want->gradient, NULL, want->n), worst = 0;

    *name = "";
    for (int i = 0; i < model_trained(want->m)->count; i++) {
        const struct tensor *p = &model_trained(want->m)->at[i];
        const float *a = got->gradient + p->offset, *b = want->gradient + p->offset;
        double far = length_of(a, b, p->count) / (length_of(b, NULL, p->count) + FLAT * whole);

        if (!(far <= worst)) {
            worst = far;
            *name = p->name;
        }
    }
    return worst;
}

enum adapters { /* QUANTIZED: the base, in blocks */
    ADAPTERS_PLAIN,
    ADAPTERS_DORA,
    ADAPTERS_ADALORA,
    ADAPTERS_QUANTIZED,
    ADAPTERS_HOULSBY, /* behind sub-layers, instead of beside matrices */
    ADAPTERS_PFEIFFER
};

static void compare_steps(
    const char *shape, const struct nearness *p, const char *const *targets, enum adapters kind)
{
    struct model_conf c = {.config = shape_of(shape),
        .t = p->t,
        .train = true,
        .micro_sequences = B,
        .sequence_length = T,
        .lora_rank = targets ? 4 : 0,
        .lora_alpha = 12,
        .lora_dora = kind == ADAPTERS_DORA,
        .lora_adaptive = kind == ADAPTERS_ADALORA,
        .lora_targets = targets,
        .seed = 3};
    if (kind == ADAPTERS_QUANTIZED)
        c.quantize = p->t == DTYPE_F32 ? QUANTIZE_Q8_0 : QUANTIZE_Q4_K_M;
    if (kind >= ADAPTERS_HOULSBY) {
        c.lora_rank = 0;
        c.adapter_size = 5;
        c.adapter_kind = kind == ADAPTERS_HOULSBY ? ADAPTER_HOULSBY : ADAPTER_PFEIFFER;
        c.adapter_activation = kind == ADAPTERS_HOULSBY ? ADAPTER_SILU : ADAPTER_RELU;
    }
    static const char *const names[] = {
        "adapters", "DoRA", "AdaLoRA", "adapters beside blocks", "Houlsby's", "Pfeiffer's"};
    struct step step[2] = {0};
    const char *name;
    double loss, part;

    fill_ids(c.config.vocab);
    for (int k = 0; k < 2; k++)
        take_step(kinds[k], &c, &step[k]);
    loss = fabs(step[1].loss / step[0].loss - 1);
    part = worst_part(&step[0], &step[1], &name);
    printf("%s, %s, %s: loss off by %.1g (allowed %.1g), gradient by %.1g (%.1g), %s\n", shape,
        dtype_name(p->t), targets ? names[kind] : "full", loss, p->loss, part, p->gradient, name);
    /* Of texts a loss has B rows, not B * T, of masked tokens few: what rounding does is averaged
       less. */
    double room = c.config.pooled || c.config.last || c.config.masked ? 2 : 1;
    ck_assert_double_le(loss, room * p->loss);
    ck_assert_double_le(part, room * p->gradient);
    end_step(&step[0]);
    end_step(&step[1]);
}

/* Of F16 three of the small shapes, which tensor cores take, are enough. */
static bool is_compared(int shape, int precision)
{
    return precisions[precision].t != DTYPE_F16 || shape % 4 == 2;
}

START_TEST(gradients_are_those_of_the_cpu)
{
    for (int i = 0; i < SHAPES * PRECISIONS; i++)
        if (is_compared(i / PRECISIONS, i % PRECISIONS))
            compare_steps(
                shapes[i / PRECISIONS], &precisions[i % PRECISIONS], NULL, ADAPTERS_PLAIN);
}
END_TEST

START_TEST(gradients_of_adapters_are_those_of_the_cpu)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj", NULL};

    for (int i = 0; i < SHAPES * PRECISIONS; i++)
        if (is_compared(i / PRECISIONS, i % PRECISIONS))
            compare_steps(
                shapes[i / PRECISIONS], &precisions[i % PRECISIONS], targets, ADAPTERS_PLAIN);
    for (int i = 0; i < PRECISIONS; i++)
        for (enum adapters k = ADAPTERS_DORA; k <= ADAPTERS_ADALORA; k++)
            compare_steps("tiny-llama", &precisions[i], targets, k);
    for (int i = 0; i < PRECISIONS; i++)
        compare_steps("small-llama", &precisions[i], targets, ADAPTERS_QUANTIZED);
    for (int i = 0; i < PRECISIONS; i++)
        for (enum adapters k = ADAPTERS_HOULSBY; k <= ADAPTERS_PFEIFFER; k++) {
            compare_steps("tiny-llama", &precisions[i], targets, k);
            compare_steps("tiny-bert", &precisions[i], targets, k);
        }
}
END_TEST

/* -- serving -- */

static void serve(const char *kind, struct weights *w, enum dtype t, float *logits)
{
    struct model_conf c = {.config = *weights_config(w), .t = t, .kv_capacity = T};
    struct dev *d = open_dev(kind);
    struct engine *engine;
    struct model *m;

    ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, w, &e), "%s", e.text);
    ck_assert_msg(!engine_create(m, &engine, &e), "%s", e.text);
    ck_assert_msg(!engine_extend(engine, ids, PREFIX, 0, true, logits, &e), "%s", e.text);
    for (int64_t i = PREFIX; i < T; i++)
        ck_assert_msg(!engine_extend(engine, ids + i, 1, i, true, logits + i * c.config.vocab, &e),
            "%s", e.text);
    engine_destroy(engine);
    model_destroy(m);
    dev_close(d);
}

static void compare_logits(const char *shape, struct weights *w, const struct nearness *p)
{
    int64_t count = T * weights_config(w)->vocab;
    mem_autofree float *want = mem_array((size_t)count, sizeof(float));
    mem_autofree float *got = mem_array((size_t)count, sizeof(float));
    double worst = 0, rms;

    ck_assert(want && got);
    serve("cpu", w, p->t, want);
    serve("cuda", w, p->t, got);
    rms = length_of(want, NULL, count) / sqrt((double)count);
    for (int64_t i = 0; i < count; i++) {
        ck_assert(isfinite(got[i]));
        worst = farther(worst, fabs((double)got[i] - (double)want[i]) / rms);
    }
    printf("%s, %s: logits off by %.1g of their size (allowed %.1g)\n", shape, dtype_name(p->t),
        worst, p->logits);
    ck_assert_double_le(worst, p->logits);
}

static void compare_served(const char *shape, int precisions_count)
{
    struct model_config c = shape_of(shape);
    struct weights *w;
    char folder[64], path[96];

    fill_ids(c.vocab);
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/model", folder);
    for (int k = 0; k < precisions_count; k++) {
        ck_assert_msg(!shape_write(path, &c, precisions[k].t, &e), "%s", e.text);
        ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
        compare_logits(shape, w, &precisions[k]);
        weights_close(w);
    }
    golden_remove(folder);
}

START_TEST(logits_are_those_of_the_cpu)
{
    for (int i = 0; i < SERVED; i++)
        compare_served(shapes[i], PRECISIONS);
}
END_TEST

/* In F32: where two experts are nearly equal, what BF16 rounds may choose the other. */
START_TEST(mixtures_are_those_of_the_cpu)
{
    static const char *const of_attention[] = {"q_proj", "v_proj", NULL};

    compare_steps("tiny-qwen3-moe", &precisions[0], NULL, ADAPTERS_PLAIN);
    compare_steps("small-qwen3-moe", &precisions[0], NULL, ADAPTERS_PLAIN);
    compare_steps("tiny-mixtral", &precisions[0], of_attention, ADAPTERS_PLAIN);
    compare_served("tiny-qwen3-moe", 1);
    compare_served("small-qwen3-moe", 1);
}
END_TEST

int main(void)
{
    gpu_open();
    return unit_run_with(&(struct unit){.name = "cuda_model", .timeout_s = 120},
        GPU_TESTS(GPU_ANY(gradients_are_those_of_the_cpu),
            GPU_ANY(gradients_of_adapters_are_those_of_the_cpu),
            GPU_ANY(logits_are_those_of_the_cpu), GPU_ANY(mixtures_are_those_of_the_cpu)));
}
