/*
 * sched: what the next step of a serving rank is, from a snapshot of its sequences, pages and
 * limits: a pure function, without clock or memory. A step either changes who runs, and then the
 * scheduler is asked again, or says how many rows of each sequence run.
 *
 * Decoding comes first: every sequence that only lacks its next token gets a row. What else fits a
 * step goes to prompts; the caller bounds it by time (sched_chunk), so that a long prompt never
 * stalls the others. There is one order, for beginning, for prompts and, from its end, for giving
 * way: who has credit (whose API key has not had its share of tokens, base/fair.h) before who has
 * none, then the lower priority, then of two keys the one with fewer before it for its weight, then
 * who came first. So who has one in flight waits neither for the places nor for the prompts of one
 * who has many, though neither has had its share yet. A sequence begins when all pages that its
 * tokens take are left, and none behind it begins before. Where it lacks them, or a place, one that
 * is behind it for more than its age gives way. When pages run out, the last in order gives its
 * pages up. Who stops is computed again later. The oldest that runs always goes on, and nobody
 * gives way before it has drawn a token: so all end, whatever the order becomes.
 */
#ifndef RUNTIME_SERVE_SCHED_H
#define RUNTIME_SERVE_SCHED_H

#include <stdbool.h>
#include <stdint.h>

struct sched_seq {  /* a sequence, waiting or running */
    int64_t tokens; /* that are known: its prompt, and what was drawn */
    int64_t done;   /* of these, how many have keys in its pages */
    int64_t pages;  /* it has; 0: it waits */
    bool running;
    bool drew; /* a token, since it began */
    bool credit;
    int priority; /* the lower goes first */
    int key, weight;
    int before; /* of its key: sched_count's */
};

struct sched_view {
    const struct sched_seq *seq; /* (count), the oldest first */
    int count;
    int64_t pages_left;
    int64_t page_tokens;
    int most_running; /* at least 1, at most rows; there may be more sequences */
    int64_t rows;     /* of a step, at most */
    int64_t chunk;    /* of these, of prompts, at most */
    bool may_begin;   /* false: one was stopped for this step */
};

enum sched_change {
    SCHED_NONE,
    SCHED_BEGIN,
    SCHED_STOP,    /* pages ran out: nobody begins in this step */
    SCHED_GIVE_WAY /* to one that begins */
};

struct sched_step {
    enum sched_change change; /* of one sequence; then there are no rows */
    int which;
    int64_t rows; /* in all */
};

/* Of each, how many of its key go before it, of all that wait or run. */
void sched_count(struct sched_seq *seq, int count);
/* rows (count): of each sequence, its next tokens without keys. Neither a change nor rows: nothing
   runs, nor waits that could. There are pages for any one sequence alone (the caller sees to it).
 */
struct sched_step sched_next(const struct sched_view *v, int64_t *rows);

/* Rows of prompts in a step of target_ms, which takes busy_ms without any: those that fit what is
   left, or as long again as it takes, so that prompts go on where decoding alone takes all; at
   rows_per_ms, in whole multiples of `step`, and one at least. */
int64_t sched_chunk(double target_ms, double busy_ms, double rows_per_ms, int64_t step);

#endif
