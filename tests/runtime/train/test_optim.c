/*
 * Goal: each optimizer's update, decay, clipping and rates are those of its definition. Method:
 * AdamW, SGD and Lion by plain loops in double over several steps, with and without rates that fall
 * by layer; fifty losses of every optimizer beside torch's (Lion: its authors' lines) on the tiny
 * Llama; sixty with states in BF16 and Int8 beside F32's; schedules at their corners; a step whose
 * gradient is not finite changes nothing and names the tensor, on the processor and on the
 * simulated GPU.
 * needs: cuda sample
 */
#include "runtime/train/optim.h"

#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

static struct err e;

static const struct optim_conf plain = {.learning_rate = 0.01,
    .weight_decay = 0.1,
    .beta1 = 0.9,
    .beta2 = 0.99,
    .epsilon = 1e-8,
    .momentum = 0.9,
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

/* -- rates -- */

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

START_TEST(rates_end_at_the_least)
{
    struct optim_conf c = plain;

    c.min_learning_rate = 0.002;
    ck_assert_double_eq_tol(optim_rate(&c, 1), 0.005, 1e-15); /* the warm-up is from zero */
    ck_assert_double_eq_tol(optim_rate(&c, 7), 0.006, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 10), 0.003, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 11), 0.002, 1e-15);
    c.schedule = SCHEDULE_COSINE;
    ck_assert_double_eq_tol(optim_rate(&c, 7), 0.006, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 99), 0.002, 1e-15);
}
END_TEST

START_TEST(rates_stay_then_fall)
{
    struct optim_conf c = plain;

    c.schedule = SCHEDULE_WSD;
    c.decay_steps = 4;
    ck_assert_double_eq_tol(optim_rate(&c, 1), 0.005, 1e-15);
    for (int step = 2; step <= 7; step++)
        ck_assert_double_eq_tol(optim_rate(&c, step), 0.01, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 8), 0.005, 1e-15); /* 1 - sqrt(1 / 4) */
    ck_assert_double_eq_tol(optim_rate(&c, 10), 0.01 * (1 - sqrt(0.75)), 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 11), 0, 1e-15);
    c.min_learning_rate = 0.002;
    ck_assert_double_eq_tol(optim_rate(&c, 8), 0.006, 1e-15);
    c.min_learning_rate = 0;
    c.decay_steps = 0; /* a tenth */
    c.steps = 95;
    ck_assert_double_eq_tol(optim_rate(&c, 86), 0.01, 1e-15);
    ck_assert_double_eq_tol(optim_rate(&c, 95), 0.01 * (1 - sqrt(0.9)), 1e-15);
    c.decay_steps = 1000; /* no longer than what follows the warm-up */
    ck_assert_double_eq_tol(optim_rate(&c, 3), 0.01, 1e-15);
    ck_assert_double_lt(optim_rate(&c, 4), 0.01);
}
END_TEST

/* -- updates by their definitions -- */

struct numbers {
    double *w, *m, *v;
};

/* One step of elements [from, to). */
static void by_definition(const struct optim_conf *c, const struct numbers *x, const float *g,
    const struct tensor *p, double scale, double lr, int step)
{
    double decay = p->decay ? c->weight_decay : 0;

    for (int64_t i = p->offset; i < p->offset + p->count; i++) {
        double y = (double)g[i] * scale, *w = &x->w[i], *m = &x->m[i], *v = &x->v[i];

        if (c->name == OPTIMIZER_SGD) {
            *m = c->momentum * *m + y + decay * *w;
            *w -= lr * *m;
        } else if (c->name == OPTIMIZER_LION) {
            double blend = c->beta1 * *m + (1 - c->beta1) * y;

            *w -= lr * decay * *w + lr * (blend > 0 ? 1 : -1);
            *m = c->beta2 * *m + (1 - c->beta2) * y;
        } else {
            *m = c->beta1 * *m + (1 - c->beta1) * y;
            *v = c->beta2 * *v + (1 - c->beta2) * y * y;
            *w -= lr * decay * *w;
            *w -= lr * *m / (1 - pow(c->beta1, step)) /
                (sqrt(*v / (1 - pow(c->beta2, step))) + c->epsilon);
        }
    }
}

/* Of the tiny model's three layers. */
static double factor_of(const struct optim_conf *c, const struct tensor *p)
{
    int below = p->layer >= 0 ? 3 - p->layer : p->role == TENSOR_EMBED ? 4 : 0;

    return c->layer_decay > 0 ? pow(c->layer_decay, below) : 1;
}

static void follow(
    struct dev *d, struct pass *pass, struct optim *o, const struct optim_conf *c, enum dtype t)
{
    struct model *model = pass_model(pass);
    int64_t n = model_trainable(model);
    mem_autofree float *host = mem_array((size_t)n, 4), *g = mem_array((size_t)n, 4);
    mem_autofree double *w = mem_array((size_t)n, 8), *m = mem_array((size_t)n, 8);
    mem_autofree double *v = mem_array((size_t)n, 8);
    const struct numbers x = {w, m, v};
    uint64_t seed = 4;
    int skipped = t == DTYPE_F16 ? 2 : 0; /* before the first one here */
    float by = t == DTYPE_F16 ? 1024 : 1;

    dev_download(d, host, model_master(model), (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        w[i] = (double)host[i];
    for (int step = 1; step <= 4; step++) {
        double sum = 0, norm;

        for (int64_t i = 0; i < n; i++)
            g[i] = (float)(tiny_random(&seed) * (step == 4 ? 1e-4 : 1));
        for (int64_t i = 0; i < n; i++)
            sum += (double)g[i] * (double)g[i];
        for (int64_t i = 0; i < n; i++)
            g[i] *= by;
        dev_upload(d, pass_gradient(pass), g, (size_t)n * 4);
        optim_set_scale(o, (double)by, skipped);
        ck_assert_msg(!optim_step(o, step + skipped, &norm, &e), "%s", e.text);
        ck_assert_double_eq_tol(norm / sqrt(sum), 1, 1e-5);
        for (int i = 0; i < model_trained(model)->count; i++) {
            const struct tensor *p = &model_trained(model)->at[i];

            by_definition(c, &x, g, p, (sqrt(sum) > 1 ? 1 / sqrt(sum) : 1) / (double)by,
                optim_rate(c, step + skipped) * factor_of(c, p), step);
        }
    }
    dev_download(d, host, model_master(model), (size_t)n * 4);
    for (int i = 0; i < model_trained(model)->count; i++) {
        const struct tensor *p = &model_trained(model)->at[i];

        for (int64_t k = p->offset; k < p->offset + p->count; k++)
            ck_assert_msg(fabs((double)host[k] - w[k]) < 2e-5, "optimizer %d, %s: %g, not %g",
                c->name, p->name, (double)host[k], w[k]);
    }
    if (t != DTYPE_F32) {
        mem_autofree uint16_t *copy = mem_array((size_t)n, 2);

        dev_download(d, copy, model_compute_copy(model), (size_t)n * 2);
        for (int64_t k = 0; k < n; k++)
            ck_assert_uint_eq(copy[k], f32_to_half(t, host[k]));
    }
}

static void check_type(const struct optim_conf *c, enum dtype t)
{
    struct dev *d;
    struct optim *o;

    ck_assert(!dev_open("cpu", 0, 2, &d, &e));
    struct pass *pass = open(d, t);
    ck_assert_msg(!optim_create(d, c, pass, &o, &e), "%s", e.text);
    follow(d, pass, o, c, t);
    optim_destroy(o);
    optim_destroy(NULL);
    tiny_pass_close(pass);
    dev_close(d);
}

START_TEST(updates_follow_their_definitions)
{
    for (enum optimizer_name name = OPTIMIZER_ADAMW; name <= OPTIMIZER_LION; name++)
        for (int i = 0; i < 2; i++) {
            struct optim_conf c = plain;

            c.name = name;
            c.layer_decay = i ? 0.7 : 1;
            check_type(&c, DTYPE_F32);
            check_type(&c, DTYPE_BF16);
            check_type(&c, DTYPE_F16);
        }
}
END_TEST

START_TEST(no_momentum_no_state)
{
    struct optim_conf c = plain;

    c.name = OPTIMIZER_SGD;
    c.momentum = 0;
    check_type(&c, DTYPE_F32);
    check_type(&c, DTYPE_BF16);
}
END_TEST

/* -- fifty steps beside torch -- */

static struct optim_conf golden_conf(const struct json *run)
{
    static const char *const names[] = {"AdamW", "SGD", "Lion", "Adafactor", "Muon"};
    struct optim_conf c = {.learning_rate = json_num(run, "learning_rate", 0),
        .weight_decay = json_num(run, "weight_decay", 0),
        .beta1 = json_num(run, "beta1", 0),
        .beta2 = json_num(run, "beta2", 0),
        .epsilon = json_num(run, "epsilon", 0),
        .momentum = json_num(run, "momentum", 0),
        .clip_norm = json_num(run, "clip_norm", 0),
        .layer_decay = json_num(run, "layer_decay", 0),
        .schedule = SCHEDULE_CONSTANT};

    while (strcmp(names[c.name], json_str(run, "name", "")) != 0)
        ck_assert_int_lt(++c.name, OPTIMIZER_MUON + 1);
    return c;
}

static void golden_run(struct dev *d, struct weights *w, const struct json *train,
    const struct json *run, double tolerance)
{
    const struct optim_conf c = golden_conf(run);
    const struct json *batch = json_first(json_get(train, "ids"));
    const struct json *loss = json_first(json_get(run, "losses"));
    const int64_t b = json_int(train, "b", 0), length = json_int(train, "t", 0);
    struct model_conf conf = {.config = *weights_config(w),
        .t = DTYPE_F32,
        .train = true,
        .micro_sequences = b,
        .sequence_length = length};
    struct pass *pass = tiny_pass(d, &conf);
    struct optim *o;
    double most = 0;

    ck_assert_msg(!model_load(pass_model(pass), w, &e), "%s", e.text);
    ck_assert_msg(!optim_create(d, &c, pass, &o, &e), "%s", e.text);
    for (int64_t step = 1; loss; step++, batch = json_next(batch), loss = json_next(loss)) {
        int32_t inputs[128], labels[128];
        int64_t n;
        mem_autofree int32_t *ids = golden_ids(batch, &n);
        double sum, want = json_number_value(loss);

        ck_assert(b * length <= 128 && n == b * (length + 1));
        for (int i = 0; i < b * length; i++) {
            inputs[i] = ids[i / length * (length + 1) + i % length];
            labels[i] = ids[i / length * (length + 1) + i % length + 1];
        }
        pass_zero_gradient(pass);
        const struct pass_input in = {.ids = inputs, .targets = labels};
        ck_assert(!pass_step(pass, b, &in, 1 / (float)(b * length), true, &sum, &e));
        ck_assert_msg(!optim_step(o, step, NULL, &e), "%s", e.text);
        most = farther(most, fabs(sum / (double)(b * length) / want - 1));
        ck_assert_msg(most < tolerance, "%s, step %lld: loss %.9g, torch %.9g",
            json_str(run, "name", ""), (long long)step, sum / (double)(b * length), want);
    }
    printf("  %s: fifty losses within %.1e of the reference's\n", json_str(run, "name", ""), most);
    optim_destroy(o);
    tiny_pass_close(pass);
}

START_TEST(fifty_steps_follow_the_references)
{
    json_auto struct json *train = golden_json(GOLDEN "tiny_train.json");
    json_auto struct json *optim = golden_json(GOLDEN "tiny_optim.json");
    struct weights *w;
    struct dev *d;
    int runs = 0;

    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &w, &e), "%s", e.text);
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    json_each (run, json_get(optim, "runs")) {
        golden_run(d, w, train, run, 1e-5);
        runs++;
    }
    ck_assert_int_eq(runs, 6);
    dev_close(d);
    weights_close(w);
}
END_TEST

/* -- states of fewer bits -- */

#ifdef __SANITIZE_ADDRESS__ /* the same accesses as in more of them */
#define STATE_STEPS 12
#else
#define STATE_STEPS 60
#endif

/* Losses of a training on four batches in turn. */
static void losses_of(const struct optim_conf *c, double out[STATE_STEPS])
{
    struct model_conf conf = {.config = tiny_wide(),
        .t = DTYPE_F32,
        .train = true,
        .micro_sequences = TINY_B,
        .sequence_length = TINY_T,
        .seed = 5};
    const int n = TINY_B * TINY_T;
    struct dev *d;
    struct optim *o;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    struct pass *pass = tiny_pass(d, &conf);
    ck_assert_msg(!optim_create(d, c, pass, &o, &e), "%s", e.text);
    for (int64_t step = 1; step <= STATE_STEPS; step++) {
        int32_t ids[TINY_B * TINY_T + 1];
        double sum;
        tiny_ids(ids, n + 1, (uint64_t)step % 4);
        const struct pass_input in = {.ids = ids, .targets = ids + 1};
        pass_zero_gradient(pass);
        ck_assert(!pass_step(pass, TINY_B, &in, 1 / (float)n, true, &sum, &e));
        ck_assert_msg(!optim_step(o, step, NULL, &e), "%s", e.text);
        out[step - 1] = sum / n;
    }
    optim_destroy(o);
    tiny_pass_close(pass);
    dev_close(d);
}

/* Greatest distance of two curves, over what was learnt. */
static double apart(const double *a, const double *b)
{
    double most = 0, least = a[0];
    for (int i = 0; i < STATE_STEPS; i++) {
        most = farther(most, fabs(a[i] - b[i]));
        least = fmin(least, a[i]);
    }
    return most / (a[0] - least);
}

START_TEST(losses_hold_with_states_of_fewer_bits)
{
    static const struct {
        enum optimizer_name name;
        double rate, bound; /* Lion's steps are signs, which a last bit turns */
    } rules[] = {{OPTIMIZER_ADAMW, 2e-3, 0.01}, {OPTIMIZER_SGD, 0.02, 0.01},
        {OPTIMIZER_LION, 2e-4, 0.02}, {OPTIMIZER_MUON, 2e-3, 0.01}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct optim_conf c = plain;
        double all[3][STATE_STEPS], again[STATE_STEPS];
        c.name = rules[i].name;
        c.learning_rate = rules[i].rate;
        c.schedule = SCHEDULE_CONSTANT;
        c.beta2 = c.name == OPTIMIZER_LION ? 0.99 : 0.999;
        c.seed = 3;
        for (c.state = OPTIMIZER_STATE_FP32; c.state <= OPTIMIZER_STATE_INT8; c.state++)
            losses_of(&c, all[c.state]);
        if (c.name == OPTIMIZER_ADAMW) {
            c.state = OPTIMIZER_STATE_BF16;
            losses_of(&c, again);
            ck_assert_mem_eq(again, all[1], sizeof again);
        }
        printf("  optimizer %d: losses %.3f to %.3f; BF16 within %.2g, Int8 within %.2g of what "
               "was learnt\n",
            c.name, all[0][0], all[0][STATE_STEPS - 1], apart(all[0], all[1]),
            apart(all[0], all[2]));
        for (int k = 1; k < 3; k++) {
            ck_assert_double_lt(apart(all[0], all[k]), rules[i].bound);
            ck_assert_double_gt(apart(all[0], all[k]), 0);
        }
    }
}
END_TEST

/* -- gradients that are not finite -- */

/* Everything that an update writes: masters, their copy, the state. */
static void state_of(struct dev *d, struct model *m, struct optim *o, float *to)
{
    size_t n = (size_t)model_trainable(m);

    dev_download(d, to, model_master(m), n * 4);
    to += n;
    for (int i = 0; i < model_trained(m)->count; i++)
        for (int k = 0; k < OPTIM_STATES; k++) {
            struct optim_state s = optim_state(o, i, k);

            if (s.count)
                dev_download(d, to, s.at, (size_t)s.count * 4);
            to += s.count;
        }
    if (model_compute_copy(m))
        dev_download(d, to, model_compute_copy(m), n * 2);
    ck_assert_msg(!dev_sync(d, &e), "%s", e.text);
}

/* One good step, then one whose weights give a loss that is no number. */
static void check_refusal(enum optimizer_name name, const char *kind, enum dtype t, bool look)
{
    const int32_t ids[2] = {3, 7}, next[2] = {7, 1};
    const struct pass_input in = {.ids = ids, .targets = next};
    struct optim_conf c = plain;
    double norm = -1;
    float bad = NAN;
    struct dev *d;
    struct optim *o;

    c.name = name;
    ck_assert_msg(!dev_open(kind, 0, 1, &d, &e), "%s", e.text);
    struct pass *pass = open(d, t);
    struct model *m = pass_model(pass);
    ck_assert(!optim_create(d, &c, pass, &o, &e));
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
    ck_assert_ptr_nonnull(strstr(e.text, "step 2 is not finite, in backward from model.norm.wei"));
    ck_assert(norm == -1);
    state_of(d, m, o, after);
    ck_assert_mem_eq(before, after, bytes);
    optim_destroy(o);
    tiny_pass_close(pass);
    dev_close(d);
}

START_TEST(infinite_gradient_changes_nothing)
{
    for (enum optimizer_name name = OPTIMIZER_ADAMW; name <= OPTIMIZER_MUON; name++) {
        check_refusal(name, "cpu", DTYPE_F32, true);
        check_refusal(name, "cpu", DTYPE_F32, false);
        check_refusal(name, "cpu", DTYPE_BF16, false);
        check_refusal(name, "cpu", DTYPE_F16, false);
        check_refusal(name, "cuda", DTYPE_F32, false);
        check_refusal(name, "cuda", DTYPE_BF16, false);
    }
}
END_TEST

/* Of two, the one that backward reaches first; none where another gradient stands there by now. */
START_TEST(the_first_infinite_tensor_is_named)
{
    const float bad = INFINITY;
    double norm;
    struct dev *d;
    struct optim *o;

    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    struct pass *pass = open(d, DTYPE_F32);
    const struct tensors *t = model_trained(pass_model(pass));
    ck_assert(!optim_create(d, &plain, pass, &o, &e));
    static const char *const names[] = {"model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight", "model.layers.1.self_attn.o_proj.weight",
        "model.layers.1.mlp.down_proj.weight"};
    for (int i = 0; i < 4; i++) { /* each in turn stands behind those before it */
        dev_upload(d, pass_gradient(pass) + tensors_find(t, names[i])->offset + 1, &bad, 4);
        ck_assert(!optim_step(o, i + 1, NULL, &e));
        ck_assert_int_eq(optim_norm(o, i + 1, &norm, &e), -ERR_USER);
        ck_assert_msg(strstr(e.text, names[i]) != NULL, "%s: %s", names[i], e.text);
    }
    ck_assert(!optim_step(o, 5, NULL, &e));
    ck_assert_int_eq(optim_norm(o, 4, &norm, &e), -ERR_USER);
    ck_assert_msg(!strstr(e.text, "backward"), "%s", e.text);
    optim_destroy(o);
    tiny_pass_close(pass);
    dev_close(d);
}
END_TEST

int main(void)
{
    return unit_run_divided(&(struct unit){.name = "optim", .timeout_s = 120},
        (const TTest *const[]){rates, rates_end_at_the_least, rates_stay_then_fall,
            updates_follow_their_definitions, no_momentum_no_state,
            fifty_steps_follow_the_references, losses_hold_with_states_of_fewer_bits,
            infinite_gradient_changes_nothing, the_first_infinite_tensor_is_named, NULL});
}
