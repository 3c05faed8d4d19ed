/*
 * preference: numbers of the host, in double: two a pair.
 */
#include "runtime/train/preference.h"

#include <math.h>

/* log(1 + exp(-z)), whatever z */
static double minus_log_sigmoid(double z)
{
    return z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z;
}

static double sigmoid(double z)
{
    return z > 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

/* Returns the loss; slopes: by r of either answer. */
static double loss_of(const struct preference *c, const struct preference_pair *p,
    const double r[2], double slopes[2])
{
    double e = c->label_smoothing, z = c->beta * (r[0] - r[1]);
    if (c->loss == DPO_IPO) {
        double n[2] = {(double)p->tokens[0], (double)p->tokens[1]};
        double far = r[0] / n[0] - r[1] / n[1] - 1 / (2 * c->beta);
        slopes[0] = 2 * far / n[0];
        slopes[1] = -2 * far / n[1];
        return far * far;
    }
    slopes[0] = c->beta * (e * sigmoid(z) - (1 - e) * sigmoid(-z));
    slopes[1] = -slopes[0];
    return (1 - e) * minus_log_sigmoid(z) + e * minus_log_sigmoid(-z);
}

void preference_add(const struct preference *c, const struct preference_pair *p,
    double sums[PREFERENCE_SUMS], double slopes[2])
{
    double r[2], by_r[2];
    for (int i = 0; i < 2; i++)
        r[i] = p->log_p[i] - p->reference[i];
    sums[PREFERENCE_LOSS] += loss_of(c, p, r, by_r);
    sums[PREFERENCE_CHOSEN] += c->beta * r[0];
    sums[PREFERENCE_REJECTED] += c->beta * r[1];
    sums[PREFERENCE_ACCURACY] += r[0] > r[1];
    sums[PREFERENCE_MARGIN] += c->beta * (r[0] - r[1]);
    sums[PREFERENCE_LOGP_CHOSEN] += p->log_p[0];
    sums[PREFERENCE_LOGP_REJECTED] += p->log_p[1];
    for (int i = 0; i < 2; i++)
        slopes[i] = -by_r[i];
}

static int64_t count_targets(const int32_t *targets, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += targets[i] >= 0;
    return count;
}

static void add_pair(const struct preference *c, const struct preference_batch *b,
    const struct pass_input *in, int64_t i, float scale, double sums[PREFERENCE_SUMS])
{
    struct preference_pair p;
    double slopes[2];
    for (int64_t k = 0, row = 2 * i; k < 2; k++, row++) {
        p.log_p[k] = b->log_p[row];
        p.reference[k] = b->reference[row];
        p.tokens[k] = count_targets(in->targets + row * b->tokens, b->tokens);
    }
    preference_add(c, &p, sums, slopes);
    for (int64_t k = 0; k < 2; k++)
        b->scales[2 * i + k] = (float)(slopes[k] * (double)scale);
}

int preference_step(struct pass *p, const struct preference *c, const struct preference_batch *b,
    const struct pass_input *in, float scale, bool backward, double sums[PREFERENCE_SUMS],
    struct err *e)
{
    int rc = pass_forward(p, 2 * b->pairs, in, b->drops, b->log_p, e);
    if (rc)
        return rc;
    for (int64_t i = 0; i < 2 * b->pairs; i++)
        b->log_p[i] = -b->log_p[i];
    for (int64_t i = 0; b->reference && i < b->pairs; i++)
        add_pair(c, b, in, i, scale, sums);
    if (backward)
        pass_backward(p, b->scales);
    return 0;
}
