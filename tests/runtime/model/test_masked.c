/*
 * Goal: masked tokens are learnt as peft learns them beside a head that is frozen; a head that the
 * files lack is a fresh one; and a batch in which nothing is to be told changes nothing.
 * Method: the golden BERT that tells masked tokens (tests/golden/README.md), and the one that
 * labels words, without such a head. That gradients of all weights are torch's is what test_model
 * shows, and against differences test_pass.
 */
#include "runtime/model/masked.h"

#include "base/mem.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/pass.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define FOLDER GOLDEN "tiny-bert-masked"
#define B      3
#define T      16
#define DIM    32

static struct err e;
static struct dev *d;
static struct weights *w;
static struct model *m;
static struct pass *pass;

static void open(const char *folder, int lora_rank)
{
    static const char *const targets[] = {"q_proj", "v_proj", NULL};
    ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folder, NULL, &w, &e), "%s", e.text);
    struct model_conf c = {.config = *weights_config(w),
        .t = DTYPE_F32,
        .train = true,
        .micro_sequences = B,
        .sequence_length = T,
        .lora_rank = lora_rank,
        .lora_alpha = 8,
        .lora_targets = targets,
        .seed = 1};
    c.config.masked = true;
    c.config.labels = 0;
    ck_assert_msg(!model_create(d, &c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, w, &e), "%s", e.text);
    ck_assert_msg(!pass_create(m, &pass, &e), "%s", e.text);
}

static void close_all(void)
{
    pass_destroy(pass);
    model_destroy(m);
    weights_close(w);
    dev_close(d);
}

/* The sum of the golden batch's losses, without its targets where none are wanted. */
static double step_of(bool targets)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_bert_masked_step.json");
    int64_t n, k, b;
    mem_autofree int32_t *inputs = golden_ids(json_get(step, "inputs"), &n);
    mem_autofree int32_t *told = golden_ids(json_get(step, "targets"), &k);
    mem_autofree int32_t *lengths = golden_ids(json_get(step, "lengths"), &b);
    const struct pass_input in = {.ids = inputs, .lengths = lengths, .targets = told};
    double sum = -1;
    ck_assert(b == B && n == B * T && k == n);
    for (int64_t i = 0; i < n; i++)
        told[i] = targets ? told[i] : -1;
    pass_zero_gradient(pass);
    float scale = 1 / (float)json_int(step, "counted", 1);
    ck_assert_msg(!pass_step(pass, B, &in, scale, true, &sum, &e), "%s", e.text);
    return sum * (double)scale;
}

static const float *golden_part(
    const struct safetensors *s, const char *prefix, const char *name, int64_t count)
{
    char full[192];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct safetensors_tensor *t = safetensors_find(s, full);
    ck_assert_msg(t && t->bytes == count * 4, "%s", full);
    return (const float *)t->data;
}

START_TEST(adapters_below_a_frozen_head_equal_peft)
{
    struct safetensors *golden;
    ck_assert_msg(
        !safetensors_open(GOLDEN "tiny_bert_masked_lora.safetensors", &golden, &e), "%s", e.text);
    open(FOLDER, 4);
    const struct tensors *trained = model_trained(m);
    ck_assert_int_eq(trained->count, 8);
    ck_assert_int_eq(safetensors_count(golden), 1 + 8 + 8);
    for (int i = 0; i < 8; i++)
        dev_upload(d, model_master(m) + trained->at[i].offset,
            golden_part(golden, "", trained->at[i].name, trained->at[i].count),
            (size_t)trained->at[i].count * 4);
    model_master_changed(m);
    ck_assert_double_eq_tol(step_of(true), (double)*golden_part(golden, "", "loss_mean", 1), 1e-5);
    for (int i = 0; i < 8; i++) {
        const struct tensor *p = &trained->at[i];
        const float *want = golden_part(golden, "grad.", p->name, p->count);
        mem_autofree float *g = mem_array((size_t)p->count, 4);
        double apart = 0, norm = 0;
        dev_download(d, g, pass_gradient(pass) + p->offset, (size_t)p->count * 4);
        for (int64_t j = 0; j < p->count; j++) {
            apart += pow((double)g[j] - (double)want[j], 2);
            norm += pow((double)want[j], 2);
        }
        ck_assert_msg(sqrt(apart / norm) < 1e-4, "%s: %.3g", p->name, sqrt(apart / norm));
    }
    safetensors_close(golden);
    close_all();
}
END_TEST

START_TEST(nothing_to_tell_changes_nothing)
{
    double sum[2];
    open(FOLDER, 0);
    int64_t n = model_trainable(m);
    mem_autofree float *g = mem_array((size_t)n, 4);
    ck_assert_double_gt(step_of(true), 0);
    ck_assert(step_of(false) == 0);
    dev_download(d, g, pass_gradient(pass), (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        ck_assert(g[i] == 0);
    /* nor, beside others, what is added up */
    int32_t ids[T] = {0}, none[T], one[T];
    memset(none, -1, sizeof none);
    memcpy(one, none, sizeof one);
    one[3] = 7;
    for (int i = 0; i < 3; i++) {
        const struct pass_input in = {.ids = ids, .targets = i == 1 ? none : one};
        ck_assert(!pass_step(pass, 1, &in, 1, false, NULL, &e));
        if (i != 1)
            ck_assert(!pass_loss(pass, &sum[i / 2], &e));
    }
    ck_assert(sum[0] > 0 && sum[1] == sum[0]);
    close_all();
}
END_TEST

static void read_part(const char *name, float *out, int64_t n)
{
    ck_assert_msg(!model_read(m, name, false, out, n, &e), "%s", e.text);
}

START_TEST(a_head_that_no_file_has_is_drawn)
{
    float x[DIM * DIM], bias[96];
    open(FOLDER, 0);
    ck_assert(weights_config(w)->masked);
    read_part("lm_head.bias", bias, 96);
    ck_assert(bias[0] != 0);
    close_all();
    open(GOLDEN "tiny-bert", 0);
    ck_assert(!weights_config(w)->masked);
    read_part("lm_head.bias", bias, 96);
    ck_assert(bias[0] == 0 && bias[95] == 0);
    read_part("model.transform_norm.weight", x, DIM);
    ck_assert(x[0] == 1 && x[DIM - 1] == 1);
    read_part("model.transform.weight", x, DIM * DIM);
    double sum = 0;
    for (int i = 0; i < DIM * DIM; i++)
        sum += (double)x[i] * (double)x[i];
    ck_assert_double_eq_tol(sqrt(sum / (DIM * DIM)), 0.02, 0.002);
    close_all();
}
END_TEST

UNIT_MAIN("masked", adapters_below_a_frozen_head_equal_peft, nothing_to_tell_changes_nothing,
    a_head_that_no_file_has_is_drawn)
