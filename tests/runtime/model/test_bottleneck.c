/*
 * Goal: adapters behind sub-layers are AdapterHub's: what they compute, their gradients, a
 * training; they begin as nearly nothing; recomputation changes no bit. Method: numbers of plain
 * torch around transformers' layers, by make_adapters.py of tests/golden, for both kinds and each
 * activation on a Llama, a GPT-2 and a BERT, whose norms stand behind residuals; fifty steps of
 * Llama and BERT. (What a plan says of them: test_memplan. The same on the simulated GPU:
 * test_cuda_model.)
 */
#include "runtime/model/bottleneck.h"

#include "base/mem.h"
#include "runtime/train/optim.h"
#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/runtime/trained.h"
#include "tests/unit.h"

#include <math.h>

static struct err e;
static struct safetensors *golden;
static struct json *all;

static void setup(void)
{
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_adapters.safetensors", &golden, &e), "%s", e.text);
    all = golden_json(GOLDEN "tiny_adapters.json");
}

static void done(void)
{
    safetensors_close(golden);
    json_destroy(all);
}

static bool is(const struct json *run, const char *key, const char *value)
{
    return !strcmp(json_str(run, key, ""), value);
}

/* The batch of a run's gradients. */
static struct json *step_of(const struct json *run)
{
    char path[96];
    snprintf(path, sizeof path, GOLDEN "tiny_%s_step.json", json_str(run, "model", ""));
    return golden_json(is(run, "model", "llama") ? GOLDEN "tiny_step.json" : path);
}

static struct model_conf open_conf(struct trained *t, const struct json *run, int64_t b, int64_t n)
{
    char folder[96];
    snprintf(folder, sizeof folder, GOLDEN "tiny-%s", json_str(run, "model", ""));
    struct model_conf c = trained_conf(t, folder, b, n, 0);
    dev_close(t->d); /* one thread: two wait for each other where others compute */
    ck_assert_msg(!dev_open("cpu", 0, 1, &t->d, &e), "%s", e.text);
    c.adapter_size = c.config.dim / json_int(run, "reduction_factor", 1);
    c.adapter_kind = is(run, "kind", "Houlsby") ? ADAPTER_HOULSBY : ADAPTER_PFEIFFER;
    c.adapter_activation = is(run, "activation", "ReLU") ? ADAPTER_RELU
        : is(run, "activation", "GELU")                  ? ADAPTER_GELU
                                                         : ADAPTER_SILU;
    return c;
}

static const char *prefix_of(const struct json *run, const char *more)
{
    static char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.%s.%s", json_str(run, "model", ""),
        json_str(run, "kind", ""), more);
    return prefix;
}

/* Tensors of two layers' adapters. */
static int tensors_of(const struct json *run)
{
    return is(run, "kind", "Houlsby") ? 16 : 8;
}

START_TEST(gradients_equal_adapterhub)
{
    json_each (run, json_get(all, "runs")) {
        json_auto struct json *step = step_of(run);
        int labels = is(run, "model", "bert") ? 2 : 0;
        struct trained t;
        const struct model_conf c =
            open_conf(&t, run, json_int(step, "b", 0), json_int(step, "t", 0));
        trained_open(&t, &c);
        ck_assert_int_eq(model_trained(t.m)->count, tensors_of(run) + labels);
        trained_set(&t, golden, prefix_of(run, ""), tensors_of(run));
        double want = (double)*trained_part(golden, prefix_of(run, ""), "loss_mean", 1);
        ck_assert_double_eq_tol(trained_step(&t, step, true), want, 1e-5);
        trained_compare(&t, golden, prefix_of(run, "grad."));
        trained_close(&t);
    }
}
END_TEST

/* Weights of 0.02 and no biases: what is added is small, and not nothing. */
START_TEST(it_begins_nearly_as_the_model)
{
    json_each (run, json_get(all, "runs")) {
        json_auto struct json *step = step_of(run);
        int64_t b = json_int(step, "b", 0), length = json_int(step, "t", 0);
        struct trained t, whole;
        const struct model_conf c = open_conf(&t, run, b, length);
        struct model_conf base = open_conf(&whole, run, b, length);
        base.adapter_size = 0;
        trained_open(&t, &c);
        trained_open(&whole, &base);
        double is_now = trained_step(&t, step, false), was = trained_step(&whole, step, false);
        ck_assert_msg(fabs(is_now / was - 1) < 0.02, "%g, %g", is_now, was);
        ck_assert(is_now < was || is_now > was);
        for (int i = 0; i < model_trained(t.m)->count; i++) {
            const struct tensor *p = &model_trained(t.m)->at[i];
            mem_autofree float *values = mem_array((size_t)p->count, sizeof *values);
            double squares = 0;
            if (p->layer < 0)
                continue;
            trained_read(&t, p->name, values, p->count);
            for (int64_t k = 0; k < p->count; k++)
                squares += pow((double)values[k], 2);
            ck_assert_double_eq_tol(
                sqrt(squares / (double)p->count), p->dims == 2 ? 0.02 : 0, 0.006);
            ck_assert(p->dims == 2 || squares <= 0);
        }
        trained_close(&t);
        trained_close(&whole);
    }
}
END_TEST

START_TEST(recomputation_changes_no_bit)
{
    json_each (run, json_get(all, "runs")) {
        json_auto struct json *step = step_of(run);
        float *g[3];
        size_t bytes = 0;
        if (!json_get(run, "losses"))
            continue;
        for (enum recompute r = 0; r < 3; r++) {
            struct trained t;
            struct model_conf c =
                open_conf(&t, run, json_int(step, "b", 0), json_int(step, "t", 0));
            c.recompute = r;
            trained_open(&t, &c);
            trained_set(&t, golden, prefix_of(run, ""), tensors_of(run));
            trained_step(&t, step, true);
            bytes = (size_t)model_trainable(t.m) * sizeof(float);
            g[r] = mem_alloc(bytes);
            dev_download(t.d, g[r], pass_gradient(t.pass), bytes);
            ck_assert(!dev_sync(t.d, &e));
            trained_close(&t);
        }
        ck_assert(!memcmp(g[0], g[1], bytes) && !memcmp(g[0], g[2], bytes));
        for (int r = 0; r < 3; r++)
            mem_free(g[r]);
    }
}
END_TEST

/* -- fifty steps -- */

/* Tokens of a step of tiny_train.json, as a batch of trained_step. */
static struct json *batch_of(const struct json *ids)
{
    struct json *step = json_new_object(), *inputs = json_new_array(), *targets = json_new_array();
    int64_t n;
    mem_autofree int32_t *id = golden_ids(ids, &n);
    for (int64_t i = 0; i < n; i++) {
        if (i % 33 < 32)
            ck_assert(!json_push(inputs, json_new_number(id[i])));
        if (i % 33)
            ck_assert(!json_push(targets, json_new_number(id[i])));
    }
    ck_assert(!json_put(step, "b", json_new_number(4)) &&
        !json_put(step, "t", json_new_number(32)) && !json_put(step, "inputs", inputs) &&
        !json_put(step, "targets", targets));
    return step;
}

/* Returns how far from the file's the worst loss is. */
static double train(const struct json *run)
{
    json_auto struct json *data = golden_json(GOLDEN "tiny_train.json"), *same = step_of(run);
    bool bert = is(run, "model", "bert");
    const struct optim_conf oc = {.learning_rate = json_num(all, "learning_rate", 0),
        .beta1 = json_num(all, "beta1", 0),
        .beta2 = json_num(all, "beta2", 0),
        .epsilon = json_num(all, "epsilon", 0),
        .clip_norm = json_num(all, "clip_norm", 0),
        .schedule = SCHEDULE_CONSTANT};
    struct trained t;
    struct optim *o;
    double worst = 0;
    int64_t step = 1;
    const struct json *ids = json_first(json_get(data, "ids"));
    const struct model_conf c = open_conf(&t, run, bert ? 3 : 4, bert ? 16 : 32);
    trained_open(&t, &c);
    trained_set(&t, golden, prefix_of(run, "start."), tensors_of(run) / 2);
    ck_assert_msg(!optim_create(t.d, &oc, t.pass, &o, &e), "%s", e.text);
    json_each (loss, json_get(run, "losses")) {
        json_auto struct json *batch = bert ? NULL : batch_of(ids);
        double got = trained_step(&t, bert ? same : batch, true);
        ck_assert_msg(!optim_step(o, step++, NULL, &e), "%s", e.text);
        worst = farther(worst, fabs(got / json_number_value(loss) - 1));
        ids = json_next(ids);
    }
    ck_assert_int_eq(step, 51);
    optim_destroy(o);
    trained_close(&t);
    return worst;
}

START_TEST(fifty_steps_follow_adapterhub)
{
    double worst = 0;
    json_each (run, json_get(all, "runs"))
        if (json_get(run, "losses"))
            worst = farther(worst, train(run));
    printf("  fifty losses within %.1e\n", worst);
    ck_assert_double_lt(worst, 1e-4);
}
END_TEST

START_TEST(mixtures_of_experts_are_refused)
{
    const struct model_conf c = {.config = shape_of("tiny-mixtral"), .adapter_size = 4};
    struct tensors p = {0};
    ck_assert_int_eq(bottleneck_tensors(&c, &p, &e), -ERR_USER);
    ck_assert_msg(
        strstr(e.text, "spec.train.method: Adapter is not for mixtures of experts"), "%s", e.text);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"bottleneck", 120, setup, done},
        (const TTest *const[]){gradients_equal_adapterhub, it_begins_nearly_as_the_model,
            recomputation_changes_no_bit, fifty_steps_follow_adapterhub,
            mixtures_of_experts_are_refused, NULL});
}
