/*
 * Goal: masked tokens are learnt as peft learns them beside a head that is frozen; a head that the
 * files lack is a fresh one; and a batch in which nothing is to be told changes nothing.
 * Method: the golden BERT that tells masked tokens (tests/golden/README.md), and the one that
 * labels words, without such a head. That gradients of all weights are torch's is what test_model
 * shows, and against differences test_pass.
 */
#include "runtime/model/masked.h"

#include "base/mem.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/trained.h"
#include "tests/unit.h"

#include <math.h>

#define FOLDER GOLDEN "tiny-bert-masked"
#define STEP   GOLDEN "tiny_bert_masked_step.json"
#define B      3
#define T      16
#define DIM    32

static struct err e;
static struct trained t;

static void open(const char *folder, int lora_rank)
{
    struct model_conf c = trained_conf(&t, folder, B, T, lora_rank);
    c.config.masked = true;
    c.config.labels = 0;
    trained_open(&t, &c);
}

START_TEST(adapters_below_a_frozen_head_equal_peft)
{
    struct safetensors *golden;
    json_auto struct json *step = golden_json(STEP);
    ck_assert_msg(
        !safetensors_open(GOLDEN "tiny_bert_masked_lora.safetensors", &golden, &e), "%s", e.text);
    open(FOLDER, 4);
    ck_assert_int_eq(model_trained(t.m)->count, 8);
    ck_assert_int_eq(safetensors_count(golden), 1 + 8 + 8);
    trained_set(&t, golden, "", 8);
    ck_assert_double_eq_tol(
        trained_step(&t, step, true), (double)*trained_part(golden, "", "loss_mean", 1), 1e-5);
    trained_compare(&t, golden, "grad.");
    safetensors_close(golden);
    trained_close(&t);
}
END_TEST

START_TEST(nothing_to_tell_changes_nothing)
{
    double sum[2];
    json_auto struct json *step = golden_json(STEP);
    int64_t tokens;
    mem_autofree int32_t *batch = golden_ids(json_get(step, "inputs"), &tokens);
    mem_autofree int32_t *untold = mem_array((size_t)tokens, sizeof *untold);
    const struct pass_input empty = {.ids = batch, .targets = untold};
    open(FOLDER, 0);
    int64_t n = model_trainable(t.m);
    mem_autofree float *g = mem_array((size_t)n, 4);
    ck_assert_double_gt(trained_step(&t, step, true), 0);
    memset(untold, -1, (size_t)tokens * sizeof *untold);
    pass_zero_gradient(t.pass);
    ck_assert_int_eq(tokens, B * T);
    ck_assert(!pass_step(t.pass, B, &empty, 1, true, &sum[0], &e) && sum[0] == 0);
    dev_download(t.d, g, pass_gradient(t.pass), (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        ck_assert(g[i] == 0);
    /* nor, beside others, what is added up */
    int32_t ids[T] = {0}, none[T], one[T];
    memset(none, -1, sizeof none);
    memcpy(one, none, sizeof one);
    one[3] = 7;
    for (int i = 0; i < 3; i++) {
        const struct pass_input in = {.ids = ids, .targets = i == 1 ? none : one};
        ck_assert(!pass_step(t.pass, 1, &in, 1, false, NULL, &e));
        if (i != 1)
            ck_assert(!pass_loss(t.pass, &sum[i / 2], &e));
    }
    ck_assert(sum[0] > 0 && sum[1] == sum[0]);
    trained_close(&t);
}
END_TEST

START_TEST(a_head_that_no_file_has_is_drawn)
{
    float x[DIM * DIM], bias[96];
    open(FOLDER, 0);
    ck_assert(weights_config(t.w)->masked);
    trained_read(&t, "lm_head.bias", bias, 96);
    ck_assert(bias[0] != 0);
    trained_close(&t);
    open(GOLDEN "tiny-bert", 0);
    ck_assert(!weights_config(t.w)->masked);
    trained_read(&t, "lm_head.bias", bias, 96);
    ck_assert(bias[0] == 0 && bias[95] == 0);
    trained_read(&t, "model.transform_norm.weight", x, DIM);
    ck_assert(x[0] == 1 && x[DIM - 1] == 1);
    trained_read(&t, "model.transform.weight", x, DIM * DIM);
    double sum = 0;
    for (int i = 0; i < DIM * DIM; i++)
        sum += (double)x[i] * (double)x[i];
    ck_assert_double_eq_tol(sqrt(sum / (DIM * DIM)), 0.02, 0.002);
    trained_close(&t);
}
END_TEST

UNIT_MAIN("masked", adapters_below_a_frozen_head_equal_peft, nothing_to_tell_changes_nothing,
    a_head_that_no_file_has_is_drawn)
