/*
 * quote: what an answer has word for word from its sources: from left to right, at each word, the
 * longest run of words that a source has, too, where it is long enough to be no accident. Spaces
 * and line ends are alike; all else is compared byte by byte. Pure.
 */
#ifndef RUNTIME_RETRIEVAL_QUOTE_H
#define RUNTIME_RETRIEVAL_QUOTE_H

#include <stddef.h>

#define QUOTE_WORDS   4       /* of a quote, at least, unless it is the whole answer, */
#define QUOTE_LETTERS 4       /* which then has so many bytes */
#define QUOTE_ANSWER  (16384) /* bytes of an answer that are looked at */

struct quote_source {
    const char *text; /* borrowed */
    size_t len;
};

struct quote {
    size_t at, len;  /* in the answer */
    int source;      /* the first of those that have as much */
    size_t from, to; /* in the source */
};

/* out (most): those of the answer, in its order; how many there are. */
int quote_find(const char *answer, size_t len, const struct quote_source *sources, int count,
    struct quote *out, int most);

#endif
