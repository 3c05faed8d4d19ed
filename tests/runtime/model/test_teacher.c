/*
 * Goal: what a model learns from a teacher is what torch's makes of both (Hinton et al.), whatever
 * the chunk of rows and the micro-batch; what is only looked at knows no teacher. Method: a tiny
 * Llama and a tiny Qwen2 of one vocabulary: loss and gradients of a batch beside torch's, in F32
 * and, loosely, in BF16, by chunks of 16 rows and by sequences; on the simulated GPU too.
 * needs: cuda
 */
#include "runtime/model/teacher.h"

#include "base/mem.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/pass.h"
#include "tests/runtime/golden.h"
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

int main(void)
{
    const struct unit u = {.name = "teacher", .timeout_s = 60, .setup = setup, .done = teardown};
    return unit_run_with(&u,
        (const TTest *const[]){loss_and_gradients_equal_torch, the_same_on_a_gpu,
            what_is_looked_at_is_the_text_alone, NULL});
}
