/*
 * Goal: serving computes what training computes and what torch computes, however a sequence is cut
 * into calls, from stored blocks too, for every family. Method: the tiny models of
 * tests/golden served token by token, in chunks, at once and again from a shorter prefix; their
 * losses against the training forward's, their logits against transformers'; and with a cache
 * and weights of 16 bits, near the F32 result.
 */
#include "runtime/model/net.h"

#include "base/mem.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/engine.h"
#include "runtime/model/pass.h"
#include "tests/far.h"
#include "tests/runtime/gguf_make.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define T     32
#define V_MAX 256

static struct err e;
static struct dev *d;
static struct weights *w;
static int32_t ids[T + 1];
static int64_t V;

static const char *const folders[] = {GOLDEN "tiny-llama", GOLDEN "tiny-gpt2", GOLDEN "tiny-qwen2",
    GOLDEN "tiny-qwen3", GOLDEN "tiny-mistral", GOLDEN "tiny-llama3", GOLDEN "tiny-qwen3-moe",
    GOLDEN "tiny-mixtral"};
#define FAMILIES ((int)(sizeof folders / sizeof *folders))

static void open_family(int i)
{
    ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folders[i], NULL, &w, &e), "%s", e.text);
    V = weights_config(w)->vocab;
    for (int k = 0; k <= T; k++)
        ids[k] = (int32_t)((k * 37 + 11) % V);
}

/* A loaded model, and what computes with it. */
struct opened {
    struct model *m;
    struct engine *engine;
    struct pass *pass;
};

static struct opened open(struct model_conf c)
{
    struct opened o = {0};

    c.config = *weights_config(w);
    ck_assert_msg(!model_create(d, &c, &o.m, &e), "%s", e.text);
    ck_assert_msg(!model_load(o.m, w, &e), "%s", e.text);
    ck_assert_msg(!(c.train ? pass_create(o.m, &o.pass, &e) : engine_create(o.m, &o.engine, &e)),
        "%s", e.text);
    return o;
}

static void close_opened(struct opened *o)
{
    pass_destroy(o->pass);
    engine_destroy(o->engine);
    model_destroy(o->m);
}

static void for_each_family(void (*check)(void))
{
    for (int i = 0; i < FAMILIES; i++) {
        open_family(i);
        check();
        weights_close(w);
        dev_close(d);
    }
}

static void run(struct engine *engine, const int *cuts, float *logits)
{
    int past = 0;

    for (; *cuts; past += *cuts++)
        ck_assert_msg(!engine_extend(engine, ids + past, *cuts, past, true, logits + past * V, &e),
            "%s", e.text);
    ck_assert_int_eq(past, T);
}

static double farthest(const float *a, const float *b, int64_t n)
{
    double far = 0;

    for (int64_t i = 0; i < n; i++)
        far = farther(far, fabs((double)a[i] - (double)b[i]));
    return far;
}

static void check_cuts(void)
{
    static const int cuts[][34] = {{32},
        {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1},
        {5, 1, 20, 6}, {9, 23}};
    struct opened m = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
    static float whole[T * V_MAX], other[T * V_MAX], last[V_MAX];

    run(m.engine, cuts[0], whole);
    for (int i = 1; i < 4; i++) {
        run(m.engine, cuts[i], other);
        ck_assert_double_le(farthest(whole, other, T * V), 1e-4);
    }
    /* the cache still holds the whole sequence: go back to 20 and on */
    ck_assert(!engine_extend(m.engine, ids + 20, T - 20, 20, false, last, &e));
    ck_assert_double_le(farthest(whole + (T - 1) * V, last, V), 1e-4);
    ck_assert_int_eq(engine_extend(m.engine, ids, 2, T - 1, false, last, &e), -ERR_USER);
    close_opened(&m);
}

START_TEST(any_cut_gives_the_same_logits)
{
    for_each_family(check_cuts);
}
END_TEST

static double cross_entropy(const float *logits)
{
    double loss = 0;

    for (int i = 0; i < T; i++) {
        double sum = 0;

        for (int j = 0; j < V; j++)
            sum += exp((double)logits[i * V + j]);
        loss += log(sum) - (double)logits[i * V + ids[i + 1]];
    }
    return loss;
}

static void check_training(void)
{
    struct opened serving = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
    struct opened training = open((struct model_conf){
        .t = DTYPE_F32, .train = true, .micro_sequences = 1, .sequence_length = T});
    static float logits[T * V_MAX];
    const struct pass_input in = {.ids = ids, .targets = ids + 1};
    double loss;

    run(serving.engine, (const int[]){T, 0}, logits);
    ck_assert(!pass_step(training.pass, 1, &in, 1, false, &loss, &e));
    ck_assert_double_eq_tol(cross_entropy(logits), loss, 1e-4 * loss);
    close_opened(&serving);
    close_opened(&training);
}

START_TEST(serving_equals_training)
{
    for_each_family(check_training);
}
END_TEST

static void check_half_of(enum dtype t, double near)
{
    struct opened m = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
    struct opened narrow = open((struct model_conf){.t = t, .kv_capacity = T});
    static float want[T * V_MAX], got[T * V_MAX];

    run(m.engine, (const int[]){T, 0}, want);
    run(narrow.engine, (const int[]){T, 0}, got);
    ck_assert_double_eq_tol(cross_entropy(got) / cross_entropy(want), 1, near);
    run(narrow.engine, (const int[]){9, 1, 22, 0}, got);
    ck_assert_double_eq_tol(cross_entropy(got) / cross_entropy(want), 1, near);
    ck_assert_double_ge(farthest(want, got, T * V), 1e-6); /* it did compute in t */
    close_opened(&m);
    close_opened(&narrow);
}

static void check_half(void)
{
    check_half_of(DTYPE_BF16, 0.01);
    check_half_of(DTYPE_F16, 0.002);
}

START_TEST(half_precision_serving_is_near)
{
    for_each_family(check_half);
}
END_TEST

/* Both sequences of the golden batch, each served at once and token by token. */
static void check_golden(int family, const char *name)
{
    static float logits[T * V_MAX];
    struct safetensors *golden;
    char path[96];
    int64_t n, length;
    double far = 0;

    open_family(family);
    struct opened m = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
    snprintf(path, sizeof path, GOLDEN "tiny_%s_step.json", name);
    json_auto struct json *step = golden_json(path);
    mem_autofree int32_t *all = golden_ids(json_get(step, "inputs"), &n);
    snprintf(path, sizeof path, GOLDEN "tiny_%s_logits.safetensors", name);
    ck_assert_msg(!safetensors_open(path, &golden, &e), "%s", e.text);
    length = n / 2;
    ck_assert_int_le(length, T);
    for (int k = 0; k < 4; k++) {
        const float *want = (const float *)safetensors_at(golden, 0)->data;
        const int32_t *from = all + k % 2 * length;
        int64_t cut = k < 2 ? length : 1;

        for (int64_t i = 0; i < length; i += cut)
            ck_assert_msg(
                !engine_extend(m.engine, from + i, cut, i, true, logits + i * V, &e), "%s", e.text);
        far = farther(far, farthest(want + k % 2 * length * V, logits, length * V));
    }
    printf("%s: logits at most %.2g away\n", name, far);
    ck_assert_double_le(far, 1e-4);
    safetensors_close(golden);
    close_opened(&m);
    weights_close(w);
    dev_close(d);
}

START_TEST(logits_equal_transformers)
{
    check_golden(1, "gpt2");
    check_golden(2, "qwen2");
    check_golden(3, "qwen3");
    check_golden(4, "mistral");
    check_golden(5, "llama3");
    check_golden(6, "qwen3_moe");
    check_golden(7, "mixtral");
}
END_TEST

static void serve_gguf(bool quantised, float *logits)
{
    char folder[64], path[96];
    buf_auto struct buf file;

    buf_init(&file, 1 << 24);
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    gguf_make_mixture("mixtral", quantised, &file);
    golden_write(path, file.data, file.len);
    ck_assert_msg(!weights_open(path, NULL, &w, &e), "%s", e.text);
    struct opened m = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
    struct opened training = open((struct model_conf){
        .t = DTYPE_F32, .train = true, .micro_sequences = 1, .sequence_length = T});
    const struct pass_input in = {.ids = ids, .targets = ids + 1};
    double loss;

    run(m.engine, (const int[]){9, 1, 1, 21, 0}, logits);
    ck_assert(!pass_step(training.pass, 1, &in, 1, false, &loss, &e));
    ck_assert_double_eq_tol(cross_entropy(logits), loss, 1e-4 * loss);
    close_opened(&training);
    close_opened(&m);
    weights_close(w);
    golden_remove(folder);
}

/* Experts' blocks are multiplied as they are: training decodes them first. */
START_TEST(experts_are_served_from_blocks)
{
    static float folder[T * V_MAX], whole[T * V_MAX], blocks[T * V_MAX];

    open_family(7);
    struct opened m = open((struct model_conf){.t = DTYPE_F32, .kv_capacity = T});
    run(m.engine, (const int[]){9, 1, 1, 21, 0}, folder);
    close_opened(&m);
    weights_close(w);
    serve_gguf(false, whole);
    serve_gguf(true, blocks);
    ck_assert_double_le(farthest(folder, whole, T * V), 1e-5);
    ck_assert_double_ge(farthest(whole, blocks, T * V), 1e-6);
    dev_close(d);
}
END_TEST

/* Learned positions end: no cache may be longer. */
START_TEST(positions_bound_the_context)
{
    struct model *m;

    open_family(1);
    struct model_conf c = {.config = *weights_config(w), .t = DTYPE_F32, .kv_capacity = 49};
    ck_assert_int_eq(model_create(d, &c, &m, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "48 learned positions"));
    c.kv_capacity = 48;
    struct opened fits = open(c);
    close_opened(&fits);
    weights_close(w);
    dev_close(d);
}
END_TEST

UNIT_MAIN("net", any_cut_gives_the_same_logits, serving_equals_training,
    half_precision_serving_is_near, logits_equal_transformers, experts_are_served_from_blocks,
    positions_bound_the_context)
