/*
 * Goal: an adapter beside a served model computes what peft does, takes the memory that it said,
 * and is refused where none can stand. Method: the factors and the loss of a golden file of peft's,
 * on two sequences in one pass, one of them with the adapter and then both: who has none has the
 * bits that the model alone gives; gains that are the identity or double a product; a device that
 * counts; tensors that no adapter is for.
 */
#include "runtime/model/beside.h"

#include "base/mem.h"
#include "kernels/driver.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/engine.h"
#include "runtime/model/kvcache.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define T 32
#define V 256

static struct err e;

struct served {
    struct dev *d;
    struct weights *w;
    struct tensors all;
    struct beside *beside;
    struct model *m;
    struct engine *engine;
};

static const struct driver *inner;
static int64_t asked;

static int count_alloc(struct dev *d, size_t bytes, void **out, struct err *err)
{
    asked += (int64_t)bytes;
    return inner->alloc(d, bytes, out, err);
}

static void open_files(struct served *s)
{
    static struct driver counting;
    *s = (struct served){0};
    ck_assert_msg(!dev_open("cpu", 0, 1, &s->d, &e), "%s", e.text);
    inner = s->d->driver;
    counting = *inner;
    counting.alloc = count_alloc;
    counting.reserve = NULL; /* as alloc */
    s->d->driver = &counting;
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &s->w, &e), "%s", e.text);
    ck_assert_msg(!tensors_create(weights_config(s->w), &s->all, &e), "%s", e.text);
}

static void open_engine(struct served *s)
{
    struct model_conf c = {.config = *weights_config(s->w),
        .t = DTYPE_F32,
        .kv_capacity = T,
        .kv_pages = 2 * kvcache_pages(T),
        .beside = s->beside};
    struct memplan p;
    ck_assert_msg(!memplan_model(&c, s->w, &p, &e), "%s", e.text);
    asked = 0;
    ck_assert_msg(!model_create(s->d, &c, &s->m, &e), "%s", e.text);
    ck_assert_msg(!model_load(s->m, s->w, &e), "%s", e.text);
    for (int i = 0; i < beside_count(s->beside); i++)
        ck_assert_msg(!beside_open(s->beside, i, &c.config, s->d, &e), "%s", e.text);
    ck_assert_msg(!engine_create(s->m, &s->engine, &e), "%s", e.text);
    ck_assert_int_eq(asked, p.total);
    ck_assert_int_eq(p.beside, beside_bytes(s->beside, &c.config));
    ck_assert_int_gt(p.beside, 0);
    ck_assert(!memplan_require(&p, p.total, &e));
    ck_assert_int_eq(memplan_require(&p, p.total - 1, &e), -ERR_MEMORY);
    ck_assert_msg(strstr(e.text, ", adapters 0, draft 0, activations "), "%s", e.text); /* of MiB */
}

static void close_all(struct served *s)
{
    engine_destroy(s->engine);
    model_destroy(s->m);
    beside_destroy(s->beside);
    tensors_done(&s->all);
    weights_close(s->w);
    dev_close(s->d);
}

/* The factors of the golden file: number 1 as they are, of number 2 each product times `gain`. */
static void put_golden(struct served *s, const struct safetensors *golden, float gain, bool fill)
{
    for (int i = 0; i < s->all.count; i++) {
        const struct tensor *t = &s->all.at[i];
        char name[2][160];
        const struct safetensors_tensor *x[2];
        for (int k = 0; k < 2; k++) {
            snprintf(name[k], sizeof name[k], "%.*s.lora_%c.weight",
                (int)(strlen(t->name) - strlen(".weight")), t->name, k ? 'B' : 'A');
            x[k] = safetensors_find(golden, name[k]);
        }
        if (!x[0] || !x[1])
            continue;
        mem_autofree float *gains = mem_array((size_t)t->shape[0], sizeof *gains);
        for (int64_t r = 0; r < t->shape[0]; r++)
            gains[r] = gain;
        for (int k = 0; k < 2; k++) {
            const struct beside_shape shape = {x[0]->shape[0], 2, k};
            const struct beside_values v = {
                (const float *)x[0]->data, (const float *)x[1]->data, k ? gains : NULL};
            int rc = fill ? beside_put(s->beside, k, t, &shape, &v, &e)
                          : beside_describe(s->beside, k, t, &shape, &e);
            ck_assert_msg(!rc, "%s", e.text);
        }
    }
}

static int32_t *ids, *targets;
static float logits[2][2 * T][V];

/* Both sequences, row by row in one pass; a of the first, b of the second. */
static void run(struct served *s, int a, int b, float (*out)[V])
{
    static int32_t pages[2][2];
    struct engine_part parts[2 * T];
    int64_t each = kvcache_pages(T);
    ck_assert_int_le(each, 2);
    for (int i = 0; i < 2 * T; i++) {
        pages[i / T][i % each] = (int32_t)(i / T * each + i % each);
        parts[i] = (struct engine_part){.ids = ids + i,
            .count = 1,
            .past = i % T,
            .pages = pages[i / T],
            .adapter = i < T ? a : b,
            .logits = out[i]};
    }
    ck_assert_msg(!engine_run(s->engine, parts, 2 * T, &e), "%s", e.text);
}

static double loss(float (*x)[V])
{
    double sum = 0;
    int count = 0;
    for (int i = 0; i < 2 * T; i++) {
        double z = 0;
        if (targets[i] < 0)
            continue;
        for (int k = 0; k < V; k++)
            z += exp((double)x[i][k]);
        sum += log(z) - (double)x[i][targets[i]];
        count++;
    }
    return sum / count;
}

START_TEST(losses_are_pefts)
{
    json_auto struct json *step = golden_json(GOLDEN "tiny_step.json");
    struct safetensors *golden;
    struct served s;
    int64_t n;
    float want;
    ids = golden_ids(json_get(step, "inputs"), &n);
    targets = golden_ids(json_get(step, "targets"), &n);
    ck_assert_int_eq(n, 2 * T);
    open_files(&s);
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_lora.safetensors", &golden, &e), "%s", e.text);
    ck_assert_msg(!beside_create(weights_config(s.w), 2, 0, &s.beside, &e), "%s", e.text);
    put_golden(&s, golden, 1, false);
    ck_assert_int_eq(beside_rank(s.beside), 4);
    ck_assert_int_eq(beside_count(s.beside), 2);
    open_engine(&s);
    put_golden(&s, golden, 1, true);
    memcpy(&want, safetensors_find(golden, "loss_mean")->data, sizeof want);
    run(&s, 1, 1, logits[0]);
    ck_assert_double_eq_tol(loss(logits[0]), (double)want, 1e-5);
    run(&s, 0, 0, logits[1]);
    ck_assert_double_eq_tol(loss(logits[1]), json_num(step, "loss_mean", 0), 1e-5);
    ck_assert(fabs(loss(logits[0]) - loss(logits[1])) > 1e-3);
    run(&s, 1, 2, logits[1]); /* gains of 1 change nothing */
    ck_assert_mem_eq(logits[1], logits[0], sizeof logits[0]);
    run(&s, 0, 2, logits[1]); /* nor does the second sequence anything of the first */
    ck_assert_mem_eq(logits[1][T], logits[0][T], sizeof logits[0] / 2);
    run(&s, 0, 0, logits[0]);
    ck_assert_mem_eq(logits[1][0], logits[0][0], sizeof logits[0] / 2);
    put_golden(&s, golden, 2, true);
    run(&s, 0, 2, logits[0]);
    ck_assert_mem_ne(logits[1][T], logits[0][T], sizeof logits[0] / 2);
    safetensors_close(golden);
    mem_free(ids);
    mem_free(targets);
    close_all(&s);
}
END_TEST

START_TEST(what_none_is_for_is_refused)
{
    static const char *const names[] = {
        "model.embed_tokens.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight"};
    struct beside_shape shape = {.rank = 3, .scale = 1};
    struct served s;
    open_files(&s);
    const struct model_config *c = weights_config(s.w);
    ck_assert_int_eq(beside_bytes(NULL, c) + beside_rank(NULL) + beside_count(NULL), 0);
    beside_destroy(NULL);
    ck_assert_msg(!beside_create(weights_config(s.w), 1, 0, &s.beside, &e), "%s", e.text);
    ck_assert_int_eq(beside_bytes(s.beside, c), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct tensor *t = tensors_find(&s.all, names[i]);
        ck_assert_int_eq(beside_describe(s.beside, 0, t, &shape, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, names[i]), "%s", e.text);
    }
    const struct tensor *q = tensors_find(&s.all, "model.layers.1.self_attn.q_proj.weight");
    const struct beside_values v = {0};
    ck_assert(!beside_describe(s.beside, 0, q, &shape, &e));
    ck_assert(!beside_open(s.beside, 0, c, s.d, &e));
    shape.rank = 4;
    ck_assert_int_eq(beside_put(s.beside, 0, q, &shape, &v, &e), -ERR_DATA);
    ck_assert_msg(strstr(e.text, "changed while it was read"), "%s", e.text);
    close_all(&s);
}
END_TEST

UNIT_MAIN("beside", losses_are_pefts, what_none_is_for_is_refused)
