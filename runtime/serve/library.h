/*
 * library: documents in chunks, found by words and by meaning: of each chunk the words stand in an
 * inverted index (runtime/retrieval/bm25.h), its vector in an exact one (vectors.h); a search joins
 * both rankings (runtime/retrieval/fuse.h). A document is added as a draft, chunk by chunk, and is
 * found from the moment on that it is published, in place of what had its name; what it replaced is
 * swept away bit by bit. What is found does not depend on the order in which documents came. Knows
 * neither files nor models. Thread: one.
 */
#ifndef RUNTIME_SERVE_LIBRARY_H
#define RUNTIME_SERVE_LIBRARY_H

#include "base/err.h"
#include "runtime/retrieval/cut.h"

#include <stdbool.h>
#include <stdint.h>

#define LIBRARY_CHUNK_BYTES 2048 /* of documents' text for each chunk that there may be */
#define LIBRARY_FILE_ID     24   /* bytes of an id as text */
#define LIBRARY_HITS        50   /* of a search, at most */

struct library;
struct library_file; /* a version of a document */

/* dim: of vectors; most: chunks, drafts' among them. */
int library_create(int64_t dim, int32_t most, struct library **out, struct err *e);
void library_destroy(struct library *l);
int64_t library_bytes(int64_t dim, int32_t most); /* of memory, at most */

/* A draft; its text and sections are moved out of d. ERR_USER: the texts exceed the bound. */
int library_begin(struct library *l, const char *name, struct document *d,
    struct library_file **out, struct err *e);
/* What the draft is cut from. */
const struct document *library_text(const struct library_file *f);
/* vector (dim). ERR_USER: there are as many chunks as there may be. */
int library_add(struct library *l, struct library_file *f, const struct cut_chunk *c,
    const float *vector, struct err *e);
void library_publish(struct library *l, struct library_file *f);
void library_drop(struct library *l, struct library_file *f); /* a draft, or a published one */
struct library_file *library_find(const struct library *l, const char *name); /* published */
/* Up to so many chunks of what was dropped or replaced; true: there are more. */
bool library_sweep(struct library *l, int chunks);

struct library_counts {
    int files;             /* published */
    int64_t chunks, bytes; /* of these; of their texts */
};
struct library_counts library_counts(const struct library *l);

struct library_query {
    const char *text;      /* its words */
    const float *vector;   /* (dim) its meaning */
    double words, vectors; /* what the rankings weigh */
    int most;              /* hits, up to LIBRARY_HITS */
};

struct library_hit { /* borrowed until the library changes */
    const char *file;
    uint64_t file_id;
    const char *title; /* (title_len) of its section */
    size_t title_len;
    const char *text; /* (len) */
    size_t len;
    double rank;   /* by the joined rankings: 1 is the first of both */
    double cosine; /* of the two vectors */
};
/* By rank, of equals in an order of their own; how many there are. -ERR_MEMORY. */
int library_search(
    struct library *l, const struct library_query *q, struct library_hit *hits, struct err *e);
/* "file-..." of a document's name. */
void library_file_id(uint64_t id, char out[LIBRARY_FILE_ID]);

#endif
