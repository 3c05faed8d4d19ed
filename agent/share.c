/*
 * share: the tokens of requests are guessed until the rank has told them, so queues are bounded by
 * guesses; turns are settled with what is true.
 */
#include "agent/share.h"

#include <assert.h>

#define QUANTUM       64  /* tokens of a key in a round, for a weight of 1 */
#define FIRST_USUAL   128 /* tokens of an answer, before any has ended */
#define USUAL_WEIGHT  0.2 /* of the newest in the running mean */
#define RETRY_SECONDS 60

void share_init(struct key_shares *s, const struct share_conf *c)
{
    assert(c->at_rank >= 1 && c->at_rank_more >= 0);
    assert(c->at_rank + c->at_rank_more <= SHARE_AT_RANK);
    *s = (struct key_shares){.conf = *c};
    fair_init(&s->turns, QUANTUM, INT32_MAX);
    for (int i = 0; i < LIMIT_API_KEYS; i++) {
        s->usual[i] = FIRST_USUAL;
        s->weight[i] = 1;
    }
}

void share_weigh(struct key_shares *s, int key, int weight)
{
    s->weight[key] = weight;
    fair_weigh(&s->turns, key, weight);
}

/* -- the queue -- */

int64_t share_usual(const struct key_shares *s, int key, int64_t most)
{
    int64_t usual = (int64_t)s->usual[key] + 1;
    return usual < most ? usual : most;
}

/* One alone is always admitted, however many tokens it is thought to take: it is the rank that
   knows. */
bool share_admits(const struct key_shares *s, const struct share_cost *c)
{
    return s->answers + c->answers <= s->conf.most && c->bytes <= s->conf.most_bytes - s->bytes &&
        (!s->conf.most_tokens || !s->answers || s->tokens + c->tokens <= s->conf.most_tokens);
}

void share_enter(struct key_shares *s, const struct share_cost *c, int64_t now_ms)
{
    if (!s->answers) {
        s->ends = 0;
        s->began_ms = now_ms;
    }
    s->in_flight[c->key] += c->answers;
    s->answers += c->answers;
    s->bytes += c->bytes;
    s->tokens += c->tokens;
}

void share_leave(struct key_shares *s, const struct share_cost *c)
{
    s->in_flight[c->key] -= c->answers;
    s->answers -= c->answers;
    s->bytes -= c->bytes;
    s->tokens -= c->tokens;
}

int share_beyond(const struct key_shares *s, const struct share_cost *c)
{
    int key = c->key;
    double weights = s->in_flight[key] ? 0 : s->weight[key], most = 0;
    int beyond = -1;
    for (int i = 0; i < LIMIT_API_KEYS; i++)
        weights += s->in_flight[i] ? s->weight[i] : 0;
    double of_one = s->conf.most / weights;
    if (s->in_flight[key] + c->answers > of_one * s->weight[key])
        return -1;
    for (int i = 0; i < LIMIT_API_KEYS; i++) {
        double more = s->in_flight[i] - of_one * s->weight[i];
        if (i == key || more <= most)
            continue;
        most = more;
        beyond = i;
    }
    return beyond;
}

int share_retry_seconds(const struct key_shares *s, int64_t now_ms)
{
    if (!s->ends)
        return 1;
    int n = s->ends <= SHARE_ENDS ? s->ends : SHARE_ENDS - 1;
    int64_t since = s->ends > SHARE_ENDS ? s->end_ms[s->ends % SHARE_ENDS] : s->began_ms;
    double seconds = (double)(now_ms - since) / n * s->answers / 2 / 1000;
    return seconds < 1 ? 1 : seconds > RETRY_SECONDS ? RETRY_SECONDS : (int)seconds + 1;
}

/* -- the rank -- */

void share_round(struct key_shares *s, const bool *wants)
{
    fair_round(&s->turns, wants);
}

bool share_is_first(
    const struct key_shares *s, int key, int priority, int later_key, int later_priority)
{
    bool has = fair_has(&s->turns, key), later_has = fair_has(&s->turns, later_key);
    return has != later_has ? has : priority <= later_priority;
}

bool share_has_place(const struct key_shares *s, int key, int priority)
{
    if (s->handed_count < s->conf.at_rank)
        return true;
    for (int i = 0; i < s->handed_count; i++)
        if (s->handed[i].key == key && s->handed[i].priority <= priority)
            return false;
    return s->handed_count < s->conf.at_rank + s->conf.at_rank_more;
}

void share_hand(struct key_shares *s, uint64_t id, int key, int priority, int64_t tokens)
{
    assert(s->handed_count < SHARE_AT_RANK);
    s->handed[s->handed_count++] = (struct share_handed){id, key, priority, tokens};
    fair_spend(&s->turns, key, tokens);
}

void share_end(
    struct key_shares *s, uint64_t id, int64_t prompt, int64_t answer, bool whole, int64_t now_ms)
{
    int i = 0;
    while (i < s->handed_count && s->handed[i].id != id)
        i++;
    if (i == s->handed_count)
        return;
    const struct share_handed h = s->handed[i];
    s->handed[i] = s->handed[--s->handed_count];
    fair_spend(&s->turns, h.key, prompt + answer - h.tokens);
    if (whole)
        s->usual[h.key] += USUAL_WEIGHT * ((double)answer - s->usual[h.key]);
    s->end_ms[s->ends++ % SHARE_ENDS] = now_ms;
}

void share_lost(struct key_shares *s)
{
    s->handed_count = 0;
}
