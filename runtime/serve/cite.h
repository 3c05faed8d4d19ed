/*
 * cite: a chat that is answered out of documents: what the user's last message finds stands before
 * it, under numbers, and what the answer has word for word from there is cited. The prompt is
 *
 *     Documents:
 *
 *     [1] FILE: TITLE
 *     TEXT
 *
 *     [2] ...
 *
 *     Answer from these documents, in their words. If they do not say it, answer: NOT FOUND
 *
 *     Question: MESSAGE
 *
 * in place of that message, so that what stands before it stays in the cache. A citation is a quote
 * (runtime/retrieval/quote.h): none that is not in its chunk. Also the body of a search.
 */
#ifndef RUNTIME_SERVE_CITE_H
#define RUNTIME_SERVE_CITE_H

#include "base/buf.h"
#include "base/json.h"
#include "runtime/serve/retrieve.h"

struct cite; /* of one request; has copies of what was found */

/* messages: of a chat. *out NULL: the last one is no question, for it is not the user's. ERR_USER:
   it cannot be looked for. */
int cite_open(struct retrieve *r, const struct jobspec_retrieval *spec, const struct json *messages,
    struct cite **out, struct err *e);
void cite_close(struct cite *c);
int cite_passages(const struct cite *c);   /* that have to do with it; 0: there is no answer */
double cite_seconds(const struct cite *c); /* that the search took */
/* The messages with the first n passages, n >= 1, before the question. */
int cite_messages(
    const struct cite *c, const struct json *messages, int n, struct json **out, struct err *e);

/* How much of a text is cited. */
int cite_quotes(const struct cite *c, const char *text, size_t len);
/* More of the answer. */
void cite_hear(struct cite *c, const char *text, size_t len);
/* A JSON array of what it cites so far, of OpenAI's form; how many there are. -1: no memory. */
int cite_tell(const struct cite *c, struct buf *out);

/* search: {query, most, threshold, words, vectors}; the body of a page of results. *seconds: it
   took. */
int cite_search(
    struct retrieve *r, const struct json *search, struct buf *out, double *seconds, struct err *e);

#endif
