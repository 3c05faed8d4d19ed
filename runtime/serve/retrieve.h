/*
 * retrieve: a folder's documents, indexed and kept so: finds what changed (runtime/retrieval/
 * folder.h), reads, cuts and embeds it, and has the library (library.h) find it. All of it happens
 * in steps that its caller, the rank's own thread, takes between those of its answers: a chunk or a
 * few, or so many entries of a folder. When it is opened all documents are indexed; later a file is
 * found as it was until its new version is whole. What cannot be read is passed over, and named in
 * the log.
 */
#ifndef RUNTIME_SERVE_RETRIEVE_H
#define RUNTIME_SERVE_RETRIEVE_H

#include "api/jobspec.h"
#include "runtime/serve/library.h"

struct dev;
struct door;
struct retrieve;

struct retrieve_conf { /* borrowed while it is open */
    const struct jobspec_retrieval *spec;
    struct dev *dev;
    enum precision precision; /* of the encoder's large products */
    int64_t budget_bytes;     /* memory that may be used */
    const char *kept;         /* folder of embeddings that outlive the rank (kept.h); or NULL */
    struct door *door;        /* is told of what is indexed: WIRE_INDEXED; its page is beaten */
};

/* Loads the encoder; nothing is indexed yet. ERR_USER: it embeds no texts, or reads fewer tokens
   than a chunk has; ERR_DATA: there is no such folder; ERR_MEMORY. */
int retrieve_open(const struct retrieve_conf *c, struct retrieve **out, struct err *e);
void retrieve_close(struct retrieve *r);
/* Of the encoder, of kept embeddings' keys and, once it is full, the library; programs are the
   model's (reader_conf). */
int64_t retrieve_bytes(const struct retrieve *r);
/* The same of one that is not opened, of a pod's memory or of a device's; 0: there are no
   documents. Fails as retrieve_open, where that has to do with the encoder. */
int retrieve_plan(const struct jobspec *spec, bool pods, int64_t *bytes, struct err *e);
/* All documents there are. ERR_USER: they have more chunks than there may be; ERR_DRAINED: the
   agent has asked the rank to stop. */
int retrieve_index(struct retrieve *r, struct err *e);
/* The next step, if there is something to do: up to so many chunks. */
int retrieve_step(struct retrieve *r, int chunks, struct err *e);
/* Chunks that the encoder has read so far: not those whose embeddings were kept. */
int64_t retrieve_embedded(const struct retrieve *r);
/* Milliseconds until there is something to do; 0: there is now. While embeddings are being written
   nothing is but to wait so many more, so that no storage holds up who has tokens to draw. */
#define RETRIEVE_REST_MS 20
int64_t retrieve_wait(const struct retrieve *r);

struct retrieve_query {
    const char *text;
    double words, vectors; /* library_query's weights */
    int most;
};
/* hits (most): library_search's, valid until the next step. ERR_USER: an empty query. */
int retrieve_search(
    struct retrieve *r, const struct retrieve_query *q, struct library_hit *hits, struct err *e);

#endif
