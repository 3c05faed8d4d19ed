/*
 * Goal: losses and gradients of pairs are those of their definition, and trainings that TRL's.
 * Method: slopes by differences of the loss; what one pair adds to the sums; fifty steps beside
 * TRL's DPOTrainer on the tiny Llama, whole and with adapters, by both losses, with all of its
 * metrics; the gradient of the parameters along itself by differences of the loss, with the rows of
 * a head's chunk across pairs and not, and whatever the micro-batch. That adapters and whole
 * trainings begin as their own reference is in the first loss: log 2.
 */
#include "runtime/train/preference.h"

#include "runtime/files/safetensors.h"
#include "runtime/train/optim.h"
#include "tests/far.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

#define ROWS   4 /* two pairs */
#define TOKENS 24
#define PAIRS  (ROWS / 2)

static struct err e;

/* -- one pair -- */

static const struct preference kinds[] = {
    {0.1, 0, DPO_SIGMOID}, {0.5, 0.2, DPO_SIGMOID}, {0.1, 0, DPO_IPO}};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static double loss_of(const struct preference *c, const struct preference_pair *p)
{
    double sums[PREFERENCE_SUMS] = {0}, slopes[2];
    preference_add(c, p, sums, slopes);
    return sums[PREFERENCE_LOSS];
}

START_TEST(slopes_are_the_losses)
{
    const struct preference_pair p = {{-20, -31}, {-22.5, -29}, {5, 9}};
    for (int k = 0; k < KINDS; k++) {
        double sums[PREFERENCE_SUMS] = {0}, slopes[2], h = 1e-4;
        preference_add(&kinds[k], &p, sums, slopes);
        for (int i = 0; i < 2; i++) {
            struct preference_pair up = p, down = p;
            up.log_p[i] -= h; /* slopes are by -log_p */
            down.log_p[i] += h;
            double want = (loss_of(&kinds[k], &up) - loss_of(&kinds[k], &down)) / (2 * h);
            ck_assert_double_eq_tol(slopes[i], want, 1e-7 * fabs(want) + 1e-9);
        }
        if (!kinds[k].label_smoothing) /* -log p of the better one is to fall */
            ck_assert(slopes[0] > 0 && slopes[1] < 0);
    }
}
END_TEST

START_TEST(sums_are_by_definition)
{
    const struct preference_pair better = {{-20, -31}, {-22.5, -29}, {5, 9}};
    const struct preference_pair worse = {{-3, -1}, {-2, -2}, {1, 1}};
    double sums[PREFERENCE_SUMS] = {0}, slopes[2];
    preference_add(&kinds[0], &better, sums, slopes);
    ck_assert_double_eq_tol(sums[PREFERENCE_LOSS], log1p(exp(-0.45)), 1e-12);
    preference_add(&kinds[0], &worse, sums, slopes);
    ck_assert_double_eq_tol(sums[PREFERENCE_LOSS], log1p(exp(-0.45)) + log1p(exp(0.2)), 1e-12);
    ck_assert_double_eq_tol(sums[PREFERENCE_CHOSEN], 0.25 - 0.1, 1e-12);
    ck_assert_double_eq_tol(sums[PREFERENCE_REJECTED], -0.2 + 0.1, 1e-12);
    ck_assert_double_eq(sums[PREFERENCE_ACCURACY], 1);
    ck_assert_double_eq_tol(sums[PREFERENCE_MARGIN], 0.45 - 0.2, 1e-12);
    ck_assert_double_eq(sums[PREFERENCE_LOGP_CHOSEN], -23);
    ck_assert_double_eq(sums[PREFERENCE_LOGP_REJECTED], -32);
    memset(sums, 0, sizeof sums);
    preference_add(&kinds[2], &better, sums, slopes);
    ck_assert_double_eq_tol(sums[PREFERENCE_LOSS], pow(2.5 / 5 + 2.0 / 9 - 1 / 0.2, 2), 1e-12);
    const struct preference_pair far = {{-9000, -1}, {-1, -9000}, {1, 1}};
    ck_assert(isfinite(loss_of(&kinds[0], &far)) && isfinite(loss_of(&kinds[1], &far)));
}
END_TEST

/* -- a model -- */

struct rows { /* of a micro-batch */
    int32_t ids[ROWS * TOKENS], targets[ROWS * TOKENS];
    double reference[ROWS], log_p[ROWS];
    float scales[ROWS];
    struct preference_batch batch;
    struct pass_input in;
};

static void rows_init(struct rows *r, int64_t tokens)
{
    *r = (struct rows){.batch = {.pairs = PAIRS, .tokens = tokens}};
    memset(r->targets, -1, sizeof r->targets);
    r->batch.reference = r->reference;
    r->batch.log_p = r->log_p;
    r->batch.scales = r->scales;
    r->in = (struct pass_input){.ids = r->ids, .targets = r->targets};
}

static double step(struct pass *pass, const struct preference *c, struct rows *r, float scale,
    bool backward, double sums[PREFERENCE_SUMS])
{
    memset(sums, 0, PREFERENCE_SUMS * sizeof *sums);
    ck_assert_msg(
        !preference_step(pass, c, &r->batch, &r->in, scale, backward, sums, &e), "%s", e.text);
    return sums[PREFERENCE_LOSS];
}

/* What the model has now becomes the reference. */
static void refer(struct pass *pass, struct rows *r)
{
    struct preference_batch only = r->batch;
    only.reference = NULL;
    ck_assert(!preference_step(pass, NULL, &only, &r->in, 0, false, NULL, &e));
    memcpy(r->reference, r->log_p, sizeof r->reference);
}

/* -- beside TRL -- */

static int64_t add_ids(int32_t *to, const struct json *list, int64_t at)
{
    json_each (id, list)
        to[at++] = (int32_t)json_number_value(id);
    return at;
}

/* Rows of two pairs: chosen, rejected, chosen, rejected. */
static void golden_rows(struct rows *r, const struct json *const prompt[PAIRS],
    const struct json *const answer[PAIRS][2], int32_t eos)
{
    rows_init(r, TOKENS);
    for (int row = 0; row < ROWS; row++) {
        int32_t ids[TOKENS + 1];
        int64_t first = add_ids(ids, prompt[row / 2], 0);
        int64_t n = add_ids(ids, answer[row / 2][row % 2], first);
        ids[n++] = eos;
        ck_assert_int_le(n, TOKENS + 1);
        for (int64_t i = 0; i + 1 < n; i++) {
            r->ids[row * TOKENS + i] = ids[i];
            r->targets[row * TOKENS + i] = i + 1 < first ? -1 : ids[i + 1];
        }
    }
}

static void load_factors(struct dev *d, struct model *m)
{
    struct safetensors *s;
    int found = 0;
    ck_assert_msg(!safetensors_open(GOLDEN "tiny_dpo_lora.safetensors", &s, &e), "%s", e.text);
    for (int i = 0; i < model_trained(m)->count; i++) { /* what is no A stays zero */
        const struct tensor *p = &model_trained(m)->at[i];
        const struct safetensors_tensor *from = safetensors_find(s, p->name);
        if (!from)
            continue;
        ck_assert_int_eq(from->bytes, p->count * 4);
        dev_upload(d, model_master(m) + p->offset, from->data, (size_t)from->bytes);
        found++;
    }
    ck_assert_int_eq(found, safetensors_count(s));
    model_master_changed(m);
    safetensors_close(s);
}

static struct pass *golden_pass(
    struct dev *d, struct weights *w, const struct json *all, const struct json *run)
{
    static const char *const targets[] = {"q_proj", "down_proj", NULL};
    bool lora = json_bool(run, "lora", false);
    const struct model_conf conf = {.config = *weights_config(w),
        .t = DTYPE_F32,
        .train = true,
        .micro_sequences = ROWS,
        .sequence_length = TOKENS,
        .lora_rank = lora ? (int)json_int(all, "rank", 0) : 0,
        .lora_alpha = (float)json_num(all, "alpha", 0),
        .lora_targets = targets};
    struct pass *pass = tiny_pass(d, &conf);
    ck_assert_msg(!model_load(pass_model(pass), w, &e), "%s", e.text);
    if (lora)
        load_factors(d, pass_model(pass));
    return pass;
}

/* The k-th of the means that TRL logs. */
static const char *const metrics[PREFERENCE_SUMS] = {"losses", "rewards/chosen", "rewards/rejected",
    "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"};

static double compare(const struct json *const want[PREFERENCE_SUMS], const double *sums)
{
    double worst = 0;
    for (int k = 0; k < PREFERENCE_SUMS; k++) {
        double v = json_number_value(want[k]), far = fabs(sums[k] / PAIRS - v);
        far /= fmax(1, fabs(v));
        worst = farther(worst, far);
        ck_assert_msg(far < 1e-4, "%s: %.9g, TRL %.9g", metrics[k], sums[k] / PAIRS, v);
    }
    return worst;
}

static void follow(struct dev *d, struct weights *w, const struct json *all, const struct json *run)
{
    const struct preference c = {.beta = json_num(run, "beta", 0),
        .loss = strcmp(json_str(run, "loss", ""), "IPO") ? DPO_SIGMOID : DPO_IPO};
    const struct optim_conf oc = {.learning_rate = json_num(run, "learning_rate", 0),
        .beta1 = json_num(all, "beta1", 0),
        .beta2 = json_num(all, "beta2", 0),
        .epsilon = json_num(all, "epsilon", 0),
        .clip_norm = json_num(all, "clip_norm", 0),
        .schedule = SCHEDULE_CONSTANT};
    struct pass *pass = golden_pass(d, w, all, run), *initial = golden_pass(d, w, all, run);
    const struct json *prompt = json_first(json_get(all, "prompts")), *want[PREFERENCE_SUMS];
    const struct json *chosen = json_first(json_get(all, "chosen"));
    const struct json *rejected = json_first(json_get(all, "rejected"));
    struct optim *o;
    double worst = 0, sums[PREFERENCE_SUMS];
    ck_assert_msg(!optim_create(d, &oc, pass, &o, &e), "%s", e.text);
    for (int k = 0; k < PREFERENCE_SUMS; k++)
        want[k] = json_first(json_get(run, metrics[k]));
    int64_t steps = json_int(all, "steps", 0);
    for (int64_t s = 1; s <= steps; s++) {
        const struct json *prompts[PAIRS], *answers[PAIRS][2];
        struct rows r;
        for (int i = 0; i < PAIRS; i++) {
            prompts[i] = prompt;
            answers[i][0] = chosen;
            answers[i][1] = rejected;
            prompt = json_next(prompt);
            chosen = json_next(chosen);
            rejected = json_next(rejected);
        }
        golden_rows(&r, prompts, answers, (int32_t)json_int(all, "eos", 0));
        refer(initial, &r);
        pass_zero_gradient(pass);
        step(pass, &c, &r, 1.0f / PAIRS, true, sums);
        ck_assert_msg(!optim_step(o, s, NULL, &e), "%s", e.text);
        worst = farther(worst, compare(want, sums));
        for (int k = 0; k < PREFERENCE_SUMS; k++)
            want[k] = json_next(want[k]);
    }
    printf("  %s, %s: fifty losses and their metrics within %.1e of TRL's\n",
        json_str(run, "loss", ""), json_bool(run, "lora", false) ? "LoRA" : "Full", worst);
    optim_destroy(o);
    tiny_pass_close(pass);
    tiny_pass_close(initial);
}

START_TEST(fifty_steps_follow_trl)
{
    json_auto struct json *all = golden_json(GOLDEN "tiny_dpo.json");
    struct weights *w;
    struct dev *d;
    int runs = 0;
    ck_assert_msg(!weights_open(GOLDEN "tiny-llama", NULL, &w, &e), "%s", e.text);
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    json_each (run, json_get(all, "runs")) {
        follow(d, w, all, run);
        runs++;
    }
    ck_assert_int_eq(runs, 3);
    dev_close(d);
    weights_close(w);
}
END_TEST

/* -- gradients -- */

static struct pass *random_pass(struct dev *d, int64_t logit_rows)
{
    const struct model_conf c = {.config = tiny_config(true),
        .t = DTYPE_F32,
        .train = true,
        .micro_sequences = ROWS,
        .sequence_length = TINY_T,
        .logit_rows = logit_rows,
        .seed = 3};
    struct pass *pass = tiny_pass(d, &c);
    tiny_fill(d, pass_model(pass), 5);
    return pass;
}

static void random_rows(struct rows *r)
{
    rows_init(r, TINY_T);
    tiny_ids(r->ids, ROWS * TINY_T, 7);
    tiny_ids(r->targets, ROWS * TINY_T, 8);
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < TINY_T; i++)
            if (i < 2 || i > 10 - 2 * row)
                r->targets[row * TINY_T + i] = -1;
}

static void gradient_of(struct dev *d, struct pass *pass, float *out)
{
    dev_download(d, out, pass_gradient(pass), (size_t)model_trainable(pass_model(pass)) * 4);
    ck_assert(!dev_sync(d, &e));
}

/* The loss at w + way * u. */
static double loss_at(struct dev *d, struct pass *pass, const struct preference *c, struct rows *r,
    const float *w, const float *u, double way)
{
    double sums[PREFERENCE_SUMS];
    int64_t n = model_trainable(pass_model(pass));
    mem_autofree float *moved = mem_array((size_t)n, sizeof *moved);
    for (int64_t i = 0; i < n; i++)
        moved[i] = (float)((double)w[i] + way * (double)u[i]);
    dev_upload(d, model_master(pass_model(pass)), moved, (size_t)n * 4);
    return step(pass, c, r, 0, false, sums);
}

static void check_slope(struct dev *d, const struct preference *c, int64_t logit_rows)
{
    struct pass *pass = random_pass(d, logit_rows);
    int64_t n = model_trainable(pass_model(pass));
    mem_autofree float *w = mem_array((size_t)n, 4), *g = mem_array((size_t)n, 4);
    struct rows r;
    double sums[PREFERENCE_SUMS], length = 0, slope;
    random_rows(&r);
    refer(pass, &r);
    for (int i = 0; i < ROWS; i++) /* a reference that it is away from, pair by pair otherwise */
        r.reference[i] += i - 1.7;
    pass_zero_gradient(pass);
    step(pass, c, &r, 1, true, sums);
    gradient_of(d, pass, g);
    dev_download(d, w, model_master(pass_model(pass)), (size_t)n * 4);
    ck_assert(!dev_sync(d, &e));
    for (int64_t i = 0; i < n; i++)
        length += (double)g[i] * (double)g[i];
    double h = 2e-2 * fmax(1, sums[PREFERENCE_LOSS]) / length;
    slope = (8 * (loss_at(d, pass, c, &r, w, g, h) - loss_at(d, pass, c, &r, w, g, -h)) -
                (loss_at(d, pass, c, &r, w, g, 2 * h) - loss_at(d, pass, c, &r, w, g, -2 * h))) /
        (12 * h);
    ck_assert_msg(fabs(slope / length - 1) < 1e-4, "loss %d, %lld rows of logits: %.7g, not %.7g",
        c->loss, (long long)logit_rows, slope, length);
    tiny_pass_close(pass);
}

/* Chunks of 16 rows begin and end within sequences of 13. */
START_TEST(gradients_are_the_losses)
{
    struct dev *d;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    for (int k = 0; k < KINDS; k++) {
        check_slope(d, &kinds[k], 0);
        check_slope(d, &kinds[k], 16);
    }
    dev_close(d);
}
END_TEST

START_TEST(micro_batches_add_up)
{
    struct dev *d;
    struct rows r;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    struct pass *pass = random_pass(d, 0);
    int64_t n = model_trainable(pass_model(pass));
    mem_autofree float *whole = mem_array((size_t)n, 4), *parts = mem_array((size_t)n, 4);
    double sums[2][PREFERENCE_SUMS] = {{0}}, most = 0;
    random_rows(&r);
    refer(pass, &r);
    for (int i = 0; i < ROWS; i++)
        r.reference[i] += i - 1.7;
    pass_zero_gradient(pass);
    step(pass, &kinds[1], &r, 0.5f, true, sums[0]);
    gradient_of(d, pass, whole);
    pass_zero_gradient(pass);
    for (int i = 0; i < PAIRS; i++) {
        struct preference_batch one = r.batch;
        const struct pass_input in = {
            .ids = r.ids + 2 * i * TINY_T, .targets = r.targets + 2 * i * TINY_T};
        one.pairs = 1;
        one.reference = r.reference + 2 * i;
        ck_assert(!preference_step(pass, &kinds[1], &one, &in, 0.5f, true, sums[1], &e));
    }
    gradient_of(d, pass, parts);
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)whole[i]));
    for (int64_t i = 0; i < n; i++)
        ck_assert_double_eq_tol((double)whole[i], (double)parts[i], 1e-5 * most);
    for (int k = 0; k < PREFERENCE_SUMS; k++)
        ck_assert_double_eq_tol(sums[0][k], sums[1][k], 1e-5);
    tiny_pass_close(pass);
    dev_close(d);
}
END_TEST

UNIT_MAIN("preference", slopes_are_the_losses, sums_are_by_definition, fifty_steps_follow_trl,
    gradients_are_the_losses, micro_batches_add_up)
