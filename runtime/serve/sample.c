/*
 * sample: draws from softmax(logits / temperature) cut to its nucleus. The nucleus is found by
 * sorting only the candidates that can be in it: a token below (1 - top_p) / vocab of probability
 * never is.
 */
#include "runtime/serve/sample.h"

#include "base/mem.h"
#include "base/random.h"

#include <math.h>

struct candidate {
    float p;
    int32_t id;
};

struct sampler {
    int64_t vocab;
    float temperature, top_p; /* as the device takes them */
    uint64_t state;
    struct candidate *candidates;
};

int sampler_create(int64_t vocab, struct sampler **out, struct err *e)
{
    struct sampler *s = mem_zalloc(sizeof *s);

    if (s)
        s->candidates = mem_array((size_t)vocab, sizeof *s->candidates);
    if (!s || !s->candidates) {
        sampler_destroy(s);
        return err_set(e, ERR_MEMORY, "no memory for a sampler");
    }
    s->vocab = vocab;
    s->top_p = 1;
    *out = s;
    return 0;
}

void sampler_destroy(struct sampler *s)
{
    if (!s)
        return;
    mem_free(s->candidates);
    mem_free(s);
}

void sampler_start(struct sampler *s, double temperature, double top_p, uint64_t seed)
{
    s->temperature = (float)temperature;
    s->top_p = (float)top_p;
    s->state = seed;
}

struct sample_draw sampler_draw(struct sampler *s)
{
    return (struct sample_draw){
        s->temperature, s->top_p, (float)(random_next(&s->state) >> 40) * 0x1p-24f};
}

static int32_t greatest(const float *logits, int64_t n)
{
    int32_t best = 0;

    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = (int32_t)i;
    return best;
}

static int by_probability(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return x->id - y->id;
}

int32_t sampler_next(struct sampler *s, const float *logits)
{
    const struct sample_draw draw = sampler_draw(s);
    int32_t best = greatest(logits, s->vocab);
    double top_p = (double)draw.top_p, sum = 0, kept = 0, at, floor_p;
    int64_t n = 0, end = 0;

    if (draw.temperature <= 0)
        return best;
    for (int64_t i = 0; i < s->vocab; i++) {
        double p = exp(((double)logits[i] - (double)logits[best]) / (double)draw.temperature);

        s->candidates[i] = (struct candidate){(float)p, (int32_t)i};
        sum += p;
    }
    floor_p = top_p < 1 ? (1 - top_p) / (double)s->vocab * sum : 0;
    for (int64_t i = 0; i < s->vocab; i++)
        if ((double)s->candidates[i].p >= floor_p)
            s->candidates[n++] = s->candidates[i];
    if (top_p < 1)
        qsort(s->candidates, (size_t)n, sizeof *s->candidates, by_probability);
    while (end < n && kept < top_p * sum)
        kept += (double)s->candidates[end++].p;
    at = (double)draw.u * kept;
    for (int64_t i = 0; i < end; i++) {
        at -= (double)s->candidates[i].p;
        if (at < 0)
            return s->candidates[i].id;
    }
    return end ? s->candidates[end - 1].id : best; /* none: a logit is not a number */
}
