/*
 * vectors: an index of unit vectors in memory, each by an id of the caller's. A search is exact: it
 * looks at all of them, with the threads that OpenMP has, and what it finds depends neither on
 * their number nor on the order in which vectors came. Rows stand in blocks, so an index that grows
 * is never copied; what all of it holds stays below the limit that it was created with. Of one
 * thread.
 */
#ifndef RUNTIME_SERVE_VECTORS_H
#define RUNTIME_SERVE_VECTORS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct vectors;

struct vectors_hit {
    int64_t id;
    float score;
};

/* dim: numbers of a vector, 1 to 2^20. ERR_USER: limit_bytes hold not a single one. */
int vectors_create(int64_t dim, int64_t limit_bytes, struct vectors **out, struct err *e);
void vectors_destroy(struct vectors *v);
int64_t vectors_count(const struct vectors *v);
int64_t vectors_most(const struct vectors *v);  /* as many as the limit holds */
int64_t vectors_bytes(const struct vectors *v); /* in memory now */

/* row (dim) F32, of any length but 0, is kept as the unit vector of its direction; what id had
   before is replaced. ERR_DATA: it has no direction, or a number that is not finite; ERR_USER: the
   limit is reached. */
int vectors_put(struct vectors *v, int64_t id, const float *row, struct err *e);
bool vectors_remove(struct vectors *v, int64_t id);            /* was it there? */
const float *vectors_get(const struct vectors *v, int64_t id); /* (dim) until the next change; or
                                                                  NULL */
/* Of a and b (n), of any length; 0 where one has no direction. */
double vectors_cosine(const float *a, const float *b, int64_t n);

/* What a vector is found by, made of its dot product with the query; -INFINITY: it is left out.
   Asked of each vector once, in no order, by the thread that searches. */
typedef float vectors_score_fn(void *user, int64_t id, float dot);

/* hits (k): the vectors of the greatest scores, greatest first, of equals the lower id; returns how
   many there are, k at most. query (dim) F32, finite, of any length; k >= 1. score_fn NULL: the dot
   product. */
int64_t vectors_search(struct vectors *v, const float *query, int64_t k, vectors_score_fn *score_fn,
    void *user, struct vectors_hit *hits);

#endif
