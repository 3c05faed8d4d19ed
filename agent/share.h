/*
 * share: what each API key has of a served model: places of the queue, places at the rank, tokens.
 * It decides who is admitted, whose turn at the rank is next, who makes room in a full queue, and
 * when it is worth to ask again. Pure: it knows no request, and is told the time.
 *
 * A key's turn comes by deficit round robin in tokens (base/fair.h): what a request is thought to
 * cost is spent when it is handed over, and made good when the rank has told what it cost. Among
 * the requests of keys with credit, and then of those without, the lowest priority goes first, then
 * who came first. When the queue is full, a key that has less than its share of it by weight gets a
 * place all the same: the newest that waits of the key that has most beyond its own gives up its.
 * A key with none at the rank, or none as urgent, has a few places there beyond the others', where
 * the scheduler decides between them (runtime/serve/sched.h).
 */
#ifndef AGENT_SHARE_H
#define AGENT_SHARE_H

#include "base/fair.h"
#include "api/limits.h"

#include <stddef.h>
#include <stdint.h>

#define SHARE_AT_RANK (LIMIT_SEQUENCES + LIMIT_RANK_REQUESTS)
#define SHARE_ENDS    32 /* of which the rate is measured */

struct share_conf {
    int most;            /* answers in flight */
    size_t most_bytes;   /* of their bodies */
    int64_t most_tokens; /* that they are thought to take; 0: any */
    int at_rank;         /* of these, handed to the rank: so many of any key, */
    int at_rank_more;    /* and so many beside them */
};

struct share_cost { /* of a request of a key */
    int key, answers;
    size_t bytes;
    int64_t tokens;
};

struct key_shares { /* changed by share.c alone */
    struct share_conf conf;
    struct fair turns;
    int weight[LIMIT_API_KEYS], in_flight[LIMIT_API_KEYS];
    double usual[LIMIT_API_KEYS]; /* tokens of an answer, of late */
    int answers;
    size_t bytes;
    int64_t tokens;
    struct share_handed {
        uint64_t id;
        int key, priority;
        int64_t tokens; /* spent */
    } handed[SHARE_AT_RANK];
    int handed_count;
    int64_t end_ms[SHARE_ENDS], began_ms;
    int ends;
};

void share_init(struct key_shares *s, const struct share_conf *c);
void share_weigh(struct key_shares *s, int key, int weight);

/* -- the queue -- */

/* Tokens of an answer of the key, as it is thought to be, at most `most`. */
int64_t share_usual(const struct key_shares *s, int key, int64_t most);
bool share_admits(const struct key_shares *s, const struct share_cost *c);
void share_enter(struct key_shares *s, const struct share_cost *c, int64_t now_ms);
void share_leave(struct key_shares *s, const struct share_cost *c);
/* Of which key one should give up its place for c, if any of its waits; -1: of none. */
int share_beyond(const struct key_shares *s, const struct share_cost *c);
/* After how many seconds half of what is in flight has ended at the rate of late; 1 to 60. */
int share_retry_seconds(const struct key_shares *s, int64_t now_ms);

/* -- the rank -- */

/* wants (LIMIT_API_KEYS): the keys of which some wait. Before whose turn it is is asked. */
void share_round(struct key_shares *s, const bool *wants);
/* Is it x's turn rather than y's, who came later? */
bool share_is_first(
    const struct key_shares *s, int key, int priority, int later_key, int later_priority);
bool share_has_place(const struct key_shares *s, int key, int priority);
void share_hand(struct key_shares *s, uint64_t id, int key, int priority, int64_t tokens);
/* The rank has ended it: what it computed of its prompt, and what it answered. An id that it was
   never handed is nobody's. */
void share_end(
    struct key_shares *s, uint64_t id, int64_t prompt, int64_t answer, bool whole, int64_t now_ms);
void share_lost(struct key_shares *s); /* with all that it was handed */

#endif
