/*
 * trained: tensors go by the model's own names, which golden files have behind a prefix.
 */
#include "tests/runtime/trained.h"

#include "base/mem.h"
#include "tests/runtime/golden.h"

#include <check.h>
#include <math.h>

static struct err e;

struct model_conf trained_conf(
    struct trained *t, const char *folder, int64_t b, int64_t length, int lora_rank)
{
    static const char *const targets[] = {"q_proj", "v_proj", NULL};
    ck_assert_msg(!dev_open("cpu", 0, 2, &t->d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folder, NULL, &t->w, &e), "%s", e.text);
    return (struct model_conf){.config = *weights_config(t->w),
        .t = DTYPE_F32,
        .train = true,
        .micro_sequences = b,
        .sequence_length = length,
        .lora_rank = lora_rank,
        .lora_alpha = 8,
        .lora_targets = targets,
        .seed = 1};
}

void trained_open(struct trained *t, const struct model_conf *c)
{
    ck_assert_msg(!model_create(t->d, c, &t->m, &e), "%s", e.text);
    ck_assert_msg(!model_load(t->m, t->w, &e), "%s", e.text);
    ck_assert_msg(!pass_create(t->m, &t->pass, &e), "%s", e.text);
}

void trained_close(struct trained *t)
{
    pass_destroy(t->pass);
    model_destroy(t->m);
    weights_close(t->w);
    dev_close(t->d);
}

double trained_step(struct trained *t, const struct json *step, bool backward)
{
    const struct json *given = json_get(step, "lengths");
    int64_t n, m, b = json_int(step, "b", 0), counted = 0;
    mem_autofree int32_t *inputs = golden_ids(json_get(step, "inputs"), &n);
    mem_autofree int32_t *targets = golden_ids(json_get(step, "targets"), &m);
    mem_autofree int32_t *lengths = given ? golden_ids(given, &b) : NULL;
    mem_autofree int32_t *types =
        json_get(step, "types") ? golden_ids(json_get(step, "types"), &n) : NULL;
    double sum;
    ck_assert_int_eq(n, b * json_int(step, "t", 0));
    ck_assert_int_eq(m, n);
    for (int64_t i = 0; i < n; i++)
        counted += targets[i] >= 0;
    const struct pass_input in = {
        .ids = inputs, .lengths = lengths, .types = types, .targets = targets};
    pass_zero_gradient(t->pass);
    ck_assert_msg(
        !pass_step(t->pass, b, &in, 1 / (float)counted, backward, &sum, &e), "%s", e.text);
    return sum / (double)counted;
}

double trained_distance(const float *a, const float *b, int64_t n)
{
    double apart = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        apart += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return sqrt(apart / norm);
}

const float *trained_part(
    const struct safetensors *s, const char *prefix, const char *name, int64_t count)
{
    char full[192];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct safetensors_tensor *t = safetensors_find(s, full);
    ck_assert_msg(t && t->bytes == count * 4, "%s", full);
    return (const float *)t->data;
}

void trained_set(struct trained *t, const struct safetensors *s, const char *prefix, int count)
{
    int set = 0;
    for (int i = 0; i < model_trained(t->m)->count; i++) {
        const struct tensor *p = &model_trained(t->m)->at[i];
        char name[192];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        const struct safetensors_tensor *has = safetensors_find(s, name);
        if (!has)
            continue;
        ck_assert_int_eq(has->bytes, p->count * 4);
        dev_upload(t->d, model_master(t->m) + p->offset, has->data, (size_t)has->bytes);
        set++;
    }
    ck_assert_int_eq(set, count);
    model_master_changed(t->m);
}

void trained_compare(struct trained *t, const struct safetensors *s, const char *prefix)
{
    for (int i = 0; i < model_trained(t->m)->count; i++) {
        const struct tensor *p = &model_trained(t->m)->at[i];
        mem_autofree float *g = mem_array((size_t)p->count, 4);
        dev_download(t->d, g, pass_gradient(t->pass) + p->offset, (size_t)p->count * 4);
        double far = trained_distance(g, trained_part(s, prefix, p->name, p->count), p->count);
        ck_assert_msg(far < 1e-4, "%s%s: %.3g", prefix, p->name, far);
    }
}

void trained_read(struct trained *t, const char *name, float *out, int64_t n)
{
    ck_assert_msg(!model_read(t->m, name, false, out, n, &e), "%s", e.text);
}
