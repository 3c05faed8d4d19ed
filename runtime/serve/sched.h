/*
 * sched: what the next step of a serving rank is, from a snapshot of its sequences, pages and
 * limits: a pure function, without clock or memory. A step either changes who runs, and then the
 * scheduler is asked again, or says how many rows of each sequence run.
 *
 * Decoding comes first: every sequence that only lacks its next token gets a row. What else fits a
 * step goes to prompts, the oldest first; the caller bounds it by time (sched_chunk), so that a
 * long prompt never stalls the others. Who comes first runs first: a sequence begins when all pages
 * that its tokens take are left, and none that came after it begins before. When pages run out, the
 * one that came last gives its pages up and is computed again later: the oldest always goes on.
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
};

struct sched_view {
    const struct sched_seq *seq; /* (count), the oldest first */
    int count;
    int64_t pages_left;
    int64_t page_tokens;
    int most_running; /* at least 1, at most rows */
    int64_t rows;     /* of a step, at most */
    int64_t chunk;    /* of these, of prompts, at most */
    bool may_begin;   /* false: one was stopped for this step */
};

enum sched_change { SCHED_NONE, SCHED_BEGIN, SCHED_STOP };

struct sched_step {
    enum sched_change change; /* of one sequence; then there are no rows */
    int which;
    int64_t rows; /* in all */
};

/* rows (count): of each sequence, its next tokens without keys. Neither a change nor rows: nothing
   runs, nor waits that could. There are pages for any one sequence alone (the caller sees to it).
 */
struct sched_step sched_next(const struct sched_view *v, int64_t *rows);

/* Rows of prompts in a step of target_ms, which takes busy_ms without any: those that fit what is
   left, or as long again as it takes, so that prompts go on where decoding alone takes all; at
   rows_per_ms, in whole multiples of `step`, and one at least. */
int64_t sched_chunk(double target_ms, double busy_ms, double rows_per_ms, int64_t step);

#endif
