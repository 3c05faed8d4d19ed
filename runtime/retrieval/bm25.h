/*
 * bm25: which texts have the words of a query, and how much that says: an inverted index in memory
 * and Okapi's BM25 over it (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009),
 * with the idf that is never negative, as Lucene has it: ln(1 + (N - n + 0.5) / (n + 0.5)), k1 1.2,
 * b 0.75. A word is letters and digits, those beyond ASCII taken as they are, and what joins them
 * in names (`dpkg-dev`, `debian/rules`) parts them. Texts come and go; what is found then is what
 * an index made anew would find. Thread: one.
 */
#ifndef RUNTIME_RETRIEVAL_BM25_H
#define RUNTIME_RETRIEVAL_BM25_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define BM25_TERMS 64 /* of a query: different words; further ones are left out */

struct bm25;

/* slots: texts that it can have, each by its number below that. */
int bm25_create(int32_t slots, struct bm25 **out, struct err *e);
void bm25_destroy(struct bm25 *b);
/* The slot has none. After a failure it has none either. */
int bm25_add(struct bm25 *b, int32_t slot, const char *text, size_t len, struct err *e);
/* text: as it was added. */
void bm25_remove(struct bm25 *b, int32_t slot, const char *text, size_t len);
/* scores (slots): of each text; 0: it has none of the words. */
void bm25_score(const struct bm25 *b, const char *query, size_t len, float *scores);

#endif
