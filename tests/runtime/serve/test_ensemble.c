/*
 * Goal: models that answer as one say what the mean of them is, by logits and by probabilities,
 * whatever their files, precisions and adapters are; what does not fit is refused with the figures.
 * Method: the models of ensembles.h, each served alone by an engine here, over random parts of
 * several sequences; averages are made here from their definitions. That tokens are the same alone
 * and in any batch is shown in test_batcher.c.
 */
#include "runtime/serve/ensemble.h"

#include "base/mem.h"
#include "base/random.h"
#include "runtime/convert/adapters.h"
#include "runtime/model/beside.h"
#include "runtime/model/kvcache.h"
#include "tests/far.h"
#include "tests/runtime/ensembles.h"
#include "tests/runtime/golden.h"
#include "tests/sample.h"
#include "tests/unit.h"

#include <math.h>

#define V         256
#define SEQUENCES 5
#define TOKENS    40
#define BUDGET    ((int64_t)1 << 30)

static char folder[64];
static struct err e;
static struct dev *d;

static void setup(void)
{
    golden_folder(folder);
    ensembles_write(folder);
    ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
}

static void teardown(void)
{
    dev_close(d);
    golden_remove(folder);
}

struct opened {
    struct weights *w;
    struct tok *tok;
    struct ensemble *ensemble;
};

static int open_ensemble(const struct jobspec *s, struct opened *o)
{
    ck_assert_msg(!weights_open(s->model.source, NULL, &o->w, &e), "%s", e.text);
    ck_assert_msg(!tok_open(o->w, &o->tok, &e), "%s", e.text);
    const struct ensemble_conf c = {
        .spec = s, .weights = o->w, .tok = o->tok, .dev = d, .parts = SEQUENCES};
    o->ensemble = NULL;
    return ensemble_open(&c, &o->ensemble, &e);
}

static void close_ensemble(struct opened *o)
{
    ensemble_destroy(o->ensemble);
    tok_close(o->tok);
    weights_close(o->w);
}

/* -- each by itself -- */

struct alone {
    struct weights *w;
    struct beside *beside;
    struct model *m;
    struct engine *engine;
};

static struct alone alone_open(const struct jobspec *s, int i, int64_t pages)
{
    static struct jobspec_serve serve;
    struct model_conf c = {.t = DTYPE_F32, .kv_pages = pages};
    const struct jobspec_member *is = &s->serve.ensemble.members[i];
    struct alone a = {.beside = NULL};
    ck_assert_msg(!weights_open(ensembles_source(s, i), NULL, &a.w, &e), "%s", e.text);
    c.config = *weights_config(a.w);
    ck_assert(!engine_context(&c.config, s->serve.context_length, &c.kv_capacity, &e));
    serve.adapters = &(struct jobspec_served_adapter){is->name, is->adapter};
    serve.adapter_count = 1;
    if (is->adapter)
        ck_assert_msg(!adapters_describe(&serve, &c.config, &a.beside, &e) &&
                !adapters_load(&serve, &c.config, a.w, d, a.beside, NULL, &(uint64_t){0}, &e),
            "%s", e.text);
    c.beside = a.beside;
    ck_assert_msg(!model_create(d, &c, &a.m, &e) && !model_load(a.m, a.w, &e) &&
            !engine_create(a.m, &a.engine, &e),
        "%s", e.text);
    return a;
}

static void alone_close(struct alone *a)
{
    engine_destroy(a->engine);
    model_destroy(a->m);
    beside_destroy(a->beside);
    weights_close(a->w);
}

/* -- what they say -- */

static int32_t ids[SEQUENCES][TOKENS], pages[SEQUENCES][8];
static float logits[SEQUENCES][V], each[ENSEMBLES_MEMBERS][SEQUENCES][V];

/* Some of the next tokens of each sequence; done: how many it has. */
static int make_parts(struct engine_part *parts, int64_t *done, uint64_t *random)
{
    int n = 0;
    for (int i = 0; i < SEQUENCES; i++) {
        int64_t count = (int64_t)(random_next(random) % 9);
        if (!count || done[i] + count > TOKENS)
            continue;
        parts[n++] = (struct engine_part){.ids = ids[i] + done[i],
            .count = count,
            .past = done[i],
            .pages = pages[i],
            .logits = logits[i]};
        done[i] += count;
    }
    return n;
}

static double mean_at(const float *const *x, int64_t i, enum average what)
{
    double sum = 0;
    for (int k = 0; k < ENSEMBLES_MEMBERS; k++) {
        double all = 0;
        for (int64_t j = 0; j < V; j++)
            all += exp((double)x[k][j]);
        sum += what == AVERAGE_LOGITS ? (double)x[k][i] : exp((double)x[k][i]) / all;
    }
    return what == AVERAGE_LOGITS ? sum / ENSEMBLES_MEMBERS : log(sum / ENSEMBLES_MEMBERS);
}

/* Of a part's last row; *apart: how far its members are from each other. */
static double compare(
    const struct engine_part *p, const float *const *x, enum average what, double *apart)
{
    double far = 0;
    int32_t best = 0;
    for (int32_t i = 0; i < V; i++) {
        far = farther(far, fabs((double)p->logits[i] - mean_at(x, i, what)));
        *apart = farther(*apart, fabs((double)x[1][i] - (double)x[0][i]));
        best = p->logits[i] > p->logits[best] ? i : best;
    }
    ck_assert(!p->draw || p->next == best);
    return far;
}

/* _i: of what. Every other part is drawn from, greedily. */
START_TEST(it_says_the_mean_of_what_each_says)
{
    static const struct sample_draw greedy = {.top_p = 1};
    struct jobspec s = ensembles_job(folder, (enum average)_i);
    uint64_t random = random_mix(sample_setting("LLMJOB_SEED"));
    struct alone alone[ENSEMBLES_MEMBERS];
    int64_t done[SEQUENCES] = {0}, all = SEQUENCES * 3;
    struct engine_part parts[SEQUENCES];
    double far = 0, apart = 0;
    struct opened o;
    sample_print();
    s.serve.context_length = TOKENS;
    ck_assert_msg(!open_ensemble(&s, &o), "%s", e.text);
    ck_assert_msg(!ensemble_load(o.ensemble, all, &e), "%s", e.text);
    for (int k = 0; k < ENSEMBLES_MEMBERS; k++)
        alone[k] = alone_open(&s, k, all);
    for (int i = 0; i < SEQUENCES; i++) {
        for (int k = 0; k < 3; k++) /* in no order */
            pages[i][k] = (int32_t)((i * 3 + k) * 7 % all);
        for (int k = 0; k < TOKENS; k++)
            ids[i][k] = (int32_t)(random_next(&random) % V);
    }
    for (int pass = 0; pass < 8; pass++) {
        int n = make_parts(parts, done, &random);
        for (int k = 0; n && k < ENSEMBLES_MEMBERS; k++) {
            struct engine_part own[SEQUENCES];
            for (int i = 0; i < n; i++) {
                own[i] = parts[i];
                own[i].adapter = alone[k].beside ? 1 : 0;
                own[i].logits = each[k][i];
            }
            ck_assert_msg(!engine_run(alone[k].engine, own, n, &e), "%s", e.text);
        }
        for (int i = 0; i < n; i += 2)
            parts[i].draw = &greedy;
        ck_assert_msg(!n || !ensemble_run(o.ensemble, parts, n, &e), "%s", e.text);
        for (int i = 0; i < n; i++) {
            const float *x[ENSEMBLES_MEMBERS];
            for (int k = 0; k < ENSEMBLES_MEMBERS; k++)
                x[k] = each[k][i];
            far = farther(far, compare(&parts[i], x, s.serve.ensemble.average, &apart));
        }
    }
    printf("at most %.2g from the mean; members %.2g from each other\n", far, apart);
    ck_assert_double_le(far, 1e-5);
    ck_assert_double_gt(apart, 1e-4);
    for (int k = 0; k < ENSEMBLES_MEMBERS; k++)
        alone_close(&alone[k]);
    close_ensemble(&o);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    struct jobspec s = ensembles_job(folder, AVERAGE_LOGITS);
    struct ensemble_facts f, loaded;
    struct opened o;
    ck_assert_msg(!open_ensemble(&s, &o), "%s", e.text);
    ensemble_tell(o.ensemble, &f);
    ck_assert(f.count == ENSEMBLES_MEMBERS && f.of == ENSEMBLES_MEMBERS && !f.parameters);
    ck_assert_int_eq(f.logit_bytes, ENSEMBLES_MEMBERS * SEQUENCES * V * 4);
    ck_assert(f.bytes > f.logit_bytes && f.page_bytes > 0 && f.context > 0);
    ck_assert_int_eq(ensemble_require(o.ensemble, f.bytes, &e), 0);
    ck_assert_int_eq(ensemble_require(o.ensemble, f.bytes - 1, &e), -ERR_MEMORY);
    ck_assert_msg(strstr(e.text, "the members need ") && strstr(e.text, "tuned"), "%s", e.text);
    ck_assert_msg(!ensemble_load(o.ensemble, kvcache_pages(f.context), &e), "%s", e.text);
    ensemble_tell(o.ensemble, &loaded);
    ck_assert(loaded.bytes == f.bytes && loaded.parameters > 0);
    close_ensemble(&o);
    s.serve.context_length = 1000000;
    ck_assert_int_eq(open_ensemble(&s, &o), -ERR_USER);
    ck_assert_msg(strstr(e.text, "members: small: spec.serve.contextLength"), "%s", e.text);
    close_ensemble(&o);
    s.serve.context_length = 0;
    s.serve.ensemble.members[3].adapter = folder; /* where none is */
    ck_assert_int_ne(open_ensemble(&s, &o), 0);
    ck_assert_msg(strstr(e.text, "spec.serve.ensemble.members: tuned: "), "%s", e.text);
    close_ensemble(&o);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ensemble");
    TCase *tc = tcase_create("ensemble");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, it_says_the_mean_of_what_each_says, 0, 2);
    tcase_add_test(tc, what_does_not_fit_is_refused);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
