/*
 * thrift: see thrift.h.
 */
#include "runtime/serve/thrift.h"

#include <assert.h>

#define FIRST_MS     40   /* of credit that is given, so that the draft is tried at once */
#define MOST_NEED_MS 1000 /* before it is tried once more */
#define MOST_MS      2000 /* of credit */
#define RUN          63   /* steps with guesses behind which one goes without */
#define TRIES        8    /* steps with the draft that say whether it loses */
#define MEMORY       0.95 /* of what steps before have won */
#define WEIGHT       0.2  /* of the newest figure in a running mean */
#define FAR          8 /* times as long as a plain step counts no step: something else did that */

void thrift_init(struct thrift *t, double share)
{
    *t = (struct thrift){.share = share, .credit_ms = FIRST_MS, .need_ms = FIRST_MS};
}

bool thrift_guesses(const struct thrift *t, int next)
{
    assert(next >= 0 && next <= THRIFT_ROWS);
    return t->share <= 0 || (!t->rests && t->run < RUN && t->plain_ms[next] > 0);
}

bool thrift_reads(const struct thrift *t, double ms)
{
    return t->share <= 0 || (!t->rests && ms <= t->credit_ms);
}

/* What a step has won, below 0 lost, against those without the draft that draw as much. */
static double gain_of(const struct thrift *t, const struct thrift_step *s)
{
    double plain = s->next ? t->plain_ms[s->next] : 0, took = s->draft_ms + s->pass_ms;
    if (s->prompts || plain <= 0)
        return (s->next ? s->right * plain / s->next : 0) - s->draft_ms;
    took = took < FAR * plain ? took : FAR * plain;
    return s->guesses ? (s->next + s->right) * plain / s->next - took : -s->draft_ms;
}

static void note_draft(struct thrift *t, double gain)
{
    t->credit_ms += gain;
    t->won_ms = MEMORY * t->won_ms + gain;
    t->tries += t->tries < TRIES;
    t->loses = t->tries == TRIES && t->won_ms < 0;
}

void thrift_note(struct thrift *t, const struct thrift_step *s)
{
    double *plain = &t->plain_ms[s->next];
    if (t->share <= 0)
        return;
    t->credit_ms += t->share * (s->draft_ms + s->pass_ms);
    if (s->guesses || s->draft_ms > 0)
        note_draft(t, gain_of(t, s));
    if (!s->guesses && !s->prompts && s->next)
        *plain = *plain > 0 ? *plain + WEIGHT * (s->pass_ms - *plain) : s->pass_ms;
    t->run = s->guesses ? t->run + 1 : s->prompts ? t->run : 0;
    if (t->credit_ms >= MOST_MS) {
        t->credit_ms = MOST_MS;
        t->need_ms = FIRST_MS;
    }
    if (!t->rests && t->credit_ms < 0) {
        t->rests = true;
        t->stops++;
        t->need_ms = 2 * t->need_ms < MOST_NEED_MS ? 2 * t->need_ms : MOST_NEED_MS;
    } else if (t->rests && t->credit_ms >= t->need_ms) {
        t->rests = false;
    }
}
