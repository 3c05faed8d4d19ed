/*
 * constrain: the texts that the answer to one request may be, as its response_format says, or its
 * tool_choice, with which it is calls of tools in the form of the model's template:
 * compiled before anything is computed for it, or refused (runtime/grammar/schema.h). Tokens that
 * do not go on with such a text are never drawn; an end of the turn is where the text is whole, and
 * comes by itself where nothing may follow. What cannot be looked at in time, or in memory, ends
 * the answer as an error: it never goes on unlooked at.
 */
#ifndef RUNTIME_SERVE_CONSTRAIN_H
#define RUNTIME_SERVE_CONSTRAIN_H

#include "base/err.h"
#include "base/json.h"
#include "api/wire.h"
#include "runtime/family/weights.h"
#include "runtime/grammar/schema.h"
#include "runtime/grammar/vocab.h"
#include "runtime/text/tok.h"

#include <stdbool.h>
#include <stdint.h>

struct constrain;

/* What the tokens of a model of `count` are as text; special ones, and those that end a turn, are
   none. */
int constrain_vocab(
    const struct tok *t, const struct weights *w, int64_t count, struct vocab **out, struct err *e);
/* Does it, a WIRE_REQUEST, say what its answer may be? */
bool constrain_asked(const struct json *body);
/* *out NULL: it does not. calls: how the model calls tools. v is borrowed. -ERR_USER: it is
   refused, for what stands at param. */
int constrain_open(const struct json *body, enum wire_calls calls, const struct vocab *v,
    struct constrain **out, char param[SCHEMA_PATH], struct err *e);
void constrain_close(struct constrain *c);
/* Those of logits (v) that may not be drawn become -infinity; end (ends): tokens that end a
   turn. */
void constrain_logits(struct constrain *c, const int32_t *end, int ends, float *logits, int64_t v);
/* The answer goes on with bytes; none: its turn ends. -ERR_USER, and -ERR_MEMORY: it may not, or
   was not looked at. */
int constrain_take(struct constrain *c, const char *bytes, size_t len, struct err *e);
bool constrain_is_over(const struct constrain *c); /* nothing may follow */
/* May the answer go on with bytes? Yes, where that is not known yet: nothing is found out for it,
   so that whoever asks changes no answer. */
bool constrain_may_follow(const struct constrain *c, const char *bytes, size_t len);

#endif
