/*
 * guard: the messages of a chat as its client sent them, with every string guarded (tok_guard), so
 * that what the client wrote is text and nothing but text, wherever the model's template puts it.
 * Thread: reentrant.
 */
#ifndef RUNTIME_TEXT_GUARD_H
#define RUNTIME_TEXT_GUARD_H

#include "base/json.h"
#include "runtime/text/tok.h"

/* *out: a guarded copy of v, for the caller to destroy. */
int guard_json(const struct tok *t, const struct json *v, struct json **out, struct err *e);

#endif
