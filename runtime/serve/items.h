/*
 * items: one request to a model that reads whole texts, from the text that the agent sent to the
 * elements of the answer's list: which texts are read, in which order, and what is said of each.
 * What is asked for is one of
 *
 *     {"read": "embed", "input": [text | ids ...], "dimensions", "base64": bool, "truncate"}
 *     {"read": "classify", "input": [text | ids ...], "truncate"}
 *     {"read": "compare", "first": [text ...], "second": [text ...], "truncate"}
 *     {"read": "rank", "first": [text], "second": [text ...], "top", "documents": bool, "truncate"}
 *
 * or what recommend.h says, where ids are a list of token ids, `first` one text or as many as
 * `second`, and `truncate` the tokens that are kept of a text, -1: as many as the model reads;
 * absent: a longer one is refused. Two texts are compared by a classifier of pairs, of one label or
 * two, or by the cosine of their embeddings. Elements have the form of the API (docs/openai.md),
 * with a comma before all but the first. Knows no queue and no device.
 */
#ifndef RUNTIME_SERVE_ITEMS_H
#define RUNTIME_SERVE_ITEMS_H

#include "base/buf.h"
#include "base/json.h"
#include "runtime/serve/reader.h"
#include "runtime/serve/recommend.h"

enum items_kind { ITEMS_EMBED, ITEMS_CLASSIFY, ITEMS_COMPARE, ITEMS_RANK, ITEMS_RECOMMEND };

struct items_asked {
    const struct reader *reader;
    struct json *body;
    enum items_kind kind;
    bool paired;                       /* two texts are read as one */
    bool single;                       /* all are compared with the one first text */
    int64_t count;                     /* elements */
    int64_t texts;                     /* that are read in all */
    int64_t next, taken;               /* of these: read next, and told of next */
    const struct json *first, *second; /* that are read next */
    const struct json *told;           /* what is told of next was read from */
    int64_t tokens;                    /* of all that were read */
    size_t said;                       /* bytes so far */
    int64_t most;                      /* kept of each; 0: all */
    int64_t dimensions;
    float *kept;   /* (dim) of the first text */
    float *scores; /* (count) of a ranking */
    struct recommend_asked recommends;
};

/* text: the request's; rec: what is recommended from, or NULL. ERR_USER or ERR_DATA: its own fault;
   items_done is needed then, too. */
int items_open(struct items_asked *t, const struct reader *r, struct recommend *rec,
    const char *text, size_t len, struct err *e);
void items_done(struct items_asked *t);
/* Appends the next text's tokens, while t->next < t->texts. The message of a refusal names which
   it is. */
int items_read(struct items_asked *t, struct tok_ids *ids, struct tok_ids *types, struct err *e);
/* What was found of the text that is told of next, an embedding or logits, of so many rows: adds
   what can be said now to out. */
int items_tell(
    struct items_asked *t, const float *found, int64_t rows, struct buf *out, struct err *e);
/* Of a request that has no texts, once: all that is said. */
int items_tell_at_once(struct items_asked *t, struct buf *out, struct err *e);
/* All is said. */
static inline bool items_over(const struct items_asked *t)
{
    return t->taken == t->texts;
}

#endif
