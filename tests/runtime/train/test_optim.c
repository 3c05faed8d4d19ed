/*
 * Goal: AdamW's update, decay, clipping and rates are those of the definition. Method: the update
 * by plain loops in double over several steps; schedules at their corners; a step whose gradient is
 * not finite changes nothing, on the processor and on the simulated GPU. (Fifty steps against
 * torch: test_model.)
 * needs: cuda
 */
#include "runtime/train/optim.h"

#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

static struct err e;

static const struct optim_conf plain = {.learning_rate = 0.01,
    .weight_decay = 0.1,
    .beta1 = 0.9,
    .beta2 = 0.99,
    .epsilon = 1e-8,
    .clip_norm = 1,
    .schedule = SCHEDULE_LINEAR,
    .warmup_steps = 2,
    .steps = 10};

static struct pass *open(struct dev *d, enum dtype t)
{
    struct model_conf c = {.config = tiny_config(true),
        .t = t,
        .train = true,
        .micro_sequences = 1,
        .sequence_length = 2,
        .seed = 1};
    struct pass *pass = tiny_pass(d, &c);
    tiny_fill(d, pass_model(pass), 1);
    return pass;
}

START_TEST(rates)
{
    struct optim_conf c = plain;

    ck_assert_double_eq_tol(optim_rate(&c, 1), 0.005, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 2), 0.01, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 3), 0.01, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 7), 0.005, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 10), 0.01 / 8, 1e-15);
    c.schedule = SCHEDULE_COSINE;
    ck_assert_double_eq_tol(optim_rate(&c, 7), 0.005, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 10), 0.005 * (1 - cos(M_PI / 8)), 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 99), 0, 1e-15);
    c.schedule = SCHEDULE_CONSTANT;
    ck_assert_double_eq_tol(optim_rate(&c, 1), 0.005, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 10), 0.01, 1e-15);
    c.warmup_steps = 0;
    ck_assert_double_eq_tol(optim_rate(&c, 1), 0.01, 1e-15);
    c.schedule = SCHEDULE_COSINE;
    ck_assert_double_eq_tol(optim_rate(&c, 1), 0.01, 1e-15);
}
END_TEST

/* One definition step over elements [from, to). */
static void by_definition(double *w, double *m, double *v, const float *g, int64_t from, int64_t to,
    double scale, double decay, int step)
{
    double lr = optim_rate(&plain, step);

    for (int64_t i = from; i < to; i++) {
        double x = (double)g[i] * scale;

        m[i] = plain.beta1 * m[i] + (1 - plain.beta1) * x;
        v[i] = plain.beta2 * v[i] + (1 - plain.beta2) * x * x;
        w[i] -= lr * decay * w[i];
        w[i] -= lr * m[i] / (1 - pow(plain.beta1, step)) /
            (sqrt(v[i] / (1 - pow(plain.beta2, step))) + plain.epsilon);
    }
}

static void follow(struct dev *d, struct pass *pass, struct optim *o, enum dtype t)
{
    struct model *model = pass_model(pass);
    int64_t n = model_trainable(model);
    mem_autofree float *host = mem_array((size_t)n, 4), *g = mem_array((size_t)n, 4);
    mem_autofree double *w = mem_array((size_t)n, 8), *m = mem_array((size_t)n, 8);
    mem_autofree double *v = mem_array((size_t)n, 8);
    uint64_t seed = 4;

    dev_download(d, host, model_master(model), (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        w[i] = (double)host[i];
    for (int step = 1; step <= 4; step++) {
        double sum = 0, norm;

        for (int64_t i = 0; i < n; i++)
            g[i] = (float)(tiny_random(&seed) * (step == 4 ? 1e-4 : 1));
        for (int64_t i = 0; i < n; i++)
            sum += (double)g[i] * (double)g[i];
        dev_upload(d, pass_gradient(pass), g, (size_t)n * 4);
        ck_assert_msg(!optim_step(o, step, &norm, &e), "%s", e.text);
        ck_assert_double_eq_tol(norm / sqrt(sum), 1, 1e-5);
        for (int i = 0; i < model_trained(model)->count; i++) {
            const struct tensor *p = &model_trained(model)->at[i];

            by_definition(w, m, v, g, p->offset, p->offset + p->count,
                sqrt(sum) > 1 ? 1 / sqrt(sum) : 1, p->decay ? 0.1 : 0, step);
        }
    }
    dev_download(d, host, model_master(model), (size_t)n * 4);
    for (int i = 0; i < model_trained(model)->count; i++) {
        const struct tensor *p = &model_trained(model)->at[i];

        for (int64_t k = p->offset; k < p->offset + p->count; k++)
            ck_assert_double_eq_tol((double)host[k], w[k], 2e-5);
    }
    if (t == DTYPE_BF16) {
        mem_autofree uint16_t *copy = mem_array((size_t)n, 2);

        dev_download(d, copy, model_compute_copy(model), (size_t)n * 2);
        for (int64_t k = 0; k < n; k++)
            ck_assert_uint_eq(copy[k], f32_to_bf16(host[k]));
    }
}

static void check_type(enum dtype t)
{
    struct dev *d;
    struct optim *o;

    ck_assert(!dev_open("cpu", 0, 2, &d, &e));
    struct pass *pass = open(d, t);
    ck_assert_msg(!optim_create(d, &plain, pass, &o, &e), "%s", e.text);
    follow(d, pass, o, t);
    optim_destroy(o);
    optim_destroy(NULL);
    tiny_pass_close(pass);
    dev_close(d);
}

START_TEST(update_follows_the_definition)
{
    check_type(DTYPE_F32);
    check_type(DTYPE_BF16);
}
END_TEST

/* Everything that an update writes: masters, their copy, both moments. */
static void state_of(struct dev *d, struct model *m, struct optim *o, float *to)
{
    size_t n = (size_t)model_trainable(m);

    dev_download(d, to, model_master(m), n * 4);
    dev_download(d, to + n, optim_m(o), n * 4);
    dev_download(d, to + 2 * n, optim_v(o), n * 4);
    if (model_compute_copy(m))
        dev_download(d, to + 3 * n, model_compute_copy(m), n * 2);
    ck_assert_msg(!dev_sync(d, &e), "%s", e.text);
}

/* One good step, then one whose weights give a loss that is no number. */
static void check_refusal(const char *kind, enum dtype t, bool look)
{
    const int32_t ids[2] = {3, 7}, next[2] = {7, 1};
    const struct pass_input in = {.ids = ids, .targets = next};
    double norm = -1;
    float bad = NAN;
    struct dev *d;
    struct optim *o;

    ck_assert_msg(!dev_open(kind, 0, 1, &d, &e), "%s", e.text);
    struct pass *pass = open(d, t);
    struct model *m = pass_model(pass);
    ck_assert(!optim_create(d, &plain, pass, &o, &e));
    size_t bytes = (size_t)model_trainable(m) * 14;
    mem_autofree float *before = mem_zalloc(bytes), *after = mem_zalloc(bytes);
    for (int step = 1; step <= 2; step++) {
        pass_zero_gradient(pass);
        if (step == 2) {
            dev_upload(d, model_master(m) + 3 * 24, &bad, sizeof bad);
            model_master_changed(m);
            state_of(d, m, o, before);
        }
        ck_assert(!pass_step(pass, 1, &in, 1, true, NULL, &e));
        if (step == 1)
            ck_assert_msg(!optim_step(o, 1, &norm, &e), "%s", e.text);
    }
    norm = -1;
    if (!look) /* as in training: the update is enqueued before anybody looks */
        ck_assert(!optim_step(o, 2, NULL, &e));
    ck_assert_int_eq(look ? optim_step(o, 2, &norm, &e) : optim_norm(o, 2, &norm, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "step 2"));
    ck_assert(norm == -1);
    state_of(d, m, o, after);
    ck_assert_mem_eq(before, after, bytes);
    optim_destroy(o);
    tiny_pass_close(pass);
    dev_close(d);
}

START_TEST(infinite_gradient_changes_nothing)
{
    check_refusal("cpu", DTYPE_F32, true);
    check_refusal("cpu", DTYPE_F32, false);
    check_refusal("cpu", DTYPE_BF16, false);
    check_refusal("cuda", DTYPE_F32, false);
    check_refusal("cuda", DTYPE_BF16, false);
}
END_TEST

UNIT_MAIN("optim", rates, update_follows_the_definition, infinite_gradient_changes_nothing)
