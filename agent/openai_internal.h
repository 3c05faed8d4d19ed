/*
 * openai_internal: what the readers of a request share (openai.c, openai_draw.c,
 * openai_tools.c, openai_terms.c, openai_items.c, anthropic.c, responses.c).
 */
#ifndef AGENT_OPENAI_INTERNAL_H
#define AGENT_OPENAI_INTERNAL_H

#include "agent/openai.h"
#include "base/json.h"

#define EXACT 9007199254740991.0 /* the greatest whole number that JSON carries safely */

#define REFUSE(r, param, ...) openai_refuse(r, 400, NULL, param, __VA_ARGS__)

/* NULL for what is absent or null: the two are one. */
const struct json *openai_given(const struct json *v, const char *key);
int openai_no_memory(struct openai_refusal *r); /* 503 */
/* v as it is, into what w has open; what has no memory fails where w ends, too. */
int openai_copy_json(
    struct jsonw *w, const char *key, const struct json *v, struct openai_refusal *r);
/* Each member of an object against the table. prefix: "" or the path of the object with its dot. */
int openai_check_fields(const struct json *object, enum openai_place place, const char *prefix,
    struct openai_refusal *r);

/* How an answer is drawn and what it may be. answer: which of those to one prompt. */
int openai_copy_drawn(const struct openai_conf *conf, const struct json *v, bool chat, int answer,
    struct jsonw *w, struct openai_request *out, struct openai_refusal *r);
/* The tools that the model may call, and whether it must, if there are any. */
int openai_copy_tools(const struct openai_conf *conf, const struct json *v, struct jsonw *w,
    struct openai_request *out, struct openai_refusal *r);
/* For whom the rank serves it, and before which others. */
int openai_copy_terms(const struct openai_conf *conf, const struct json *v, struct jsonw *w,
    struct openai_request *out, struct openai_refusal *r);
/* What a message has of calls, of a role that is known. */
int openai_copy_calls(const struct json *message, const char *role, const char *prefix,
    struct jsonw *w, struct openai_refusal *r);

#endif
