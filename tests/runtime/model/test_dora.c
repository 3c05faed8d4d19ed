/*
 * Goal: DoRA is peft's: what it computes, its gradients, a training, what is merged; and it begins
 * as the model that it adapts. Method: peft's numbers on the tiny Llama, by make_dora.py of
 * tests/golden: one batch with factors and magnitudes away from where they begin, and fifty steps
 * from there, in F32 and, beside F32's, in BF16; recomputation changes no bit; models that it is
 * not for. (The same on the simulated GPU: test_cuda_model.)
 */
#include "runtime/model/dora.h"

#include "runtime/files/safetensors.h"
#include "runtime/model/pass.h"
#include "runtime/train/optim.h"
#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define MAGNITUDES 6 /* of two layers, three matrices each */

static struct err e;
static struct weights *weights;
static struct safetensors *golden;

static void setup(void)
{
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &weights, &e), "%s", e.text);
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_dora.safetensors", &golden, &e), "%s", e.text);
}

static void done(void)
{
    weights_close(weights);
    safetensors_close(golden);
}

static struct model_conf conf_of(int64_t b, enum dtype t)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj", NULL};
    return (struct model_conf){.config = *weights_config(weights),
        .t = t,
        .train = true,
        .micro_sequences = b,
        .sequence_length = 32,
        .lora_rank = 4,
        .lora_alpha = 8,
        .lora_dora = true,
        .lora_targets = targets};
}

static struct pass *open(struct dev *d, const struct model_conf *c)
{
    struct pass *pass = tiny_pass(d, c);
    ck_assert_msg(!model_load(pass_model(pass), weights, &e), "%s", e.text);
    return pass;
}

/* What the file has under a prefix; the others stay. Returns how many. */
static int set_trained(struct dev *d, struct model *m, const char *prefix)
{
    int count = 0;
    for (int i = 0; i < model_trained(m)->count; i++) {
        const struct tensor *p = &model_trained(m)->at[i];
        char name[192];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        const struct safetensors_tensor *from = safetensors_find(golden, name);
        if (!from)
            continue;
        ck_assert_int_eq(from->bytes, p->count * 4);
        dev_upload(d, model_master(m) + p->offset, from->data, (size_t)from->bytes);
        count++;
    }
    model_master_changed(m);
    return count;
}

/* Returns the mean loss. */
static double golden_step(struct pass *pass)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_step.json");
    int64_t n;
    mem_autofree int32_t *ids = golden_ids(json_get(step, "inputs"), &n);
    mem_autofree int32_t *targets = golden_ids(json_get(step, "targets"), &n);
    const struct pass_input in = {.ids = ids, .targets = targets};
    double sum;
    pass_zero_gradient(pass);
    ck_assert_msg(
        !pass_step(pass, json_int(step, "b", 0), &in, 1 / (float)n, true, &sum, &e), "%s", e.text);
    return sum / (double)n;
}

static float *gradient_of(struct dev *d, struct pass *pass)
{
    size_t bytes = (size_t)model_trainable(pass_model(pass)) * 4;
    float *out = mem_alloc(bytes);
    ck_assert_ptr_nonnull(out);
    dev_download(d, out, pass_gradient(pass), bytes);
    ck_assert(!dev_sync(d, &e));
    return out;
}

/* Of the greatest element of each tensor, the share that one may be off. */
static void compare_gradients(const struct model *m, const float *got)
{
    for (int i = 0; i < model_trained(m)->count; i++) {
        const struct tensor *p = &model_trained(m)->at[i];
        char name[192];
        snprintf(name, sizeof name, "grad.%s", p->name);
        const struct safetensors_tensor *x = safetensors_find(golden, name);
        ck_assert_msg(x && x->bytes == p->count * 4, "%s", name);
        const float *want = (const float *)x->data;
        float most = 0;
        for (int64_t k = 0; k < p->count; k++)
            most = fmaxf(most, fabsf(want[k]));
        ck_assert_float_gt(most, 0);
        for (int64_t k = 0; k < p->count; k++)
            ck_assert_msg(fabsf(got[p->offset + k] - want[k]) < 1e-4f * most,
                "%s[%lld]: %.8g, %.8g", name, (long long)k, (double)got[p->offset + k],
                (double)want[k]);
    }
}

START_TEST(gradients_equal_peft)
{
    struct dev *d;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    const struct model_conf c = conf_of(2, DTYPE_F32);
    struct pass *pass = open(d, &c);
    struct model *m = pass_model(pass);
    ck_assert_int_eq(model_trained(m)->count, 3 * MAGNITUDES);
    ck_assert_int_eq(set_trained(d, m, ""), 3 * MAGNITUDES);
    ck_assert_double_eq_tol(golden_step(pass),
        (double)*(const float *)safetensors_find(golden, "loss_mean")->data, 1e-5);
    mem_autofree float *g = gradient_of(d, pass);
    compare_gradients(m, g);
    const struct safetensors_tensor *want = safetensors_find(golden, "merged.q_proj");
    mem_autofree float *merged = mem_alloc((size_t)want->bytes);
    ck_assert_msg(
        !model_read(m, "model.layers.1.self_attn.q_proj.weight", true, merged, want->bytes / 4, &e),
        "%s", e.text);
    for (int64_t i = 0; i < want->bytes / 4; i++)
        ck_assert_float_eq_tol(merged[i], ((const float *)want->data)[i], 1e-5f);
    tiny_pass_close(pass);
    dev_close(d);
}
END_TEST

START_TEST(it_begins_as_the_model)
{
    struct dev *d;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    struct model_conf c = conf_of(2, DTYPE_F32);
    struct pass *adapted = open(d, &c);
    c.lora_rank = 0;
    struct pass *whole = open(d, &c);
    ck_assert_double_eq_tol(golden_step(adapted), golden_step(whole), 1e-6);
    ck_assert_int_eq(model_parameters(pass_model(adapted)) - model_parameters(pass_model(whole)),
        model_trainable(pass_model(adapted)));
    tiny_pass_close(adapted);
    tiny_pass_close(whole);
    dev_close(d);
}
END_TEST

START_TEST(recomputation_changes_no_bit)
{
    struct dev *d;
    float *g[3];
    size_t bytes = 0;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    for (enum recompute r = 0; r < 3; r++) {
        struct model_conf c = conf_of(2, DTYPE_F32);
        c.recompute = r;
        struct pass *pass = open(d, &c);
        set_trained(d, pass_model(pass), "");
        golden_step(pass);
        g[r] = gradient_of(d, pass);
        bytes = (size_t)model_trainable(pass_model(pass)) * 4;
        tiny_pass_close(pass);
    }
    ck_assert(!memcmp(g[0], g[1], bytes) && !memcmp(g[0], g[2], bytes));
    for (int r = 0; r < 3; r++)
        mem_free(g[r]);
    dev_close(d);
}
END_TEST

/* -- fifty steps -- */

static double train(struct dev *d, const struct json *all, enum dtype t, double tolerance)
{
    json_auto struct json *data = golden_json(GOLDEN "tiny_train.json");
    const struct optim_conf oc = {.learning_rate = json_num(all, "learning_rate", 0),
        .beta1 = json_num(all, "beta1", 0),
        .beta2 = json_num(all, "beta2", 0),
        .epsilon = json_num(all, "epsilon", 0),
        .clip_norm = json_num(all, "clip_norm", 0),
        .schedule = SCHEDULE_CONSTANT};
    const struct model_conf c = conf_of(4, t);
    struct pass *pass = open(d, &c);
    struct optim *o;
    double worst = 0;
    int64_t step = 1;
    const struct json *batch = json_first(json_get(data, "ids"));
    ck_assert_int_eq(set_trained(d, pass_model(pass), "start."), MAGNITUDES);
    ck_assert_msg(!optim_create(d, &oc, pass, &o, &e), "%s", e.text);
    json_each (loss, json_get(all, "losses")) {
        int32_t inputs[128], labels[128];
        int64_t n;
        mem_autofree int32_t *ids = golden_ids(batch, &n);
        const struct pass_input in = {.ids = inputs, .targets = labels};
        double sum, want = json_number_value(loss);
        for (int i = 0; i < 128; i++) {
            inputs[i] = ids[i / 32 * 33 + i % 32];
            labels[i] = ids[i / 32 * 33 + i % 32 + 1];
        }
        pass_zero_gradient(pass);
        ck_assert(!pass_step(pass, 4, &in, 1.0f / 128, true, &sum, &e));
        ck_assert_msg(!optim_step(o, step++, NULL, &e), "%s", e.text);
        worst = farther(worst, fabs(sum / 128 / want - 1));
        batch = json_next(batch);
    }
    ck_assert_int_eq(step, 51);
    ck_assert_msg(worst < tolerance, "%s: %.2g off", dtype_name(t), worst);
    optim_destroy(o);
    tiny_pass_close(pass);
    return worst;
}

START_TEST(fifty_steps_follow_peft)
{
    json_auto struct json *all = golden_json(GOLDEN "tiny_dora.json");
    struct dev *d;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    printf("  fifty losses within %.1e of peft's, in BF16 %.1e\n", train(d, all, DTYPE_F32, 1e-4),
        train(d, all, DTYPE_BF16, 1e-2));
    dev_close(d);
}
END_TEST

START_TEST(other_models_are_refused)
{
    static const char *const targets[] = {"q_proj", NULL};
    struct model_conf c = {
        .config = tiny_gpt2(), .lora_rank = 4, .lora_dora = true, .lora_targets = targets};
    struct tensors p = {0};
    ck_assert_int_eq(lora_tensors(&c, &p, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "spec.train.lora.dora: not of a "));
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"dora", 60, setup, done},
        (const TTest *const[]){gradients_equal_peft, it_begins_as_the_model,
            recomputation_changes_no_bit, fifty_steps_follow_peft, other_models_are_refused, NULL});
}
