/*
 * turn: one request in a serving rank, from the text that the agent sent to its last word: what it
 * asks for becomes tokens, and its tokens become text again. Decides when an answer ends (end of
 * turn, stop string, length) and what text may go out: only whole UTF-8 characters, and never a
 * part of a stop string. Knows no engine.
 */
#ifndef RUNTIME_SERVE_TURN_H
#define RUNTIME_SERVE_TURN_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "api/jobspec.h"
#include "api/limits.h"
#include "runtime/door/door.h"
#include "runtime/family/weights.h"
#include "runtime/serve/batcher.h"
#include "runtime/serve/cite.h"
#include "runtime/serve/inbox.h"
#include "runtime/serve/shape.h"
#include "runtime/text/chat.h"
#include "runtime/text/tok.h"

struct turn_conf { /* what all share; borrowed but for the scratch */
    struct door *door;
    const struct weights *weights;
    struct tok *tok;
    struct chat *chat; /* NULL: no_chat says why */
    const struct err *no_chat;
    int64_t context, vocab;
    const struct jobspec_serve *serve; /* its adapters, and what of documents */
    struct retrieve *retrieve;         /* has them; NULL: there are none */
    struct loras *loras;               /* knows adapters; NULL: all that serve names are there */
    struct vocab *texts;               /* of the tokens; NULL: no answer was constrained yet */
    struct buf text, frame;            /* scratch */
};

struct turn {
    struct inbox_request *q; /* borrowed */
    struct json *body;       /* its text, decoded */
    struct tok_ids prompt;
    int adapter; /* from 1 on, in the order of the spec, or of loras; 0: the model alone */
    struct sampler draws;
    struct batcher_terms terms;
    struct shape shape;
    struct constrain *constrain;      /* what the answer may be; NULL: anything */
    char param[SCHEMA_PATH];          /* where in the request a refusal is from; "": nowhere */
    struct err fault;                 /* of an answer that ends as an error */
    int status;                       /* HTTP's, of that; 0: the request is at fault */
    bool ignores_ends, shows_special; /* tokens that end a turn go on; special ones are text */
    bool echoes;                      /* the prompt goes out before its answer; false: it has */
    int logprobs;                     /* the likeliest of each token that are told; -1: nothing */
    const char *stop[LIMIT_STOP_STRINGS];
    int stops;
    int64_t max_tokens, produced;
    int64_t cached;         /* tokens of the prompt that need not be computed */
    int64_t guessed, right; /* tokens of the answer, ahead; of these, that came true */
    struct buf pending;     /* text that is not out yet */
    const char *reason;     /* it ended; NULL: it goes on */
    const char *found;      /* of stop: the text that ended it; NULL: none */
    struct cite *cite;      /* what it is answered from; NULL: no documents */
    double searched;        /* seconds that a search took; 0: there was none */
};

void turn_init(struct turn *t, struct inbox_request *q);
void turn_done(struct turn *t);
/* What is asked. ERR_USER or ERR_DATA: the request's own fault. What is only to be rendered is
   sent, and the turn has ended: t->reason. */
int turn_read(struct turn_conf *s, struct turn *t, struct err *e);
/* What the model gave after token `at` of the prompt, of a request that wants logprobs of it. */
int turn_score(struct turn_conf *s, struct turn *t, int64_t at, const float *logits, struct err *e);
/* Frees what was made of turns' requests for all. */
void turn_conf_done(struct turn_conf *s);
/* The token that follows, drawn from logits (V), NULL where no logprobs are told; sends these and
   what text may go out, all of it when that is the last. */
int turn_take(struct turn_conf *s, struct turn *t, int32_t id, const float *logits, struct err *e);
/* How many of the tokens ids (n), guessed to be next, may come true with another behind them: up to
   max_tokens, an end of the turn, or what its format is known not to allow. */
int turn_may_follow(struct turn_conf *s, const struct turn *t, const int32_t *ids, int n);
/* Tells the agent that the turn is over, and why. */
int turn_finish(struct turn_conf *s, const struct turn *t, const char *reason, const char *message,
    struct err *e);

#endif
