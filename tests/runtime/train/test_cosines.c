/*
 * Goal: what is lost on pairs, and its gradient by every weight of a model, is torch's, through
 * in-batch negatives and through cosines, in one micro-batch or several, on the processor and on
 * the simulated GPU. Method: golden files of a tiny BERT (tests/golden/README.md); finite
 * differences of the losses alone, for other sizes and with texts that stand twice.
 * needs: cuda
 */
#include "runtime/train/cosines.h"

#include "base/mem.h"
#include "runtime/family/family.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/pass.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define TEXTS 8
#define PAIRS (TEXTS / 2)
#define T     16
#define DIM   32

static struct err e;
static struct dev *d;
static struct weights *w;
static struct model *m;
static struct pass *pass;

static void open_on(const char *kind, int micro, enum dtype t)
{
    ck_assert_msg(!dev_open(kind, 0, 2, &d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(GOLDEN "tiny-bert", NULL, &w, &e), "%s", e.text);
    struct model_conf c = {.config = *weights_config(w),
        .t = t,
        .train = true,
        .headless = true,
        .micro_sequences = micro,
        .sequence_length = T};
    c.config.labels = 0;
    c.config.pooled = false;
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

static double distance(const float *a, const float *b, int64_t n, int64_t step)
{
    double apart = 0, norm = 0;
    for (int64_t i = 0; i < n; i += step) {
        apart += pow((double)a[i] - (double)b[i / step], 2);
        norm += pow((double)b[i / step], 2);
    }
    return sqrt(apart / norm);
}

static const float *golden_part(const struct safetensors *s, const char *prefix, const char *name)
{
    char full[192];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct safetensors_tensor *t = safetensors_find(s, full);
    ck_assert_msg(t != NULL, "%s", full);
    return (const float *)t->data;
}

/* Under the names of transformers' BertModel. Of a key's bias the gradient is only rounding. */
static void check_gradient(const struct safetensors *golden, const char *prefix, int64_t step)
{
    const struct tensors *all = model_trained(m);
    int compared = 0;
    for (int i = 0; i < all->count; i++) {
        const struct tensor *p = &all->at[i];
        struct family_place place;
        mem_autofree float *g = mem_array((size_t)p->count, 4);
        dev_download(d, g, pass_gradient(pass) + p->offset, (size_t)p->count * 4);
        ck_assert(!dev_sync(d, &e));
        family_place(weights_config(w), all, p, FAMILY_HF, &place);
        if (p->role == TENSOR_K && p->part == TENSOR_BIAS)
            continue;
        double far =
            distance(g, golden_part(golden, prefix, place.name + place.optional), p->count, step);
        ck_assert_msg(far < 1e-4, "%s%s: %.3g", prefix, p->name, far);
        compared++;
    }
    ck_assert_int_gt(compared, 30);
}

struct golden {
    struct json *step;
    struct safetensors *file;
    int32_t *inputs, *lengths;
    float labels[PAIRS];
};

static struct golden golden_open(void)
{
    struct golden g = {.step = golden_json(GOLDEN "tiny_pairs_step.json")};
    int64_t n, b, k = 0;
    g.inputs = golden_ids(json_get(g.step, "inputs"), &n);
    g.lengths = golden_ids(json_get(g.step, "lengths"), &b);
    ck_assert(b == TEXTS && n == TEXTS * T);
    json_each (v, json_get(g.step, "labels"))
        g.labels[k++] = (float)json_number_value(v);
    ck_assert_int_eq(k, PAIRS);
    ck_assert_msg(
        !safetensors_open(GOLDEN "tiny_pairs_step.safetensors", &g.file, &e), "%s", e.text);
    return g;
}

static void golden_close(struct golden *g)
{
    json_destroy(g->step);
    mem_free(g->inputs);
    mem_free(g->lengths);
    safetensors_close(g->file);
}

static void embed(const struct golden *g, int64_t micro, float *out, float *lengths)
{
    for (int64_t i = 0; i < TEXTS; i += micro) {
        const struct pass_input in = {.ids = g->inputs + i * T, .lengths = g->lengths + i};
        ck_assert_msg(!pass_means(pass, micro, &in, true, out + i * DIM, &e), "%s", e.text);
        for (int64_t j = i; j < i + micro; j++)
            lengths[j] = cosines_normalize(out + j * DIM, DIM);
    }
}

static struct cosines golden_pairs(const struct golden *g, const float *e_, bool labelled)
{
    return (struct cosines){.n = PAIRS,
        .c = DIM,
        .e = e_,
        .labels = labelled ? g->labels : NULL,
        .temperature = (float)json_num(g->step, "temperature", 0)};
}

/* The mean loss, by micro-batches of so many; gradients are the pass's. */
static double step_of(const struct golden *g, bool labelled, int64_t micro)
{
    float em[TEXTS * DIM], de[TEXTS * DIM], lengths[TEXTS], products[PAIRS * PAIRS], losses[PAIRS];
    float rows[TEXTS] = {0};
    double sum;
    embed(g, micro, em, lengths);
    const struct cosines p = golden_pairs(g, em, labelled);
    cosines_loss(&p, products, losses);
    cosines_back(&p, products, 0, TEXTS, de);
    pass_zero_gradient(pass);
    for (int64_t i = 0; i < TEXTS; i += micro) {
        const struct pass_input in = {.ids = g->inputs + i * T, .lengths = g->lengths + i};
        for (int64_t j = i; j < i + micro; j++) {
            cosines_normalize_back(em + j * DIM, lengths[j], de + j * DIM, DIM);
            rows[j] = j % 2 ? 0 : losses[j / 2];
        }
        if (micro < TEXTS)
            ck_assert(!pass_means(pass, micro, &in, true, NULL, &e));
        pass_means_back(pass, micro, &in, de + i * DIM, rows + i);
    }
    ck_assert_msg(!pass_loss(pass, &sum, &e), "%s", e.text);
    return sum / PAIRS;
}

static void check_step(const char *kind, bool labelled, int64_t micro)
{
    struct golden g = golden_open();
    float em[TEXTS * DIM], lengths[TEXTS];
    const char *loss = labelled ? "Cosine" : "InBatchNegatives";
    open_on(kind, (int)micro, DTYPE_F32);
    embed(&g, micro, em, lengths);
    ck_assert_double_lt(distance(em, golden_part(g.file, "", "embeddings"), TEXTS * DIM, 1), 1e-5);
    double far = fabs(step_of(&g, labelled, micro) - json_num(g.step, loss, NAN));
    printf("%s, %s, micro-batches of %d: loss %.2g away\n", kind, loss, (int)micro, far);
    ck_assert_double_lt(far, 1e-5);
    check_gradient(g.file, labelled ? "cosine." : "", labelled ? 4 : 1);
    close_all();
    golden_close(&g);
}

START_TEST(in_batch_negatives_are_torchs)
{
    check_step("cpu", false, TEXTS);
    check_step("cpu", false, 2);
    check_step("cuda", false, 4);
}
END_TEST

START_TEST(cosines_are_torchs)
{
    check_step("cpu", true, TEXTS);
    check_step("cpu", true, 1);
}
END_TEST

START_TEST(bf16_is_near)
{
    struct golden g = golden_open();
    open_on("cpu", TEXTS, DTYPE_BF16);
    double loss = step_of(&g, false, TEXTS), want = json_num(g.step, "InBatchNegatives", NAN);
    ck_assert_double_lt(fabs(loss / want - 1), 0.05);
    close_all();
    golden_close(&g);
}
END_TEST

/* -- the losses alone -- */

static double mean_loss(const struct cosines *p)
{
    float products[64], losses[8];
    double sum = 0;
    cosines_loss(p, products, losses);
    for (int64_t i = 0; i < p->n; i++)
        sum += (double)losses[i];
    return sum / (double)p->n;
}

/* rows: some texts stand twice; theirs is the sum of what both lose. */
static void check_differences(const float *labels, const int32_t *rows)
{
    enum { N = 5, C = 11 };
    float em[2 * N * C], products[N * N], losses[N], de[2 * N * C];
    for (int i = 0; i < 2 * N * C; i++)
        em[i] = sinf((float)(i * i + 1)) / 3;
    const struct cosines p = {
        .n = N, .c = C, .e = em, .rows = rows, .labels = labels, .temperature = 0.5f};
    cosines_loss(&p, products, losses);
    cosines_back(&p, products, 0, 4, de); /* by ranges */
    cosines_back(&p, products, 4, 2 * N - 4, de + 4 * C);
    for (int i = 0; i < 2 * N * C; i += 3) {
        double want = 0, h = 1e-2;
        float was = em[i];
        for (int k = 0; k < 2 * N; k++)
            if ((rows ? rows[k] : k) == i / C)
                want += (double)de[k * C + i % C];
        em[i] = was + (float)h;
        double more = mean_loss(&p);
        em[i] = was - (float)h;
        double less = mean_loss(&p);
        em[i] = was;
        ck_assert_double_eq_tol((more - less) / (2 * h), want, 2e-3);
    }
}

START_TEST(gradients_are_differences)
{
    static const int32_t rows[] = {0, 1, 2, 3, 0, 5, 6, 1, 8, 1};
    static const float labels[] = {0, 1, 0.5f, 0.25f, 1};
    check_differences(NULL, NULL);
    check_differences(NULL, rows);
    check_differences(labels, NULL);
    check_differences(labels, rows);
}
END_TEST

START_TEST(what_has_no_length_learns_nothing)
{
    float x[3] = {0, 0, 0}, dx[3] = {1, 2, 3};
    float length = cosines_normalize(x, 3);
    ck_assert(length == 0 && x[0] == 0);
    cosines_normalize_back(x, length, dx, 3);
    ck_assert(dx[0] == 0 && dx[1] == 0 && dx[2] == 0);
    float y[3] = {2, 0, 0}, dy[3] = {7, 3, 0};
    length = cosines_normalize(y, 3);
    cosines_normalize_back(y, length, dy, 3);
    ck_assert(length == 2 && y[0] == 1 && dy[0] == 0 && dy[1] == 1.5f);
    ck_assert(cosines_products(3, false) == 9 && cosines_products(3, true) == 3);
}
END_TEST

UNIT_MAIN("cosines", in_batch_negatives_are_torchs, cosines_are_torchs, bf16_is_near,
    gradients_are_differences, what_has_no_length_learns_nothing)
