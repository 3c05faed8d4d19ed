/*
 * shape: what a request changes of the logits from which its token is drawn, on the host, for
 * those requests alone that ask for it. What is done, and in which order, is vLLM's (its V1
 * sampler):
 *
 *     1. what the answer's grammar does not allow (constrain.h), then no end of a turn before
 *        min_tokens
 *     2. logit_bias is added
 *     3. penalties: repetition, of the prompt's tokens and the generated ones (transformers: a
 *        logit above 0 is divided, another multiplied), then frequency * how often, and presence,
 *        of those generated (OpenAI)
 *     4. at a temperature above 0: min_p of the likeliest, then the top_k likeliest, of equals the
 *        lower id
 *
 * Then the operation `sample` draws, as for all others. A stage is a row of shape.c's table. All
 * follows from the tokens so far: a sequence that is stopped and computed again keeps no state.
 */
#ifndef RUNTIME_SERVE_SHAPE_H
#define RUNTIME_SERVE_SHAPE_H

#include "base/err.h"
#include "base/json.h"
#include "api/limits.h"
#include "runtime/model/engine.h"
#include "runtime/serve/constrain.h"

#include <stdbool.h>
#include <stdint.h>

#define SHAPE_ENDS 64 /* tokens that end a turn, at most */

struct shape {
    bool plain;                            /* nothing is changed */
    int64_t top_k;                         /* 0: all */
    float min_p;                           /* 0: all */
    float presence, frequency, repetition; /* 0, 0, 1: none */
    int64_t min_tokens;
    int32_t end[SHAPE_ENDS]; /* what ends a turn; where one of both counts */
    int ends;
    int32_t biased[LIMIT_BIASES];
    float bias[LIMIT_BIASES];
    int biases;
    struct constrain *constrain; /* borrowed; NULL: an answer may be any text */
};

/* What body (WIRE_REQUEST) asks of a model of `vocab` tokens; ends are the caller's. -ERR_USER: it
   may not. */
int shape_read(const struct json *body, int64_t vocab, struct shape *out, struct err *e);

/* Where it is done: by dev (borrowed, the model's) if the host can read its memory, else by the
   processor. */
struct shaper;
int shaper_create(struct dev *dev, int64_t vocab, struct shaper **out, struct err *e);
void shaper_destroy(struct shaper *s);
/* The token that follows ids (count), `prompt` of which are the prompt's, drawn from logits (V). */
int shaper_draw(struct shaper *s, const struct shape *how, const struct sample_draw *draw,
    const int32_t *ids, int64_t prompt, int64_t count, const float *logits, int32_t *token,
    struct err *e);

#endif
