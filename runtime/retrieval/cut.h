/*
 * cut: a document in chunks, each a range of its text: of one section, of a bounded number of
 * tokens, its title among them, ending where a paragraph does if there is such a place in its
 * second half, else a sentence, else between words. A chunk that goes on with a section repeats
 * what the one before ended with, as much as the overlap holds. Pure but for the counting of
 * tokens, which is the caller's; one chunk at a time, so that nobody waits for a whole document.
 */
#ifndef RUNTIME_RETRIEVAL_CUT_H
#define RUNTIME_RETRIEVAL_CUT_H

#include "runtime/retrieval/document.h"

#include <stdint.h>

#define CUT_PIECES 1024 /* sentences or parts of one, of a chunk */

struct cut_conf {
    int64_t most;    /* tokens of a chunk; at least 8 */
    int64_t overlap; /* of these, that the one before has, too; at most a quarter of them */
    /* The tokens of a text, or -code. What is counted piece by piece is at most what all of it
       would be, where words are tokenised by themselves. */
    int64_t (*count_fn)(void *user, const char *text, size_t len, struct err *e);
    void *user;
};

struct cut_chunk {
    size_t from, to; /* of the document's text */
    size_t section;
};

struct cutter { /* zero, but for the document: at its beginning */
    const struct document *document;
    size_t section, at; /* at 0: the section's beginning */
};

/* 1 and *out: the next one; 0: there is none any more; -code: the count's failure. */
int cut_next(struct cutter *c, const struct cut_conf *conf, struct cut_chunk *out, struct err *e);

#endif
