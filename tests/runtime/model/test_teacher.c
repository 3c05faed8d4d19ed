/*
 * Goal: what a model learns from a teacher is what torch's makes of both (Hinton et al.), whatever
 * the chunk of rows and the micro-batch; what is only looked at knows no teacher. Method: a tiny
 * Llama and a tiny Qwen2 of one vocabulary: loss and gradients of a batch beside torch's, in F32
 * and, loosely, in BF16, by chunks of 16 rows and by sequences; on the simulated GPU too. A BERT
 * that labels words, and one that labels texts, taught by itself with labels in another order.
 * needs: cuda
 */
#include "runtime/model/teacher.h"

#include "base/mem.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/pass.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/trained.h"
#include "tests/unit.h"

#include <math.h>

#define ROWS 32 /* of the batch */

static struct err e;
static struct json *step;

struct pupil {
    struct dev *d;
    struct weights *w, *of_teacher;
    struct model *m;
    struct pass *pass;
};

static void setup(void)
{
    step = golden_json(GOLDEN "tiny_distill.json");
}

static void teardown(void)
{
    json_destroy(step);
}

static void open_pupil(struct pupil *p, const char *kind, enum dtype t, int64_t b)
{
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama3", NULL, &p->w, &e), "%s", e.text);
    ck_assert_msg(!weights_open(GOLDEN "tiny-qwen2", NULL, &p->of_teacher, &e), "%s", e.text);
    ck_assert_msg(!dev_open(kind, 0, 1, &p->d, &e), "%s", e.text);
    const struct model_conf c = {.config = *weights_config(p->w),
        .t = t,
        .train = true,
        .micro_sequences = b,
        .sequence_length = json_int(step, "t", 0),
        .logit_rows = 16,
        .teacher = weights_config(p->of_teacher),
        .distill_weight = (float)json_num(step, "weight", 0),
        .distill_temperature = (float)json_num(step, "temperature", 0)};
    ck_assert_msg(!model_create(p->d, &c, &p->m, &e), "%s", e.text);
    ck_assert_msg(!model_load(p->m, p->w, &e), "%s", e.text);
    ck_assert_msg(!pass_create(p->m, &p->pass, &e), "%s", e.text);
    ck_assert_msg(!model_load(pass_teacher(p->pass), p->of_teacher, &e), "%s", e.text);
    pass_zero_gradient(p->pass);
}

static void close_pupil(struct pupil *p)
{
    pass_destroy(p->pass);
    model_destroy(p->m);
    dev_close(p->d);
    weights_close(p->w);
    weights_close(p->of_teacher);
}

/* The mean loss of the batch, b sequences at a time. */
static double loss_of(struct pupil *p, int64_t b, bool backward)
{
    int64_t n, m, length = json_int(step, "t", 0), all = json_int(step, "b", 0);
    mem_autofree int32_t *inputs = golden_ids(json_get(step, "inputs"), &n);
    mem_autofree int32_t *targets = golden_ids(json_get(step, "targets"), &m);
    double counted = json_num(step, "counted", 0), sum = 0, part;
    ck_assert(n == ROWS && m == ROWS);
    for (int64_t i = 0; i < all; i += b) {
        const struct pass_input in = {.ids = inputs + i * length, .targets = targets + i * length};
        ck_assert_msg(
            !pass_step(p->pass, b, &in, (float)(1 / counted), backward, &part, &e), "%s", e.text);
        sum += part;
    }
    return sum / counted;
}

static void compare_gradients(struct pupil *p, double tolerance)
{
    struct safetensors *s;
    int64_t every = json_int(step, "every", 0);
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_distill.safetensors", &s, &e), "%s", e.text);
    for (int i = 0; i < model_trained(p->m)->count; i++) {
        const struct tensor *t = &model_trained(p->m)->at[i];
        const struct safetensors_tensor *want = safetensors_find(s, t->name);
        mem_autofree float *g = mem_array((size_t)t->count, sizeof *g);
        double off = 0, norm = 0;
        ck_assert_msg(want && want->bytes == (t->count + every - 1) / every * 4, "%s", t->name);
        dev_download(p->d, g, pass_gradient(p->pass) + t->offset, (size_t)t->count * 4);
        ck_assert(!dev_sync(p->d, &e));
        for (int64_t k = 0; k * every < t->count; k++) {
            double x = (double)((const float *)want->data)[k];
            off += pow((double)g[k * every] - x, 2);
            norm += x * x;
        }
        ck_assert_msg(sqrt(off / norm) < tolerance, "%s: %.3g", t->name, sqrt(off / norm));
    }
    safetensors_close(s);
}

static void check(const char *kind, enum dtype t, int64_t b, double loss, double gradient)
{
    struct pupil p = {0};
    open_pupil(&p, kind, t, b);
    ck_assert_double_eq_tol(loss_of(&p, b, true), json_num(step, "loss_mean", 0), loss);
    compare_gradients(&p, gradient);
    close_pupil(&p);
}

START_TEST(loss_and_gradients_equal_torch)
{
    check("cpu", DTYPE_F32, 2, 1e-5, 1e-4);
    check("cpu", DTYPE_F32, 1, 1e-5, 1e-4);
    check("cpu", DTYPE_BF16, 2, 0.03, 0.05);
}
END_TEST

START_TEST(the_same_on_a_gpu)
{
    check("cuda", DTYPE_F32, 2, 1e-5, 1e-4);
}
END_TEST

START_TEST(what_is_looked_at_is_the_text_alone)
{
    struct pupil p = {0};
    open_pupil(&p, "cpu", DTYPE_F32, 2);
    ck_assert_double_eq_tol(loss_of(&p, 2, false), json_num(step, "loss_text", 0), 1e-5);
    ck_assert_double_gt(
        fabs(json_num(step, "loss_text", 0) - json_num(step, "loss_mean", 0)), 0.01);
    close_pupil(&p);
}
END_TEST

/* The gradient of keys' biases is none, and what rounding leaves of it has no direction. */
static void compare_labels(struct trained *t, const char *kind, int64_t every)
{
    struct safetensors *s;
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_bert_distill.safetensors", &s, &e), "%s", e.text);
    for (int i = 0; i < model_trained(t->m)->count; i++) {
        const struct tensor *x = &model_trained(t->m)->at[i];
        int64_t n = (x->count + every - 1) / every;
        const float *want = trained_part(s, kind, x->name, n);
        mem_autofree float *g = mem_array((size_t)x->count, sizeof *g);
        dev_download(t->d, g, pass_gradient(t->pass) + x->offset, (size_t)x->count * 4);
        ck_assert(!dev_sync(t->d, &e));
        for (int64_t k = 0; k < n; k++)
            g[k] = g[k * every];
        bool none = x->role == TENSOR_K && x->part == TENSOR_BIAS;
        double far = none ? fabs((double)g[0]) : trained_distance(g, want, n);
        ck_assert_msg(far < 1e-4, "%s%s: %.3g", kind, x->name, far);
    }
    safetensors_close(s);
}

static void check_labels(const char *kind, const char *folder)
{
    json_auto struct json *all = golden_json(GOLDEN "tiny_bert_distill.json");
    const struct json *of = json_get(all, kind);
    char prefix[16];
    int64_t n;
    struct trained t = {0};
    struct weights *w;
    mem_autofree int32_t *from = golden_ids(json_get(of, "teacher_from"), &n);
    ck_assert_msg(!weights_open(folder, NULL, &w, &e), "%s", e.text);
    struct model_conf c = trained_conf(&t, folder, json_int(of, "b", 0), json_int(of, "t", 0), 0);
    ck_assert_int_eq(n, c.config.labels);
    c.teacher = weights_config(w);
    c.teacher_label_from = from;
    c.distill_weight = (float)json_num(of, "weight", 0);
    c.distill_temperature = (float)json_num(of, "temperature", 0);
    trained_open(&t, &c);
    ck_assert_msg(!model_load(pass_teacher(t.pass), w, &e), "%s", e.text);
    ck_assert_double_eq_tol(trained_step(&t, of, false), json_num(of, "loss_text", 0), 1e-5);
    ck_assert_double_eq_tol(trained_step(&t, of, true), json_num(of, "loss_mean", 0), 1e-5);
    snprintf(prefix, sizeof prefix, "%s.", kind);
    compare_labels(&t, prefix, json_int(of, "every", 0));
    trained_close(&t);
    weights_close(w);
}

START_TEST(classifiers_learn_from_one_as_torch_does)
{
    check_labels("words", GOLDEN "tiny-bert");
    check_labels("texts", GOLDEN "tiny-bert-texts");
}
END_TEST

int main(void)
{
    const struct unit u = {.name = "teacher", .timeout_s = 60, .setup = setup, .done = teardown};
    return unit_run_with(&u,
        (const TTest *const[]){loss_and_gradients_equal_torch, the_same_on_a_gpu,
            what_is_looked_at_is_the_text_alone, classifiers_learn_from_one_as_torch_does, NULL});
}
