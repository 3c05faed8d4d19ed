/*
 * reply: short answers of the API of a serving pod (agent/front, agent/monitor): a JSON body, a
 * refusal in the dialect of its path, and what a page of another origin may do.
 */
#ifndef AGENT_REPLY_H
#define AGENT_REPLY_H

#include "agent/openai.h"
#include "base/buf.h"
#include "base/web.h"

/* 503 where body has failed. */
void reply_json(struct web_exchange *x, int status, const struct buf *body);
/* 405, and which methods there are; allowed NULL: 404, there is nothing. */
void reply_no_method(struct web_exchange *x, const char *allowed);
/* With Retry-After where that is worth it; counted. */
void reply_error(struct web_exchange *x, const struct openai_refusal *r);
/* To OPTIONS. Pages of any origin may ask: what proves who asks is a key in a header, which a
 * browser adds for nobody, and never a cookie. */
void reply_preflight(struct web_exchange *x);

#endif
