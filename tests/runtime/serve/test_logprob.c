/*
 * Goal: logprobs are those of softmax of the logits as they are. Method: rows of an engine's own
 * logits and hard ones (large, with -infinity) against log-softmax in long double; the likeliest
 * against sorting; probabilities of all tokens sum up to 1.
 */
#include "runtime/serve/logprob.h"

#include "api/limits.h"
#include "base/random.h"
#include "runtime/model/engine.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define MOST 4096

static struct err e;

static void same(const float *x, int64_t v, const char *what)
{
    struct logprob got[1 + LIMIT_LOGPROBS];
    int top = v < LIMIT_LOGPROBS ? (int)v : LIMIT_LOGPROBS;
    long double most = x[0], sum = 0, all = 0;
    for (int64_t i = 1; i < v; i++)
        most = fmaxl(most, x[i]);
    for (int64_t i = 0; i < v; i++)
        sum += expl(x[i] - most);
    for (int32_t id = 0; id < v; id++) {
        double want = (double)(x[id] - most - logl(sum));
        logprob_of(x, v, id, id % 7 ? 0 : top, got);
        ck_assert_int_eq(got->token, id);
        ck_assert_msg(isinf(want) ? isinf(got->logprob)
                                  : fabs((double)got->logprob - want) <= 2e-6 * (1 + fabs(want)),
            "%s: token %d: %g, should be %g", what, id, (double)got->logprob, want);
        all += expl(got->logprob);
    }
    ck_assert_msg(fabsl(all - 1) < 1e-5L, "%s: the sum is %Lg", what, all);
    logprob_of(x, v, 0, top, got);
    for (int i = 1; i <= top; i++) {
        int64_t before = 0;
        for (int32_t j = 0; j < v; j++)
            before += x[j] > x[got[i].token] || (x[j] == x[got[i].token] && j < got[i].token);
        ck_assert_int_eq(before, i - 1);
    }
}

START_TEST(of_an_engine)
{
    static const int32_t ids[] = {3, 1, 4, 1, 5, 9, 2, 6};
    static float logits[8 * MOST];
    struct model_conf c = {.t = DTYPE_F32, .kv_capacity = 8};
    struct dev *d;
    struct weights *w;
    struct model *m;
    struct engine *g;
    ck_assert(!dev_open("cpu", 0, 1, &d, &e) && !weights_open(GOLDEN "tiny-qwen2", NULL, &w, &e));
    c.config = *weights_config(w);
    ck_assert(c.config.vocab <= MOST && !model_create(d, &c, &m, &e) && !model_load(m, w, &e) &&
        !engine_create(m, &g, &e) && !engine_extend(g, ids, 8, 0, true, logits, &e));
    for (int i = 0; i < 8; i++)
        same(logits + i * c.config.vocab, c.config.vocab, "an engine's");
    engine_destroy(g);
    model_destroy(m);
    weights_close(w);
    dev_close(d);
}
END_TEST

START_TEST(hard_rows)
{
    static const float far[] = {-1e4f, 3e4f, 29990, -INFINITY, 2.5f};
    static const float even[] = {7, 7, 7};
    float many[1000];
    uint64_t random = 1;
    for (int i = 0; i < 1000; i++)
        many[i] = (float)(random_next(&random) % 4000) / 100 - 20;
    same(far, 5, "far");
    same(even, 3, "even");
    same(many, 1000, "many");
    same(even, 1, "one");
}
END_TEST

UNIT_MAIN("logprob", of_an_engine, hard_rows)
