/*
 * Goal: what is found of a text is what torch and the training's forward find, and the same to the
 * bit alone and among any other texts. Method: logits of the tiny BERTs of tests/golden beside
 * transformers', texts of unlike lengths in one pass; means of hidden states of every kind of
 * attention beside those of the training's pass; random texts, each alone and in random company, in
 * one pass and in several; the simulated GPU near the processor; and texts that are refused.
 * needs: cuda
 */
#include "runtime/model/encoder.h"

#include "base/mem.h"
#include "base/random.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/pass.h"
#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/shapes.h"
#include "tests/unit.h"

#include <math.h>

#define T      16 /* of the golden batch */
#define MOST   40 /* tokens of a text */
#define TEXTS  48
#define DRAWN  140 /* of these, in one call: more than a pass takes */
#define LABELS 8
#define DIM    64

static struct err e;

struct opened {
    struct dev *d;
    struct weights *w;
    struct model *m;
    struct encoder *g;
};

static void open_on(struct opened *o, const char *device, const char *folder, bool headless)
{
    struct model_conf c = {.t = DTYPE_F32, .encodes = true, .headless = headless};
    struct pooling p;
    ck_assert_msg(!dev_open(device, 0, 2, &o->d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folder, NULL, &o->w, &e), "%s", e.text);
    ck_assert_msg(!encoder_conf(o->w, MOST, &c, &p, &e), "%s", e.text);
    ck_assert_int_eq(c.encodes, c.config.labels || c.config.bidirectional);
    c.encodes = true;
    if (headless) {
        c.config.labels = 0;
        c.config.pooled = c.config.last = false;
    }
    ck_assert_msg(!model_create(o->d, &c, &o->m, &e), "%s", e.text);
    ck_assert_msg(!model_load(o->m, o->w, &e), "%s", e.text);
    ck_assert_msg(!encoder_create(o->m, &o->g, &e), "%s", e.text);
}

static void close_opened(struct opened *o)
{
    encoder_destroy(o->g);
    model_destroy(o->m);
    weights_close(o->w);
    dev_close(o->d);
}

/* -- beside transformers -- */

struct batch_of_golden {
    int32_t *ids, *types, *lengths;
    struct encoder_text texts[3];
};

static void read_golden(struct batch_of_golden *b, const char *file)
{
    json_auto struct json *step = golden_json(file);
    int64_t n;
    b->ids = golden_ids(json_get(step, "inputs"), &n);
    b->lengths = golden_ids(json_get(step, "lengths"), &n);
    b->types = json_get(step, "types") ? golden_ids(json_get(step, "types"), &n) : NULL;
    for (int i = 0; i < 3; i++)
        b->texts[i] = (struct encoder_text){
            b->ids + i * T, b->types ? b->types + i * T : NULL, b->lengths[i]};
}

static void free_golden(struct batch_of_golden *b)
{
    mem_free(b->ids);
    mem_free(b->types);
    mem_free(b->lengths);
}

static double far_from(const float *a, const float *b, int64_t n)
{
    double far = 0;
    for (int64_t i = 0; i < n; i++)
        far = farther(far, fabs((double)a[i] - (double)b[i]));
    return far;
}

static void check_labels(const char *device, const char *folder, const char *step,
    const float *want, bool words, double tolerance)
{
    struct opened o;
    struct batch_of_golden b;
    float got[3 * T * LABELS];
    open_on(&o, device, folder, false);
    read_golden(&b, step);
    int64_t labels = weights_config(o.w)->labels, row = 0;
    double far = 0;
    ck_assert_msg(!encoder_label(o.g, b.texts, 3, got, &e), "%s", e.text);
    for (int i = 0; i < 3; i++) {
        int64_t rows = words ? b.lengths[i] : 1;
        far = farther(
            far, far_from(got + row * labels, want + (words ? i * T : i) * labels, rows * labels));
        row += rows;
    }
    printf("%s on %s: at most %.2g away\n", step, device, far);
    ck_assert_double_le(far, tolerance);
    free_golden(&b);
    close_opened(&o);
}

static void check_all(const char *device, double tolerance)
{
    static const char typed[] = GOLDEN "tiny_bert_typed_step.json";
    struct safetensors *texts, *words;
    json_auto struct json *step = golden_json(typed);
    float logits[9];
    int i = 0;
    ck_assert(!safetensors_open(GOLDEN "tiny_bert_texts_logits.safetensors", &texts, &e) &&
        !safetensors_open(GOLDEN "tiny_bert_logits.safetensors", &words, &e));
    check_labels(device, GOLDEN "tiny-bert-texts", GOLDEN "tiny_bert_texts_step.json",
        (const float *)safetensors_at(texts, 0)->data, false, tolerance);
    check_labels(device, GOLDEN "tiny-bert", GOLDEN "tiny_bert_step.json",
        (const float *)safetensors_at(words, 0)->data, true, tolerance);
    json_each (x, json_get(step, "logits"))
        logits[i++] = (float)json_number_value(x);
    check_labels(device, GOLDEN "tiny-bert-texts", typed, logits, false, tolerance);
    safetensors_close(texts);
    safetensors_close(words);
}

START_TEST(labels_equal_transformers)
{
    check_all("cpu", 1e-5);
}
END_TEST

START_TEST(a_gpu_finds_the_same)
{
    check_all("cuda", 1e-4);
}
END_TEST

/* -- random texts -- */

struct random_texts {
    int32_t ids[TEXTS][MOST], types[TEXTS][MOST];
    struct encoder_text at[TEXTS];
};

static void draw_texts(struct random_texts *r, const struct model_config *c, uint64_t seed)
{
    for (int i = 0; i < TEXTS; i++) {
        int64_t n = 1 + (int64_t)(random_next(&seed) % MOST);
        for (int64_t k = 0; k < n; k++) {
            r->ids[i][k] = (int32_t)(random_next(&seed) % (uint64_t)c->vocab);
            r->types[i][k] = c->types ? (int32_t)(random_next(&seed) % 2) : 0;
        }
        r->at[i] = (struct encoder_text){r->ids[i], r->types[i], n};
    }
}

static const char *const folders[] = {GOLDEN "tiny-llama", GOLDEN "tiny-gpt2", GOLDEN "tiny-qwen3",
    GOLDEN "tiny-mistral", GOLDEN "tiny-qwen3-moe", GOLDEN "tiny-bert", GOLDEN "tiny-bert-texts"};
#define FAMILIES ((int)(sizeof folders / sizeof *folders))

/* By the training's forward, a text at a time. */
static void read_means(const struct opened *o, const struct encoder_text *t, float *mean)
{
    struct model_conf c = {.config = *weights_config(o->w),
        .t = DTYPE_F32,
        .train = true,
        .frozen = true,
        .headless = true,
        .micro_sequences = 1,
        .sequence_length = t->count};
    struct model *m;
    struct pass *p;
    c.config.labels = 0;
    c.config.pooled = false;
    const struct pass_input in = {.ids = t->ids, .types = c.config.types ? t->types : NULL};
    ck_assert_msg(!model_create(o->d, &c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, o->w, &e) && !pass_create(m, &p, &e), "%s", e.text);
    ck_assert_msg(!pass_means(p, 1, &in, false, mean, &e), "%s", e.text);
    pass_destroy(p);
    model_destroy(m);
}

START_TEST(means_are_those_of_training)
{
    static struct random_texts r;
    static float got[TEXTS * DIM];
    for (int f = 0; f < FAMILIES; f++) {
        struct opened o;
        double far = 0;
        open_on(&o, "cpu", folders[f], true);
        int64_t dim = weights_config(o.w)->dim;
        draw_texts(&r, weights_config(o.w), (uint64_t)f);
        ck_assert_msg(!encoder_embed(o.g, r.at, TEXTS, POOLING_MEAN, got, &e), "%s", e.text);
        for (int i = 0; i < TEXTS; i += 16) {
            float mean[DIM];
            read_means(&o, &r.at[i], mean);
            far = farther(far, far_from(got + i * dim, mean, dim));
        }
        printf("%s: means at most %.2g away\n", folders[f], far);
        ck_assert_double_le(far, 2e-5);
        close_opened(&o);
    }
}
END_TEST

/* From left to right what a token sees does not change with what follows: the last one's hidden
   state is n times the mean of n less (n - 1) times that of n - 1, the first one's that of one. */
START_TEST(first_and_last_are_rows_of_the_mean)
{
    static struct random_texts r;
    struct opened o;
    open_on(&o, "cpu", GOLDEN "tiny-llama", true);
    int64_t dim = weights_config(o.w)->dim;
    draw_texts(&r, weights_config(o.w), 5);
    for (int i = 0; i < 20; i++) {
        float first[DIM], last[DIM], all[DIM], but_one[DIM], one[DIM];
        struct encoder_text t = r.at[i];
        t.count = t.count < 2 ? 2 : t.count;
        const struct encoder_text shorter = {t.ids, NULL, t.count - 1}, single = {t.ids, NULL, 1};
        ck_assert(!encoder_embed(o.g, &t, 1, POOLING_FIRST, first, &e) &&
            !encoder_embed(o.g, &t, 1, POOLING_LAST, last, &e) &&
            !encoder_embed(o.g, &t, 1, POOLING_MEAN, all, &e) &&
            !encoder_embed(o.g, &shorter, 1, POOLING_MEAN, but_one, &e) &&
            !encoder_embed(o.g, &single, 1, POOLING_MEAN, one, &e));
        ck_assert_double_le(far_from(first, one, dim), 1e-5);
        for (int64_t k = 0; k < dim; k++)
            ck_assert_float_eq_tol(
                last[k], all[k] * (float)t.count - but_one[k] * (float)(t.count - 1), 1e-4f);
    }
    close_opened(&o);
}
END_TEST

/* -- company -- */

typedef int find_fn(struct encoder *g, const struct encoder_text *t, int64_t n, float *out);

static int find_means(struct encoder *g, const struct encoder_text *t, int64_t n, float *out)
{
    return encoder_embed(g, t, n, POOLING_MEAN, out, &e);
}

static int find_labels(struct encoder *g, const struct encoder_text *t, int64_t n, float *out)
{
    return encoder_label(g, t, n, out, &e);
}

/* What is found of each text alone, then of random runs of texts in a random order. */
static void check_company(
    struct encoder *g, const struct random_texts *r, find_fn *find, const int64_t *width)
{
    static float alone[TEXTS][MOST * DIM], found[DRAWN * MOST * DIM];
    uint64_t seed = sample_setting("LLMJOB_SEED");
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < TEXTS; i++)
        ck_assert_msg(!find(g, &r->at[i], 1, alone[i]), "%s", e.text);
    for (int round = 0; round < 3; round++) {
        struct encoder_text some[DRAWN];
        int which[DRAWN], n = 1 + (int)(random_next(&seed) % (round < 2 ? 20 : DRAWN));
        for (int i = 0; i < n; i++) {
            which[i] = (int)(random_next(&seed) % TEXTS);
            some[i] = r->at[which[i]];
        }
        ck_assert_msg(!find(g, some, n, found), "%s", e.text);
        const float *at = found;
        for (int i = 0; i < n; at += width[which[i++]])
            ck_assert_msg(!memcmp(at, alone[which[i]], (size_t)width[which[i]] * sizeof *at),
                "round %d: text %d of %d differs from what is found of it alone", round, i, n);
    }
}

START_TEST(company_changes_no_bit)
{
    static struct random_texts r;
    static int64_t width[TEXTS];
    for (int f = 0; f < FAMILIES; f++) {
        struct opened o;
        open_on(&o, "cpu", folders[f], true);
        const struct model_config *c = weights_config(o.w);
        bool labels = c->labels;
        draw_texts(&r, c, 100 + (uint64_t)f);
        for (int i = 0; i < TEXTS; i++)
            width[i] = c->dim;
        check_company(o.g, &r, find_means, width);
        close_opened(&o);
        if (!labels)
            continue;
        open_on(&o, "cpu", folders[f], false);
        c = weights_config(o.w);
        for (int i = 0; i < TEXTS; i++)
            width[i] = c->labels * (model_config_tells_texts(c) ? 1 : r.at[i].count);
        check_company(o.g, &r, find_labels, width);
        close_opened(&o);
    }
}
END_TEST

/* -- labels at the last token -- */

/* Each text's, by the training's forward. */
static void read_labels(const struct opened *o, const struct encoder_text *t, float *logits)
{
    const struct model_conf c = {.config = *weights_config(o->w),
        .t = DTYPE_F32,
        .train = true,
        .frozen = true,
        .micro_sequences = 1,
        .sequence_length = t->count};
    struct model *m;
    struct pass *p;
    double loss;
    const int32_t targets[MOST] = {0};
    const struct pass_input in = {.ids = t->ids, .targets = targets};
    ck_assert_msg(!model_create(o->d, &c, &m, &e), "%s", e.text);
    ck_assert_msg(!model_load(m, o->w, &e) && !pass_create(m, &p, &e), "%s", e.text);
    ck_assert_msg(!pass_step(p, 1, &in, 0, false, &loss, &e), "%s", e.text);
    ck_assert_msg(!pass_label_logits(p, 1, logits, &e), "%s", e.text);
    pass_destroy(p);
    model_destroy(m);
}

START_TEST(labels_at_the_last_token)
{
    static struct random_texts r;
    static float got[TEXTS * LABELS];
    struct model_config c = shape_of("tiny-last");
    char folder[64];
    struct opened o;
    golden_folder(folder);
    c.pad_id = 7;
    ck_assert_msg(!shape_write(folder, &c, DTYPE_F32, &e), "%s", e.text);
    open_on(&o, "cpu", folder, false);
    ck_assert(weights_config(o.w)->last && weights_config(o.w)->pad_id == 7);
    draw_texts(&r, weights_config(o.w), 9);
    r.ids[0][r.at[0].count - 1] = 7; /* is padding, to the model */
    ck_assert_msg(!encoder_label(o.g, r.at, TEXTS, got, &e), "%s", e.text);
    for (int i = 0; i < 12; i++) {
        float want[LABELS];
        read_labels(&o, &r.at[i], want);
        ck_assert_double_le(far_from(got + i * c.labels, want, c.labels), 1e-4);
    }
    close_opened(&o);
    golden_remove(folder);
}
END_TEST

START_TEST(what_cannot_be_read_is_refused)
{
    struct opened o;
    int32_t ids[MOST + 1] = {0}, types[2] = {0, 2};
    float got[DIM];
    open_on(&o, "cpu", GOLDEN "tiny-bert-texts", true);
    struct encoder_text t = {ids, NULL, MOST};
    ck_assert(!encoder_check(o.g, &t, &e));
    t.count = MOST + 1;
    ck_assert_int_eq(encoder_embed(o.g, &t, 1, POOLING_MEAN, got, &e), -ERR_USER);
    t.count = 0;
    ck_assert_int_eq(encoder_check(o.g, &t, &e), -ERR_USER);
    t = (struct encoder_text){ids, types, 2};
    ck_assert_int_eq(encoder_check(o.g, &t, &e), -ERR_DATA);
    types[1] = 1;
    ck_assert(!encoder_check(o.g, &t, &e));
    ids[1] = (int32_t)weights_config(o.w)->vocab;
    ck_assert_int_eq(encoder_embed(o.g, &t, 1, POOLING_MEAN, got, &e), -ERR_DATA);
    ck_assert_int_ge(encoder_rows(o.g), ENCODER_ROWS);
    close_opened(&o);
}
END_TEST

/* What is planned is what is allocated: the figures come from one walk. */
START_TEST(memory_is_planned)
{
    struct weights *w;
    struct memplan plan, wider;
    ck_assert(!weights_open(GOLDEN "tiny-bert-texts", NULL, &w, &e));
    struct model_conf c = {
        .config = *weights_config(w), .t = DTYPE_F32, .encodes = true, .kv_capacity = 8};
    ck_assert_msg(!memplan_model(&c, w, &plan, &e), "%s", e.text);
    ck_assert(plan.weights > 0 && plan.scratch > 0 && plan.logits > 0 && plan.cache == 0);
    c.config.context = c.kv_capacity = 4 * ENCODER_ROWS;
    c.config.positions = POSITIONS_ROTARY;
    c.config.rope_theta = 10000;
    ck_assert_msg(!memplan_model(&c, NULL, &wider, &e), "%s", e.text);
    ck_assert_int_gt(wider.scratch, 3 * plan.scratch);
    weights_close(w);
}
END_TEST

UNIT_MAIN_WITHIN("encoder", 90, labels_equal_transformers, a_gpu_finds_the_same,
    means_are_those_of_training, first_and_last_are_rows_of_the_mean, company_changes_no_bit,
    labels_at_the_last_token, what_cannot_be_read_is_refused, memory_is_planned)
