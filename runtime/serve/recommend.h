/*
 * recommend: which items of a catalogue lie near to those that somebody had. What is asked for is
 *
 *     {"read": "recommend", "history": [id | {"text": text} ...], "query": text, "top",
 *      "exclude": bool, "weights": {part: number}}
 *
 * The vector of a history is the sum of its items' and texts' unit vectors, of which one that came
 * h (halfLife) others before the newest counts half; a query counts as one that is the newest. An
 * item's score is the sum of its parts, each times its weight:
 *
 *     text      the cosine of its text with that vector; 0 where there is none
 *     Value     catalogue_value; LogValue likewise
 *     Near      1 - |its value - the mean of the history's items, which count as above|
 *     Shared    the mean over its texts of the part of the history's items that have each
 *
 * and what an item or all of a history lacks is 0. Of equal scores the one that comes first in the
 * file is first. Of one thread.
 */
#ifndef RUNTIME_SERVE_RECOMMEND_H
#define RUNTIME_SERVE_RECOMMEND_H

#include "base/buf.h"
#include "base/json.h"
#include "api/jobspec.h"
#include "runtime/serve/reader.h"

struct recommend;

/* Reads the catalogue and embeds its texts, of which what the model does not read is left out.
   serve, reader: borrowed; budget_bytes: for the vectors. ERR_DATA and ERR_USER name the file and
   what of it. */
int recommend_open(const struct jobspec_serve *serve, struct reader *reader, int64_t budget_bytes,
    struct recommend **out, struct err *e);
void recommend_close(struct recommend *r);
/* Items that the encoder has read: not those whose embeddings were kept (kept.h). */
int64_t recommend_embedded(const struct recommend *r);

struct recommend_asked { /* zeroes: nothing is asked */
    struct recommend *of;
    const struct json *history, *query;
    int64_t top;
    bool exclude;
    double weights[1 + LIMIT_FEATURES]; /* of the text, then of the features */
    int count;                          /* of the history */
    int64_t *items;                     /* (count) -1: a text */
    int texts, taken;                   /* that are read, the query last; of which are told */
    double *vector;                     /* (dim) their sum */
    int64_t told;                       /* items in the answer */
};

/* body: borrowed. ERR_USER: the request's own fault; recommend_done is needed then, too. */
int recommend_ask(
    struct recommend *r, const struct json *body, struct recommend_asked *out, struct err *e);
void recommend_done(struct recommend_asked *a);
/* The text that is read as number k, of a->texts. */
const struct json *recommend_text(const struct recommend_asked *a, int64_t k);
/* found (dim) of the text that is told of next. */
void recommend_take(struct recommend_asked *a, const float *found);
/* All texts were taken: the answer's elements. */
int recommend_tell(struct recommend_asked *a, struct buf *out, struct err *e);

#endif
