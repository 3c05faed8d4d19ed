/*
 * Goal: AdaLoRA is peft's: what it computes, the regulariser's gradient, how many singular values
 * stay and which, what becomes of a training; and one that goes on from its state is the same to
 * the bit. Method: the schedule at its corners; peft's numbers on the tiny Llama, by
 * make_adalora.py of tests/golden: one batch with factors away from where they begin, and fifty
 * steps through all of the schedule, in F32 and, beside F32's, in BF16; these again with model and
 * optimizer made anew twice on the way; recomputation changes no bit. (Importances on the simulated
 * GPU: test_cuda; the adapters' gradients: test_cuda_model.)
 */
#include "runtime/train/adalora.h"

#include "runtime/files/safetensors.h"
#include "runtime/model/lora.h"
#include "runtime/train/optim.h"
#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define STEPS    50
#define RANK     6
#define MATRICES 6 /* of two layers, three each */

static struct err e;
static struct weights *weights;
static struct safetensors *golden;
static struct json *all;
static struct dev *d;

static void setup(void)
{
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &weights, &e), "%s", e.text);
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_adalora.safetensors", &golden, &e), "%s", e.text);
    all = golden_json(GOLDEN "tiny_adalora.json");
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
}

static void done(void)
{
    weights_close(weights);
    safetensors_close(golden);
    json_destroy(all);
    dev_close(d);
}

static struct adalora_conf conf_of(void)
{
    const struct json *c = json_get(all, "config");
    return (struct adalora_conf){.rank = (int)json_int(c, "init_r", 0),
        .target_rank = (int)json_int(c, "target_r", 0),
        .initial_steps = json_int(c, "tinit", 0),
        .final_steps = json_int(c, "tfinal", 0),
        .interval = json_int(c, "deltaT", 0),
        .steps = json_int(c, "total_step", 0),
        .beta1 = json_num(c, "beta1", 0),
        .beta2 = json_num(c, "beta2", 0),
        .orthogonal_weight = json_num(c, "orth_reg_weight", 0)};
}

struct run {
    struct pass *pass;
    struct model *m;
    struct optim *o;
};

static struct run open(int64_t b, enum dtype t, enum recompute recompute, bool learns)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj", NULL};
    struct model_conf c = {.config = *weights_config(weights),
        .t = t,
        .train = true,
        .micro_sequences = b,
        .sequence_length = 32,
        .recompute = recompute,
        .lora_rank = RANK,
        .lora_alpha = 8,
        .lora_adaptive = true,
        .lora_targets = targets};
    struct optim_conf oc = {.learning_rate = learns ? json_num(all, "learning_rate", 0) : 0,
        .beta1 = json_num(all, "optimizer_beta1", 0),
        .beta2 = json_num(all, "optimizer_beta2", 0),
        .epsilon = json_num(all, "epsilon", 0),
        .clip_norm = learns ? json_num(all, "clip_norm", 0) : 0,
        .schedule = SCHEDULE_CONSTANT,
        .adalora = conf_of()};
    struct run r = {.pass = tiny_pass(d, &c)};
    r.m = pass_model(r.pass);
    ck_assert_msg(!model_load(r.m, weights, &e), "%s", e.text);
    ck_assert_msg(!optim_create(d, &oc, r.pass, &r.o, &e), "%s", e.text);
    return r;
}

static void shut(struct run *r)
{
    optim_destroy(r->o);
    tiny_pass_close(r->pass);
}

/* What the file has under a prefix; the others stay. Returns how many. */
static int set_trained(struct run *r, const char *prefix)
{
    int count = 0;
    for (int i = 0; i < model_trained(r->m)->count; i++) {
        const struct tensor *p = &model_trained(r->m)->at[i];
        char name[192];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        const struct safetensors_tensor *from = safetensors_find(golden, name);
        if (!from)
            continue;
        ck_assert_int_eq(from->bytes, p->count * 4);
        dev_upload(d, model_master(r->m) + p->offset, from->data, (size_t)from->bytes);
        count++;
    }
    model_master_changed(r->m);
    return count;
}

static float *copy_of(const float *from, int64_t count)
{
    float *out = mem_alloc((size_t)count * 4);
    ck_assert_ptr_nonnull(out);
    dev_download(d, out, from, (size_t)count * 4);
    ck_assert(!dev_sync(d, &e));
    return out;
}

/* -- the schedule -- */

START_TEST(the_budget_falls)
{
    const struct adalora_conf c = {.rank = 12,
        .target_rank = 8,
        .initial_steps = 10,
        .final_steps = 20,
        .interval = 5,
        .steps = 100};
    /* 40 and 60 above: at half of the way an eighth of what is above the target is left */
    static const struct {
        int64_t step, budget;
        bool chooses;
    } table[] = {{1, 120, false}, {10, 120, false}, {11, 118, false}, {15, 112, true},
        {45, 85, true}, {46, 84, false}, {79, 80, false}, {80, 80, true}, {81, 80, false},
        {100, 80, false}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        bool chooses;
        int64_t budget = adalora_budget(&c, 10, table[i].step, &chooses);
        ck_assert_msg(budget == table[i].budget && chooses == table[i].chooses,
            "step %lld: %lld, %d", (long long)table[i].step, (long long)budget, chooses);
    }
    struct adalora_conf at_once = c;
    bool chooses;
    at_once.final_steps = 0;
    at_once.interval = 1000;
    ck_assert_int_eq(adalora_budget(&at_once, 10, 100, &chooses), 80);
    ck_assert(chooses); /* the last step does, whatever the interval */
}
END_TEST

/* -- one batch -- */

static double golden_step(struct run *r)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_step.json");
    int64_t n;
    mem_autofree int32_t *ids = golden_ids(json_get(step, "inputs"), &n);
    mem_autofree int32_t *targets = golden_ids(json_get(step, "targets"), &n);
    const struct pass_input in = {.ids = ids, .targets = targets};
    double sum;
    pass_zero_gradient(r->pass);
    ck_assert_msg(!pass_step(r->pass, json_int(step, "b", 0), &in, 1 / (float)n, true, &sum, &e),
        "%s", e.text);
    return sum / (double)n;
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
    mem_autofree float *first = NULL;
    for (enum recompute c = 0; c < 3; c++) {
        struct run r = open(2, DTYPE_F32, c, false);
        ck_assert_int_eq(model_trained(r.m)->count, 3 * MATRICES);
        ck_assert_int_eq(set_trained(&r, ""), 3 * MATRICES);
        ck_assert_double_eq_tol(golden_step(&r),
            (double)*(const float *)safetensors_find(golden, "loss_mean")->data, 1e-5);
        ck_assert(!optim_step(r.o, 1, NULL, &e));
        float *g = copy_of(pass_gradient(r.pass), model_trainable(r.m));
        if (!c)
            compare_gradients(r.m, g);
        else
            ck_assert_mem_eq(first, g, (size_t)model_trainable(r.m) * 4);
        if (first)
            mem_free(g);
        else
            first = g;
        shut(&r);
    }
}
END_TEST

START_TEST(it_begins_as_the_model)
{
    struct run r = open(2, DTYPE_F32, RECOMPUTE_NONE, true);
    struct model_conf c = {.config = *weights_config(weights),
        .train = true,
        .micro_sequences = 2,
        .sequence_length = 32};
    struct run whole = {.pass = tiny_pass(d, &c)};
    ck_assert(!model_load(pass_model(whole.pass), weights, &e));
    ck_assert_double_eq(golden_step(&r), golden_step(&whole));
    shut(&r);
    shut(&whole);
}
END_TEST

/* -- fifty steps -- */

static void take_step(struct run *r, const struct json *batch, int64_t step, double *loss)
{
    int32_t inputs[128], labels[128];
    int64_t n;
    mem_autofree int32_t *ids = golden_ids(batch, &n);
    const struct pass_input in = {.ids = inputs, .targets = labels};
    double sum;
    for (int i = 0; i < 128; i++) {
        inputs[i] = ids[i / 32 * 33 + i % 32];
        labels[i] = ids[i / 32 * 33 + i % 32 + 1];
    }
    pass_zero_gradient(r->pass);
    ck_assert(!pass_step(r->pass, 4, &in, 1.0f / 128, true, &sum, &e));
    ck_assert_msg(!optim_step(r->o, step, NULL, &e), "%s", e.text);
    ck_assert_msg(!optim_choose(r->o, step, &e), "%s", e.text);
    *loss = sum / 128;
}

/* What a checkpoint would keep goes to a model and an optimizer that are made anew. */
static void make_anew(struct run *r)
{
    struct run next = open(4, DTYPE_F32, RECOMPUTE_NONE, true);
    for (int i = 0; i < model_trained(r->m)->count; i++) {
        const struct tensor *p = &model_trained(r->m)->at[i];
        mem_autofree float *w = copy_of(model_master(r->m) + p->offset, p->count);
        dev_upload(d, model_master(next.m) + p->offset, w, (size_t)p->count * 4);
        int states = 0;
        for (int k = 0; k < OPTIM_STATES; k++) {
            struct optim_state from = optim_state(r->o, i, k), to = optim_state(next.o, i, k);
            ck_assert(from.count == to.count && !strcmp(from.suffix, to.suffix));
            if (!from.count)
                continue;
            mem_autofree float *x = copy_of(from.at, from.count);
            dev_upload(d, to.at, x, (size_t)to.count * 4);
            states++;
        }
        ck_assert_int_eq(states, p->part == TENSOR_LORA_E ? 5 : 4);
    }
    shut(r);
    *r = next;
}

static double train(enum dtype t, bool anew, double tolerance, double losses[STEPS], float **end)
{
    json_auto struct json *data = golden_json(GOLDEN "tiny_train.json");
    struct run r = open(4, t, RECOMPUTE_NONE, true);
    const struct json *batch = json_first(json_get(data, "ids"));
    double worst = 0;
    int64_t step = 1;
    ck_assert_int_eq(set_trained(&r, "start."), 2 * MATRICES);
    json_each (loss, json_get(all, "losses")) {
        take_step(&r, batch, step, &losses[step - 1]);
        worst = farther(worst, fabs(losses[step - 1] / json_number_value(loss) - 1));
        batch = json_next(batch);
        if (anew && (step == 22 || step == 41)) /* the ranks are being chosen; they are */
            make_anew(&r);
        step++;
    }
    ck_assert_int_eq(step, STEPS + 1);
    ck_assert_msg(worst < tolerance, "%s: %.2g off", dtype_name(t), worst);
    *end = copy_of(model_master(r.m), model_trainable(r.m));
    shut(&r);
    return worst;
}

/* The values at the end, and which of them stayed. */
static void compare_values(const float *end)
{
    struct run r = open(1, DTYPE_F32, RECOMPUTE_NONE, false);
    const struct json *pattern = json_get(all, "rank_pattern");
    int kept = 0;
    for (int i = 0; i < model_trained(r.m)->count; i++) {
        const struct tensor *p = &model_trained(r.m)->at[i];
        if (p->part != TENSOR_LORA_E)
            continue;
        char name[192];
        snprintf(name, sizeof name, "end.%s", p->name);
        const float *want = (const float *)safetensors_find(golden, name)->data;
        const struct json *stays = json_first(json_get(pattern, p->name));
        for (int64_t j = 0; j < RANK; j++, stays = json_next(stays)) {
            ck_assert_float_eq_tol(end[p->offset + j], want[j], 1e-4f);
            ck_assert((end[p->offset + j] != 0) == json_bool_value(stays));
            kept += json_bool_value(stays);
        }
    }
    ck_assert_int_eq(kept, MATRICES * 3);
    shut(&r);
}

START_TEST(fifty_steps_follow_peft)
{
    double losses[3][STEPS];
    mem_autofree float *end = NULL, *again = NULL, *half = NULL;
    double far = train(DTYPE_F32, false, 1e-4, losses[0], &end);
    printf("  fifty losses within %.1e of peft's, in BF16 %.1e\n", far,
        train(DTYPE_BF16, false, 1e-2, losses[1], &half));
    compare_values(end);
    train(DTYPE_F32, true, 1e-4, losses[2], &again);
    ck_assert_mem_eq(losses[0], losses[2], sizeof losses[0]);
    struct run r = open(1, DTYPE_F32, RECOMPUTE_NONE, false);
    ck_assert_mem_eq(end, again, (size_t)model_trainable(r.m) * 4);
    shut(&r);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"adalora", 60, setup, done},
        (const TTest *const[]){the_budget_falls, gradients_equal_peft, it_begins_as_the_model,
            fifty_steps_follow_peft, NULL});
}
