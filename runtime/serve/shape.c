/*
 * shape: the logits are copied, go through the stages in their order, and are drawn from by the
 * processor's operation, whatever device the model is on.
 */
#include "runtime/serve/shape.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "runtime/serve/top.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct shaper {
    struct dev *dev, *own; /* own: NULL, or dev */
    int64_t vocab;
    float *logits;   /* (V) */
    int32_t *counts; /* (V) zero between draws */
    int32_t *top;    /* (V) */
};

/* -- what is asked -- */

static bool is_within(double x, double min, double max)
{
    return x >= min && x <= max; /* no NaN */
}

static int read_biases(const struct json *biases, int64_t vocab, struct shape *s, struct err *e)
{
    json_each (bias, biases) {
        char *end;
        long long id = strtoll(json_key(bias), &end, 10);
        if (*end || end == json_key(bias) || id < 0 || id >= vocab)
            return err_set(e, ERR_USER,
                "logit_bias: \"%.20s\" is no token: the model has 0 to %lld", json_key(bias),
                (long long)vocab - 1);
        if (s->biases == LIMIT_BIASES || !is_within(json_number_value(bias), -100, 100))
            return err_set(e, ERR_USER, "logit_bias must be at most %d numbers from -100 to 100",
                LIMIT_BIASES);
        s->biased[s->biases] = (int32_t)id;
        s->bias[s->biases++] = (float)json_number_value(bias);
    }
    return 0;
}

int shape_read(const struct json *body, int64_t vocab, struct shape *out, struct err *e)
{
    double min_p = json_num(body, "min_p", 0), presence = json_num(body, "presence_penalty", 0),
           frequency = json_num(body, "frequency_penalty", 0),
           repetition = json_num(body, "repetition_penalty", 1);
    struct shape s = {.top_k = json_int(body, "top_k", 0),
        .min_p = (float)min_p,
        .presence = (float)presence,
        .frequency = (float)frequency,
        .repetition = (float)repetition,
        .min_tokens = json_int(body, "min_tokens", 0)};
    if (s.top_k < -1 || s.min_tokens < 0 || !is_within(min_p, 0, 1) ||
        !is_within(presence, -2, 2) || !is_within(frequency, -2, 2) ||
        !is_within(repetition, 0.01, 100))
        return err_set(e, ERR_USER,
            "top_k must be at least -1, min_tokens 0, min_p in [0, 1], presence_penalty and "
            "frequency_penalty in [-2, 2], repetition_penalty in [0.01, 100]");
    int rc = read_biases(json_get(body, "logit_bias"), vocab, &s, e);
    if (rc)
        return rc;
    if (s.top_k < 0 || s.top_k >= vocab)
        s.top_k = 0;
    s.plain = !s.top_k && !s.min_tokens && !s.biases && s.min_p <= 0 && presence == 0 &&
        frequency == 0 && repetition == 1;
    *out = s;
    return 0;
}

/* -- stages -- */

struct shape_stage {
    struct shaper *s;
    const struct shape *how;
    const struct sample_draw *draw;
    const int32_t *ids; /* (count) */
    int64_t prompt, count;
    float *logits; /* (V) */
};

static void forbid_other_texts(const struct shape_stage *g)
{
    if (g->how->constrain)
        constrain_logits(g->how->constrain, g->how->end, g->how->ends, g->logits, g->s->vocab);
}

static void forbid_ends(const struct shape_stage *g)
{
    if (g->count - g->prompt >= g->how->min_tokens)
        return;
    for (int i = 0; i < g->how->ends; i++)
        g->logits[g->how->end[i]] = -INFINITY;
}

static void add_biases(const struct shape_stage *g)
{
    for (int i = 0; i < g->how->biases; i++)
        g->logits[g->how->biased[i]] += g->how->bias[i];
}

/* Each token once, whatever its place. */
static void penalise_repeated(const struct shape_stage *g)
{
    int32_t *seen = g->s->counts;
    if (g->how->repetition == 1)
        return;
    for (int64_t i = 0; i < g->count; i++) {
        float *x = &g->logits[g->ids[i]];
        if (!seen[g->ids[i]]++)
            *x = *x > 0 ? *x / g->how->repetition : *x * g->how->repetition;
    }
    for (int64_t i = 0; i < g->count; i++)
        seen[g->ids[i]] = 0;
}

static void penalise_generated(const struct shape_stage *g)
{
    int32_t *counts = g->s->counts;
    if (g->how->presence == 0 && g->how->frequency == 0)
        return;
    for (int64_t i = g->prompt; i < g->count; i++)
        counts[g->ids[i]]++;
    for (int64_t i = g->prompt; i < g->count; i++) {
        int32_t *n = &counts[g->ids[i]];
        if (*n)
            g->logits[g->ids[i]] -= g->how->frequency * (float)*n + g->how->presence;
        *n = 0;
    }
}

static void keep_likely(const struct shape_stage *g)
{
    int64_t v = g->s->vocab;
    int32_t last;
    if (g->draw->temperature <= 0 || g->how->min_p <= 0)
        return;
    top_of(g->logits, v, 1, &last);
    float least = g->logits[last] + g->draw->temperature * logf(g->how->min_p);
    for (int64_t j = 0; j < v; j++)
        if (g->logits[j] < least)
            g->logits[j] = -INFINITY;
}

static void keep_first(const struct shape_stage *g)
{
    int64_t v = g->s->vocab, k = g->how->top_k;
    if (g->draw->temperature <= 0 || !k)
        return;
    top_of(g->logits, v, k, g->s->top);
    int32_t last = g->s->top[k - 1];
    float least = g->logits[last];
    for (int64_t j = 0; j < v; j++)
        if (g->logits[j] < least || (g->logits[j] == least && j > last))
            g->logits[j] = -INFINITY;
}

static void (*const stages[])(const struct shape_stage *g) = {forbid_other_texts, forbid_ends,
    add_biases, penalise_repeated, penalise_generated, keep_likely, keep_first};

/* -- where it is done -- */

int shaper_create(struct dev *dev, int64_t vocab, struct shaper **out, struct err *e)
{
    struct shaper *s = mem_zalloc(sizeof *s);
    struct dev_info info;
    size_t v = (size_t)vocab;
    int rc = 0;
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a sampler");
    *s = (struct shaper){.dev = dev, .vocab = vocab};
    s->logits = mem_array(v, sizeof *s->logits);
    s->counts = mem_array(v, sizeof *s->counts);
    s->top = mem_array(v, sizeof *s->top);
    if (!s->logits || !s->counts || !s->top)
        rc = err_set(e, ERR_MEMORY, "no memory for logits of %lld tokens", (long long)vocab);
    dev_describe(dev, &info);
    if (!rc && !info.host_readable && !(rc = dev_open("cpu", 0, 0, &s->own, e)))
        s->dev = s->own;
    if (rc) {
        shaper_destroy(s);
        return rc;
    }
    *out = s;
    return 0;
}

void shaper_destroy(struct shaper *s)
{
    if (!s)
        return;
    dev_close(s->own);
    mem_free(s->logits);
    mem_free(s->counts);
    mem_free(s->top);
    mem_free(s);
}

int shaper_draw(struct shaper *s, const struct shape *how, const struct sample_draw *draw,
    const int32_t *ids, int64_t prompt, int64_t count, const float *logits, int32_t *token,
    struct err *e)
{
    const struct shape_stage g = {s, how, draw, ids, prompt, count, s->logits};
    int32_t drawn;
    memcpy(s->logits, logits, (size_t)s->vocab * sizeof *logits);
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        stages[i](&g);
    OP(s, sample, .n = 1, .v = s->vocab, .logits = s->logits, .temperature = &draw->temperature,
        .top_p = &draw->top_p, .u = &draw->u, .token = &drawn);
    int rc = dev_sync(s->dev, e);
    if (!rc)
        *token = drawn;
    return rc;
}
