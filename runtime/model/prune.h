/*
 * prune: zeros in place of the weights of a matrix that count least, on the host. Of every group
 * of columns of a row so many become zero: of a whole row, any; or two of every four, as sparse
 * units multiply (2:4; Mishra et al., arXiv:2104.08378). What a weight counts is its magnitude, or
 * |w| times the root mean square of what it is multiplied by (Wanda: Sun et al., arXiv:2306.11695).
 * A row is judged by itself. What is zero already counts least, so more sparsity keeps the zeros of
 * less. The same on every machine.
 */
#ifndef RUNTIME_MODEL_PRUNE_H
#define RUNTIME_MODEL_PRUNE_H

#include "api/jobspec.h"
#include "base/err.h"
#include "runtime/family/tensors.h"

/* Is it a matrix of a layer's products? Nothing else is pruned. */
bool prune_takes(const struct tensor *t);
/* ERR_USER, naming `field` and the tensor, where rows cannot be cut into the pattern's groups, and
   for a mixture of experts. */
int prune_check(const struct tensors *t, enum sparsity_pattern p, const char *field, struct err *e);
/* Zeros the least of w (rows, columns) until the share is zero in each group, to the nearest. p is
   UNSTRUCTURED or 2_4. mean (columns): of squares of what a column is multiplied by; NULL:
   magnitude alone. */
void prune_rows(float *w, int64_t rows, int64_t columns, enum sparsity_pattern p, double share,
    const float *mean);
/* How many of n are zero. */
int64_t prune_zeros(const float *w, int64_t n);

#endif
