/*
 * top: the greatest of a row of logits. Pure.
 */
#ifndef RUNTIME_SERVE_TOP_H
#define RUNTIME_SERVE_TOP_H

#include <stdint.h>

/* ids (k): where the k greatest of x (n) stand, greatest first, of equals the lower place; 1 <= k
   <= n. Places of a row with a NaN are some of [0, n). */
void top_of(const float *x, int64_t n, int64_t k, int32_t *ids);

#endif
