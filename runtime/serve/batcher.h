/*
 * batcher: many sequences over one engine, step by step: what sched decides is done here. A step
 * runs rows of several sequences in one pass and gives the tokens that were drawn. Which sequences
 * run together, in which chunks, from how warm a cache and how often one was stopped changes no
 * token, where a row does not depend on the others (runtime/model/engine.h). Nor does guessing
 * ahead (guess.h): guesses are rows behind the token that they follow, each is drawn from as it
 * would be without them, and counts as long as the tokens before it were guessed right.
 *
 * Decides nothing about when a sequence ends: who added it removes it. One thread.
 */
#ifndef RUNTIME_SERVE_BATCHER_H
#define RUNTIME_SERVE_BATCHER_H

#include "base/err.h"
#include "runtime/model/engine.h"
#include "runtime/serve/guess.h"
#include "runtime/serve/sample.h"

struct batcher;
struct batcher_seq;
struct draft;
struct ensemble;
struct team;

struct batcher_conf {
    struct engine *engine;     /* borrowed; nobody else runs it meanwhile; NULL: */
    struct ensemble *ensemble; /* likewise: several models as one */
    struct team *team;         /* borrowed; is told of each pass before it runs; or NULL */
    struct dev *dev;           /* its; borrowed */
    int64_t vocab;             /* of its model */
    int64_t context;           /* tokens of a sequence, at most */
    int64_t pages;             /* of the engine's cache; at least those of a context */
    int most;                  /* sequences that run at once; 1 to ENGINE_ROWS */
    int waiting;               /* beside as many, that wait or give way to each other */
    int64_t rows;              /* of a step, at most ENGINE_ROWS */
    double target_ms; /* of a step in which others wait for their next token; 0: unbounded */
    /* Logits (V), valid during the call, that follow token `at` of the prompt of a sequence whose
       sampler scores: each once, in order, but for the last one's. May be NULL when none does. */
    int (*score_fn)(void *user, int64_t at, const float *logits, struct err *e);

    int guesses; /* tokens that are guessed of a sequence in a step; 0: none */
    int few;     /* rows of a step that cost hardly more than one (guess.h); 0: it is not so */
    guess_follow_fn *may_follow_fn; /* NULL: all may */
    struct draft
        *draft;         /* borrowed, with `pages`: guesses; NULL: by what stands before (ngram.h) */
    double draft_share; /* of the time, that a draft may lose (thrift.h); 0: no account is kept */
    int64_t (*clock_fn)(void); /* ns; NULL: clock_ns */
};

struct batcher_terms { /* for whom a sequence runs */
    uint64_t salt;     /* what is computed is found by sequences with the same */
    int key, weight;   /* whose tokens count together (base/fair.h); and its weight */
    int priority;      /* the lower goes first */
    int adapter;       /* engine_part's */
};

struct batcher_drawn { /* of a step */
    struct batcher_seq *seq;
    int32_t id;
    const float *logits; /* (V) as the model gave them, until the next call; NULL: not told */
};

/* Parts of a pass (engine_part) with so many sequences, at most: one of each, or a row each of
   prompts that are scored and of guesses, if there are any. */
int64_t batcher_parts(int most, bool guesses);
int batcher_create(const struct batcher_conf *c, struct batcher **out, struct err *e);
void batcher_destroy(struct batcher *b);
/* A sequence that begins with ids (count), at least one, fewer than a context; ids are the model's
   (checked by the caller), and so is the adapter (engine_part). There must be a place:
   batcher_count below `most` and `waiting` together. What draws borrows lives until the sequence is
   removed. */
int batcher_add(struct batcher *b, const int32_t *ids, int64_t count, const struct sampler *draws,
    const struct batcher_terms *terms, void *user, struct batcher_seq **out, struct err *e);
/* Any time between steps; its pages stay findable. */
void batcher_remove(struct batcher *b, struct batcher_seq *q);
int batcher_count(const struct batcher *b);
/* Does some sequence only lack its next token? */
bool batcher_decodes(const struct batcher *b);
void *batcher_user(const struct batcher_seq *q);
/* Tokens that it began with whose keys were found when it first ran. */
int64_t batcher_cached(const struct batcher_seq *q);
/* Since it was added: tokens that were guessed, and of these, that came true. */
int64_t batcher_guessed(const struct batcher_seq *q, int64_t *right);
/* One pass; drawn (most): the next tokens of those that have them, *n of them. A sequence whose
   context is full is drawn no more: the caller removes it before. */
int batcher_step(struct batcher *b, struct batcher_drawn *drawn, int *n, struct err *e);
/* Behind it and itself, until *n is 0: the tokens after those, of sequences of which these were
   guessed. They are drawn now: sequences may be removed, and what shapes the logits may follow what
   was drawn, in between. */
int batcher_next(struct batcher *b, struct batcher_drawn *drawn, int *n, struct err *e);

/* Since create. */
struct batcher_figures {
    int64_t steps, stopped;      /* passes; sequences that gave up their pages; */
    int64_t gave_way;            /* of these, to one whose turn it was */
    int64_t prompt_rows, cached; /* tokens computed without a draw; found */
    int64_t pages, pages_left;   /* of the cache, and that no sequence has now */
    int64_t guessed, right;      /* tokens; of these, that came true */
    bool draft_loses;            /* time, of late: it is only tried now and then */
};
void batcher_tell(const struct batcher *b, struct batcher_figures *out);

#endif
