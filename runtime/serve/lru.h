/*
 * lru: which adapters are in memory when not all of them may be: what is loaded next, and what is
 * dropped for it, from a snapshot: a pure function, without clock or memory.
 *
 * Of those that requests wait for the one comes first whose oldest request is the oldest. Where it
 * does not fit, the one that was used least recently goes, never one that a sequence has. Where all
 * that could go are in use, those that were used least recently begin no more sequences until it
 * fits: so whoever waits gets its turn, however many ask for the others. What is loaded stays until
 * those have had it that waited then: they are users, so each load serves somebody.
 */
#ifndef RUNTIME_SERVE_LRU_H
#define RUNTIME_SERVE_LRU_H

#include <stdbool.h>
#include <stdint.h>

struct lru_item {
    int64_t bytes; /* that it takes; 0: nobody has looked yet */
    bool there;    /* in memory */
    int users;     /* sequences that have it, and requests that it was loaded for */
    int64_t used;  /* when one last began: the greater, the later */
    int64_t waits; /* the number of the oldest request that waits for it, from 1 on; 0: none does */
};

struct lru_view {
    const struct lru_item *item; /* (count) */
    int count;
    int64_t limit_bytes; /* of all that are there */
};

enum lru_change {
    LRU_NONE,
    LRU_LOOK, /* at what it takes */
    LRU_LOAD, /* there is room */
    LRU_DROP
};

struct lru_step {
    enum lru_change change;
    int which;
};

/* What is to be done next; what is there takes no more than the limit. What is known to take more
   than that is loaded never: nobody waits for it (the caller's to see to). */
struct lru_step lru_next(const struct lru_view *v);
/* May a sequence with this one begin? It is there, and does not make room. */
bool lru_may_begin(const struct lru_view *v, int which);
/* Bytes of those that are there. */
int64_t lru_taken(const struct lru_view *v);

#endif
