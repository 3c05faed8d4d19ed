/*
 * Goal: labels of whole texts are told as transformers' BertForSequenceClassification tells them,
 * learnt as torch and peft learn them, and their classifier is the files' own, in whatever order
 * its labels stand, or a fresh one. Method: golden files of a tiny BERT with a pooler
 * (tests/golden/README.md): logits, gradients with LoRA, and with types of tokens; full gradients
 * without these are test_model's; rows of the classifier read back. That the vocabulary's head is
 * right is what test_model and test_pass show.
 */
#include "runtime/model/head.h"

#include "base/io.h"
#include "base/mem.h"
#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/trained.h"
#include "tests/unit.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define FOLDER GOLDEN "tiny-bert-texts"
#define B      3
#define T      16
#define LABELS 3
#define DIM    32

static struct err e;
static struct trained t;

static struct model_conf conf_of(const char *folder, int lora_rank)
{
    return trained_conf(&t, folder, B, T, lora_rank);
}

/* The mean loss of the golden batch. */
static double step_of(bool backward)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_bert_texts_step.json");
    return trained_step(&t, step, backward);
}

START_TEST(logits_of_texts_equal_transformers)
{
    struct safetensors *golden;
    float logits[B * LABELS];
    double far = 0;
    const struct model_conf c = conf_of(FOLDER, 0);
    ck_assert(c.config.labels == LABELS && c.config.pooled);
    trained_open(&t, &c);
    step_of(false);
    ck_assert_msg(!pass_label_logits(t.pass, B, logits, &e), "%s", e.text);
    ck_assert_msg(
        !safetensors_open(GOLDEN "tiny_bert_texts_logits.safetensors", &golden, &e), "%s", e.text);
    ck_assert_int_eq(safetensors_at(golden, 0)->bytes, (int64_t)sizeof logits);
    for (int i = 0; i < B * LABELS; i++)
        far = farther(far,
            fabs((double)logits[i] - (double)((const float *)safetensors_at(golden, 0)->data)[i]));
    printf("texts: logits at most %.2g away\n", far);
    ck_assert_double_le(far, 1e-5);
    safetensors_close(golden);
    trained_close(&t);
}
END_TEST

/* Of factors and classifier, and of nothing else: the pooler is frozen, as peft has it. */
START_TEST(adapters_below_a_pooler_equal_peft)
{
    struct safetensors *golden;
    const struct model_conf c = conf_of(FOLDER, 4);
    ck_assert_msg(
        !safetensors_open(GOLDEN "tiny_bert_texts_lora.safetensors", &golden, &e), "%s", e.text);
    trained_open(&t, &c);
    ck_assert_int_eq(model_trained(t.m)->count, 8 + 2);
    ck_assert_int_eq(safetensors_count(golden), 1 + 8 + 8 + 2);
    trained_set(&t, golden, "", 8);
    double loss = (double)*trained_part(golden, "", "loss_mean", 1);
    ck_assert_double_eq_tol(step_of(true), loss, 1e-5);
    trained_compare(&t, golden, "grad.");
    safetensors_close(golden);
    trained_close(&t);
}
END_TEST

#define SEVERAL "\"problem_type\":\"multi_label_classification\","

/* A folder with that file as its weights, and more in its configuration. */
static void make_folder(char folder[64], const char *more, const char *file)
{
    char path[128], root[PATH_MAX];
    buf_auto struct buf config, out;
    buf_init(&config, 1 << 16);
    buf_init(&out, 1 << 16);
    golden_folder(folder);
    ck_assert(!io_read_file(FOLDER "/config.json", 1 << 16, &config, &e));
    buf_printf(&out, "{%s%s", more, config.data + 1);
    snprintf(path, sizeof path, "%s/config.json", folder);
    golden_write(path, out.data, out.len);
    ck_assert_ptr_nonnull(realpath(file, root));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    ck_assert_int_eq(symlink(root, path), 0);
}

/* Of all weights, beside a file that has them under transformers' names. */
static void compare_gradients(const char *file)
{
    char folder[64];
    struct weights *want;
    make_folder(folder, "", file);
    ck_assert_msg(!weights_open(folder, NULL, &want, &e), "%s", e.text);
    for (int i = 0; i < model_trained(t.m)->count; i++) {
        const struct tensor *p = &model_trained(t.m)->at[i];
        mem_autofree float *g = mem_array((size_t)p->count, 4);
        mem_autofree float *x = mem_array((size_t)p->count, 4);
        ck_assert_msg(!weights_read(want, p->name, p->shape[0], p->dims == 2 ? p->shape[1] : 1, 0,
                          p->shape[0], DTYPE_F32, x, &e),
            "%s", e.text);
        dev_download(t.d, g, pass_gradient(t.pass) + p->offset, (size_t)p->count * 4);
        if (strstr(p->name, "k_proj.bias")) /* only rounding */
            continue;
        ck_assert_msg(trained_distance(g, x, p->count) < 1e-4, "%s: %.3g", p->name,
            trained_distance(g, x, p->count));
    }
    weights_close(want);
    golden_remove(folder);
}

/* And a step behind it without types is as if it had been the first one. */
START_TEST(types_of_tokens_equal_transformers)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_bert_typed_step.json");
    float logits[B * LABELS];
    const struct model_conf c = conf_of(FOLDER, 0);
    int k = 0;
    trained_open(&t, &c);
    double untyped = step_of(true), mean = json_num(step, "loss_mean", 0);
    ck_assert_double_gt(fabs(untyped - mean), 0.01);
    ck_assert_double_eq_tol(trained_step(&t, step, false), mean, 1e-5);
    ck_assert_msg(!pass_label_logits(t.pass, B, logits, &e), "%s", e.text);
    json_each (v, json_get(step, "logits"))
        ck_assert_double_eq_tol((double)logits[k++], json_number_value(v), 1e-5);
    ck_assert_int_eq(k, B * LABELS);
    trained_step(&t, step, true);
    compare_gradients(GOLDEN "tiny_bert_typed_step.safetensors");
    ck_assert(step_of(true) == untyped);
    compare_gradients(GOLDEN "tiny_bert_texts_step.safetensors");
    trained_close(&t);
}
END_TEST

START_TEST(types_that_the_model_has_not_are_refused)
{
    int32_t ids[T] = {1}, targets[T] = {0}, types[T] = {0};
    const struct pass_input in = {.ids = ids, .types = types, .targets = targets};
    const struct model_conf c = conf_of(FOLDER, 4); /* with adapters types are not learnt */
    double sum;
    trained_open(&t, &c);
    types[T - 1] = 1;
    ck_assert_msg(!pass_step(t.pass, 1, &in, 1, true, &sum, &e), "%s", e.text);
    for (int bad = -1; bad <= 2; bad += 3) {
        types[T - 1] = bad;
        ck_assert_int_eq(pass_step(t.pass, 1, &in, 1, true, &sum, &e), -ERR_DATA);
        ck_assert_ptr_nonnull(strstr(e.text, "and the model (type_vocab_size) has 2"));
    }
    trained_close(&t);
}
END_TEST

START_TEST(several_labels_equal_torch)
{
    char folder[64];
    json_auto struct json *step = golden_json(GOLDEN "tiny_bert_several_step.json");
    int64_t n, k, b;
    mem_autofree int32_t *inputs = golden_ids(json_get(step, "inputs"), &n);
    mem_autofree int32_t *sets = golden_ids(json_get(step, "targets"), &k);
    mem_autofree int32_t *lengths = golden_ids(json_get(step, "lengths"), &b);
    const struct pass_input in = {.ids = inputs, .lengths = lengths, .targets = sets};
    double sum;
    make_folder(folder, SEVERAL, FOLDER "/model.safetensors");
    const struct model_conf c = conf_of(folder, 0);
    ck_assert(c.config.several && c.config.pooled && k == B * LABELS);
    trained_open(&t, &c);
    pass_zero_gradient(t.pass);
    ck_assert(!pass_step(t.pass, B, &in, 1.0f / (B * LABELS), true, &sum, &e));
    ck_assert_double_eq_tol(sum / (B * LABELS), json_num(step, "loss_mean", 0), 1e-5);
    compare_gradients(GOLDEN "tiny_bert_several_step.safetensors");
    sets[4] = 2;
    ck_assert_int_eq(pass_step(t.pass, B, &in, 1, false, &sum, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "a text has a label or not"));
    trained_close(&t);
    golden_remove(folder);
}
END_TEST

/* Rows by the names of labels, not by where they stand. */
START_TEST(labels_in_another_order_keep_their_rows)
{
    static const int32_t from[LABELS] = {2, 0, 1};
    float was[LABELS * DIM], is[LABELS * DIM], bias[2][LABELS];
    struct model_conf c = conf_of(FOLDER, 0);
    ck_assert(!weights_read(t.w, "classifier.weight", LABELS, DIM, 0, LABELS, DTYPE_F32, was, &e));
    ck_assert(!weights_read(t.w, "classifier.bias", LABELS, 1, 0, LABELS, DTYPE_F32, bias[0], &e));
    c.label_from = from;
    trained_open(&t, &c);
    trained_read(&t, "classifier.weight", is, LABELS * DIM);
    trained_read(&t, "classifier.bias", bias[1], LABELS);
    for (int i = 0; i < LABELS; i++) {
        ck_assert_mem_eq(is + i * DIM, was + from[i] * DIM, DIM * 4);
        ck_assert(bias[1][i] == bias[0][from[i]]);
    }
    trained_close(&t);
}
END_TEST

/* A classifier that is not wanted, one of words, and a pooler that no file has. */
START_TEST(what_is_fresh_is_drawn)
{
    float was[DIM * DIM], is[DIM * DIM];
    struct model_conf c = conf_of(FOLDER, 0);
    c.fresh_labels = true;
    trained_open(&t, &c);
    ck_assert(!weights_read(t.w, "model.pooler.weight", DIM, DIM, 0, DIM, DTYPE_F32, was, &e));
    trained_read(&t, "model.pooler.weight", is, DIM * DIM);
    ck_assert_mem_eq(is, was, sizeof is);
    trained_read(&t, "classifier.bias", is, LABELS);
    ck_assert(is[0] == 0 && is[1] == 0 && is[2] == 0);
    trained_close(&t);
    c = conf_of(GOLDEN "tiny-bert", 0);
    ck_assert(!c.config.pooled && c.config.labels == 5);
    c.config.pooled = true;
    trained_open(&t, &c);
    trained_read(&t, "classifier.bias", is, 5);
    ck_assert(is[0] == 0 && is[4] == 0);
    trained_read(&t, "model.pooler.bias", is, DIM);
    ck_assert(is[0] == 0 && is[DIM - 1] == 0);
    trained_read(&t, "model.pooler.weight", is, DIM * DIM);
    double sum = 0;
    for (int i = 0; i < DIM * DIM; i++)
        sum += (double)is[i] * (double)is[i];
    ck_assert_double_eq_tol(sqrt(sum / (DIM * DIM)), 0.02, 0.002);
    trained_close(&t);
}
END_TEST

/* -- decoders, at the last token -- */

static struct safetensors *score_golden(const char *family, char folder[64])
{
    char path[96];
    struct safetensors *golden;
    snprintf(folder, 64, GOLDEN "tiny-%s", family);
    snprintf(path, sizeof path, GOLDEN "tiny_score_%s.safetensors", family);
    ck_assert_msg(!safetensors_open(path, &golden, &e), "%s", e.text);
    return golden;
}

/* The golden batch; its mean loss. */
static double score_step(bool backward)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_score_step.json");
    int64_t n, k, b;
    mem_autofree int32_t *inputs = golden_ids(json_get(step, "inputs"), &n);
    mem_autofree int32_t *labels = golden_ids(json_get(step, "targets"), &k);
    mem_autofree int32_t *lengths = golden_ids(json_get(step, "lengths"), &b);
    int32_t targets[B * T];
    const struct pass_input in = {.ids = inputs, .lengths = lengths, .targets = targets};
    double sum;
    ck_assert(b == B && n == B * T && k == B);
    memset(targets, -1, sizeof targets);
    for (int i = 0; i < B; i++)
        targets[i * T] = labels[i];
    pass_zero_gradient(t.pass);
    ck_assert_msg(!pass_step(t.pass, B, &in, 1.0f / B, backward, &sum, &e), "%s", e.text);
    return sum / B;
}

static void open_score(const char *folder, int lora_rank)
{
    struct model_conf c = conf_of(folder, lora_rank);
    c.config.labels = LABELS;
    c.config.last = true;
    c.config.pad_id = 3;
    trained_open(&t, &c);
}

static void check_score(const char *family, bool whole)
{
    char folder[64];
    float logits[B * LABELS];
    struct safetensors *golden = score_golden(family, folder);
    open_score(folder, 0);
    const struct tensor *score =
        tensors_get(model_trained(t.m), TENSOR_CLASSIFIER, TENSOR_WEIGHT, -1, -1);
    ck_assert_ptr_null(tensors_get(model_trained(t.m), TENSOR_CLASSIFIER, TENSOR_BIAS, -1, -1));
    dev_upload(t.d, model_master(t.m) + score->offset,
        trained_part(golden, "", "score.weight", score->count), (size_t)score->count * 4);
    ck_assert_double_eq_tol(
        score_step(false), (double)*trained_part(golden, "", "loss_mean", 1), 1e-5);
    ck_assert_msg(!pass_label_logits(t.pass, B, logits, &e), "%s", e.text);
    const float *want = trained_part(golden, "", "logits", B * LABELS);
    for (int i = 0; i < B * LABELS; i++)
        ck_assert_msg(fabsf(logits[i] - want[i]) < 1e-4f, "%s: logit %d: %g, not %g", family, i,
            (double)logits[i], (double)want[i]);
    score_step(true);
    if (whole)
        trained_compare(&t, golden, "full.");
    trained_close(&t);
    open_score(folder, 4);
    ck_assert_int_eq(model_trained(t.m)->count, 8 + 1);
    trained_set(&t, golden, "lora.", 9);
    ck_assert_double_eq_tol(
        score_step(true), (double)*trained_part(golden, "lora.", "loss_mean", 1), 1e-5);
    trained_compare(&t, golden, "grad.");
    trained_close(&t);
    safetensors_close(golden);
}

START_TEST(decoders_tell_labels_at_the_last_token)
{
    check_score("llama3", false);
    check_score("qwen2", false);
    check_score("qwen3", true);
    check_score("mistral", false);
}
END_TEST

UNIT_MAIN("head", logits_of_texts_equal_transformers, types_of_tokens_equal_transformers,
    types_that_the_model_has_not_are_refused, several_labels_equal_torch,
    decoders_tell_labels_at_the_last_token, adapters_below_a_pooler_equal_peft,
    labels_in_another_order_keep_their_rows, what_is_fresh_is_drawn)
