/*
 * stores: the documents of a served model (spec.serve.retrieval) as OpenAI's API has them: one
 * vector store, of the id vs_documents, that can be looked at and searched; what it holds is the
 * folder's affair, so nothing is put into it here. Pure, but for the metrics.
 */
#ifndef AGENT_STORES_H
#define AGENT_STORES_H

#include "agent/openai.h"
#include "base/buf.h"
#include "base/json.h"
#include "api/wire.h"

#include <stdbool.h>
#include <stdint.h>

#define STORES_PATH "/v1/vector_stores"
#define STORES_ID   "vs_documents"

struct stores { /* what the rank said last; zero: there are no documents */
    bool there;
    int64_t files, passed_over, bytes;
    int64_t created, changed; /* seconds since 1970 */
};

/* WIRE_INDEXED; what is no such frame changes nothing. */
void stores_hear(struct stores *s, const struct wire_frame *frame);
/* A request to search becomes the rank's; -1 and *r when it is refused. */
int stores_copy_search(const struct json *v, struct jsonw *w, struct openai_refusal *r);
/* All stores, or that of an id; -1 and *r: there is none of it. */
int stores_write(struct buf *out, const struct stores *s, const char *model, const char *id,
    struct openai_refusal *r);

#endif
